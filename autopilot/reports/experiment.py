"""What a chaos experiment is told, and what it leaves behind: its input and its report.

`autopilot.operations` has what all operations share, and what an experiment says of itself while it runs.
"""

from __future__ import annotations

from typing import Literal

from autopilot.mesh.model import Receipt
from autopilot.operations.asked import Asked
from autopilot.operations.common import Caller, Event, Exposure, Outcome
from autopilot.operations.experiment_status import Acted, Effect, ProbeRecord, Verdict
from autopilot.spec.chaos.experiment import ExperimentSpec, MeshExperiment
from autopilot.wire import Wire

CHAOS_TTL = 30.0
"""Seconds without renewal after which guards restore an experiment."""
CHAOS_HEARTBEAT = 5.0
"""Seconds without a heartbeat after which a watch is started elsewhere: less than its lease's time to live."""
CHAOS_GRACE = 30.0
"""Seconds without an answer of Temporal after which the lease is no longer renewed."""


class ExperimentInput(Wire):
    """Starts an experiment."""

    mesh: str
    namespace: str
    name: str
    spec: ExperimentSpec
    caller: Caller = Caller()
    ttl: float = CHAOS_TTL
    heartbeat_timeout: float = CHAOS_HEARTBEAT
    temporal_grace: float = CHAOS_GRACE
    queue: bool = False
    """Whether to wait in turn where another operation holds the target."""
    schedule: str = ""
    """Id of the schedule that started it; empty where a person or a program did."""

    @property
    def workflow_id(self) -> str:
        """One live experiment a resource."""
        return experiment_id(self.mesh, self.namespace, self.name)

    @property
    def summary(self) -> str:
        """What Temporal's UI shows beside the id."""
        target = f"{self.namespace}/{self.spec.target.service}"
        said = self.spec.title or self.spec.hypothesis.title
        return f"{target}: {said}" if said else target


def request(document: MeshExperiment, asked: Asked) -> ExperimentInput:
    """What starts an experiment. Its heartbeats are as frequent as its lease needs, whatever the machine's settings."""
    return ExperimentInput(
        mesh=asked.mesh,
        namespace=document.metadata.namespace,
        name=document.metadata.name,
        spec=document.spec,
        caller=asked.caller,
        queue=asked.queue,
    )


def experiment_id(mesh: str, namespace: str, name: str) -> str:
    """The workflow id of an experiment."""
    return f"chaos/{mesh}/{namespace}/{name}"


class Amplification(Wire):
    """What one hop made of the requests it was given: tries a request, before and during."""

    caller: str
    service: str
    before: float | None = None
    during: float | None = None


class StepFinding(Wire):
    """One step of the method as it went."""

    number: int
    name: str = ""
    started: float
    ended: float | None = None
    hold: float
    reason: str = ""
    receipt: Receipt | None = None
    effects: tuple[Effect, ...] = ()
    amplification: tuple[Amplification, ...] = ()
    actions: tuple[Acted, ...] = ()


class ExperimentReport(Wire):
    """The result of an experiment."""

    kind: Literal["MeshExperiment"] = "MeshExperiment"
    outcome: Outcome
    verdict: Verdict
    reason: str
    workflow_id: str
    mesh: str
    namespace: str
    service: str
    name: str
    schedule: str = ""
    spec: ExperimentSpec
    started: float
    ended: float
    steps: tuple[StepFinding, ...] = ()
    probes: tuple[ProbeRecord, ...] = ()
    exposure: Exposure = Exposure()
    """Requests that met a fault, and failures of `safety.service` beyond what it had before."""
    burn: float | None = None
    """The highest burn rate of the error budget, as a multiple."""
    timeline: tuple[Event, ...] = ()
    audit: tuple[str, ...] = ()
    restore_seconds: float | None = None
    restored: bool = False
    """Whether the proxies themselves reported that the base configuration is restored."""
    left: tuple[str, ...] = ()
    """What somebody else had changed meanwhile and was left, and actions that could not be undone."""
