"""What the workflow is told and says."""

from __future__ import annotations

from autopilot.operations.asked import Asked
from autopilot.operations.common import Caller, Event, Outcome, Phase
from autopilot.wire import Wire
from mesh_detour.document import DetourSpec, MeshDetour


class DetourInput(Wire):
    """Starts a detour."""

    mesh: str
    namespace: str
    name: str
    spec: DetourSpec
    caller: Caller = Caller()
    queue: bool = False
    schedule: str = ""
    """Id of the schedule that started it; empty where a person or a program did."""

    @property
    def workflow_id(self) -> str:
        """One live detour a resource."""
        return f"detour/{self.mesh}/{self.namespace}/{self.name}"

    @property
    def summary(self) -> str:
        """What Temporal's UI shows beside the id."""
        return f"{self.namespace}/{self.spec.target.service}: all to {self.spec.arm}"


class DetourStatus(Wire):
    """A detour as it stands."""

    workflow_id: str
    phase: Phase
    started: float
    standing: str = ""
    timeline: tuple[Event, ...] = ()


class DetourReport(Wire):
    """The result."""

    workflow_id: str
    outcome: Outcome
    reason: str
    started: float
    ended: float
    timeline: tuple[Event, ...] = ()
    audit: tuple[str, ...] = ()


def request(document: MeshDetour, asked: Asked) -> DetourInput:
    """What starts a detour."""
    meta = document.metadata
    return DetourInput(
        mesh=asked.mesh,
        namespace=meta.namespace,
        name=meta.name,
        spec=document.spec,
        caller=asked.caller,
        queue=asked.queue,
    )
