"""What every operation is told, says of itself while it runs, and leaves behind: the wire models of all of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from autopilot.evidence.model import Evidence, StepRule, Verdict
from autopilot.mesh.model import Receipt
from autopilot.spec.canary import Analysis, CanarySpec


class Wire(BaseModel):
    """A frozen value that travels through Temporal; fields of newer versions are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


CANARY_TTL = 120.0
"""Seconds without renewal after which guards restore a rollout."""


class Outcome(StrEnum):
    """How an operation can end. Whatever is not `Promoted` has been restored."""

    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    PASSED = "Passed"
    """The hypothesis of an experiment held."""
    REFUTED = "Refuted"
    """It did not hold."""
    VOID = "Void"
    """An experiment tried nothing: its fault was not seen to take effect, or it could not begin."""
    INCONCLUSIVE = "Inconclusive"
    ABORTED = "Aborted"
    TAKEN_OVER = "TakenOver"
    """A person, the stop button or an operation of a higher priority took the target."""
    FAILED = "Failed"


class Phase(StrEnum):
    """What an operation is doing."""

    STARTING = "Starting"
    QUEUED = "Queued"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    WAITING = "WaitingForApproval"
    UNDECIDED = "Undecided"
    HALTED = "Halted"
    COMMITTING = "Committing"
    RESTORING = "Restoring"
    CHECKING = "Checking"
    """The hypothesis of an experiment, before its method or after the restore."""
    ENDED = "Ended"


class Caller(Wire):
    """Who asks for something; `verified` only where a token proved it."""

    who: str = "unknown"
    verified: bool = False


class CanaryInput(Wire):
    """Starts a rollout."""

    mesh: str
    namespace: str
    name: str
    spec: CanarySpec
    caller: Caller = Caller()
    ttl: float = CANARY_TTL
    """Seconds without renewal after which guards restore."""
    heartbeat_timeout: float = 30.0
    """Seconds after which a silent watch is started elsewhere."""
    temporal_grace: float = 120.0
    """Seconds without an answer of Temporal after which the lease is no longer renewed."""
    queue: bool = False
    """Whether to wait in turn where somebody holds the target."""

    @property
    def workflow_id(self) -> str:
        """One live rollout a resource."""
        return canary_id(self.mesh, self.namespace, self.name)


def canary_id(mesh: str, namespace: str, name: str) -> str:
    """The workflow id of a rollout."""
    return f"canary/{mesh}/{namespace}/{name}"


class Command(Wire):
    """A person's or program's word to a running operation (pause, resume, abort)."""

    caller: Caller = Caller()
    reason: str = ""


class Approval(Command):
    """Lets an operation pass the gate it waits at; `gate` is the step's number from 1, or 0 for the one it waits at."""

    gate: int = 0


class Promotion(Command):
    """Goes past this pause; `full` skips every step that is left, and must say why."""

    full: bool = False


class Exposure(Wire):
    """What users met through the canary arm."""

    requests: float = 0.0
    failures: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Exposure) -> Exposure:
        return Exposure(
            requests=self.requests + other.requests,
            failures=self.failures + other.failures,
            seconds=self.seconds + other.seconds,
        )


class WatchRecord(Wire):
    """One watch, so that its verdict can be recomputed offline."""

    rule: StepRule
    fresh: bool
    """Whether good evidence and the step's clock started afresh with it."""
    verdict: Verdict
    ticks: str = ""
    """Packed by `autopilot.evidence.record`; empty where there were none, or too many to keep."""
    dropped: bool = False
    """The ticks were too many to keep: from here on nothing can be recomputed."""


class StepReport(Wire):
    """One step as it went."""

    number: int
    weight: float
    started: float
    """Seconds since the epoch."""
    ended: float | None = None
    verdict: str = ""
    """`advance`, `harm`, `inconclusive`, or empty where it never came to one."""
    reason: str = ""
    exposure: Exposure = Exposure()
    receipt: Receipt | None = None
    watches: tuple[WatchRecord, ...] = ()


class Event(Wire):
    """One line of an operation's timeline."""

    time: float
    text: str
    who: str = ""


class CanaryReport(Wire):
    """The result of a rollout."""

    outcome: Outcome
    reason: str
    workflow_id: str
    mesh: str
    namespace: str
    service: str
    stable: str
    canary: str
    started: float
    ended: float
    analysis: Analysis = Analysis()
    """How it was judged."""
    learned: str = ""
    """The judge's memory before the first watch, as JSON: how stable's failures clustered; empty where unknown."""
    steps: tuple[StepReport, ...] = ()
    exposure: Exposure = Exposure()
    evidence: tuple[Evidence, ...] = ()
    timeline: tuple[Event, ...] = ()
    audit: tuple[str, ...] = ()
    """Digests of the audit records of every change it made, in their order."""
    restore_seconds: float | None = None
    """From the verdict to the proxies' word that the base is back, where the rollout was restored."""


class CanaryStatus(Wire):
    """A rollout as it stands: the answer to the query `status`."""

    kind: Literal["MeshCanary"] = "MeshCanary"
    workflow_id: str
    phase: Phase
    outcome: Outcome | None = None
    reason: str = ""
    mesh: str
    namespace: str
    service: str
    stable: str
    canary: str
    step: int = 0
    """Number of the step under way from 1; 0 before the first."""
    steps: tuple[float, ...] = ()
    """The weights that are walked, in percent."""
    weight: float = 0.0
    """The canary's weight as set, in percent."""
    started: float = 0.0
    paused_by: str = ""
    waiting_for: str = ""
    """What a person is asked for, and the command that answers."""
    exposure: Exposure = Exposure()
    """Of finished steps; `Progress` has the step under way."""
    evidence: tuple[Evidence, ...] = ()
    timeline: tuple[Event, ...] = ()


class Progress(Wire):
    """The step under way, as its watch last heartbeat it."""

    time: float
    weight: float
    measured: float | None = None
    """The canary's measured share of requests in percent, over the last ticks."""
    requests: float = 0.0
    stable_requests: float = 0.0
    failures: float = 0.0
    seconds: float = 0.0
    evidence: tuple[Evidence, ...] = ()
    silent: float = 0.0
    """Seconds since telemetry last advanced."""
    exposure: Exposure = Field(default_factory=Exposure)
