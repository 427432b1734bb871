"""`prepare`, `capabilities` and `leases`: a mesh set up, what it can do, who holds what in it; none needs Temporal."""

from __future__ import annotations

import time

from rich.text import Text

from autopilot.mesh.model import LeaseStatus
from autopilot.spec.units import format_seconds
from starter.options import MeshOption, Output, OutputOption
from starter.output import emit, note, show, table


async def prepare(mesh: MeshOption = None, output: OutputOption = Output.TABLE) -> int:
    """Write the configuration of every proxy that a mesh file describes, and say how to start each.

    Safe to repeat while proxies run and rollouts are under way: they follow the files they were started with.
    """
    from autopilot.mesh.envoy.prepare import prepare as write  # noqa: PLC0415
    from starter import meshes  # noqa: PLC0415

    written = write(meshes.mesh_file(mesh))
    if output.machine:
        emit({"proxies": {name: str(path) for name, path in written.items()}}, output)
        return 0
    show(table(("proxy", "start it with"), [(name, f"envoy -c {path}") for name, path in written.items()]))
    note("several Envoys on one host need --use-dynamic-base-id; then `autopilot worker` and `autopilot guard`")
    return 0


async def capabilities(mesh: MeshOption = None, output: OutputOption = Output.TABLE) -> int:
    """Show which changes this mesh can take, and who undoes them when everything of ours is gone.

    Tier A: the proxies themselves, when the deadline passes. B: any live guard. C: a controller that returns.
    """
    from starter import meshes  # noqa: PLC0415

    async with meshes.open_mesh(mesh) as opened:
        name, found = opened.name, await opened.capabilities()
    if output.machine:
        emit({"mesh": name, "capabilities": found}, output)
        return 0
    rows = [(each.change, "yes" if each.supported else "no", each.tier or "-", each.note) for each in found]
    show(table(("change", "supported", "tier", "note"), rows))
    return 0


async def leases(mesh: MeshOption = None, output: OutputOption = Output.TABLE) -> int:
    """Show every lease held on this mesh, and when its overlay falls if nobody renews it."""
    from starter import meshes  # noqa: PLC0415

    async with meshes.open_mesh(mesh) as opened:
        name, found = opened.name, await opened.leases()
    if output.machine:
        emit({"mesh": name, "leases": found}, output)
        return 0
    if not found:
        note(f"nothing is held on {name}: the mesh is as its owner wrote it")
        return 0
    columns = ["target", "holder", "aspects", "phase", "tier", "falls in", "state"]
    wide = output is Output.WIDE
    columns += ["changes", "time to live", "renewed"] if wide else []
    show(table(columns, [_row(each, wide=wide) for each in found]))
    return 0


def _row(value: LeaseStatus, *, wide: bool) -> list[str | Text]:
    now = time.time()
    left = "-" if value.deadline is None else format_seconds(max(0, round(value.deadline - now)))
    state = Text(f"condemned: {value.condemned}", "red") if value.condemned else Text("held", "green")
    holder, aspects = str(value.lease.holder), ", ".join(value.lease.aspects)
    cells: list[str | Text] = [value.lease.target.ref, holder, aspects, value.phase, value.tier, left, state]
    if wide:
        changes = "; ".join(f"{change.kind} {change.weights}" for change in value.changes)
        ttl, renewed = format_seconds(value.lease.ttl), format_seconds(max(0, round(now - value.renewed)))
        cells += [changes or "-", ttl, f"{renewed} ago"]
    return cells
