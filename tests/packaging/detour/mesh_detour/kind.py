"""The entry of the kind."""

from autopilot.kinds import Kind

DETOUR = Kind(
    name="detour",
    document="MeshDetour",
    model="mesh_detour.document:MeshDetour",
    request="mesh_detour.wire:request",
    workflow="mesh_detour.workflow:DetourWorkflow",
    status="mesh_detour.wire:DetourStatus",
    report="mesh_detour.wire:DetourReport",
    resource="mesh_detour.document:RESOURCE",
)
