"""What a rollout is told, and what it leaves behind: its input and its report.

`autopilot.operations` has what all operations share, and what a rollout says of itself while it runs.
"""

from __future__ import annotations

from autopilot.evidence.model import Evidence, StepRule, Verdict
from autopilot.mesh.model import Receipt
from autopilot.operations.asked import Asked
from autopilot.operations.common import Caller, Event, Exposure, Outcome
from autopilot.spec.canary import Analysis, CanarySpec, MeshCanary
from autopilot.wire import Wire

CANARY_TTL = 120.0
"""Seconds without renewal after which guards restore a rollout."""


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

    @property
    def summary(self) -> str:
        """What Temporal's UI shows beside the id."""
        arms = self.spec.arms
        return f"{self.namespace}/{self.spec.target.service}: {arms.stable} → {arms.canary}"


def request(document: MeshCanary, asked: Asked) -> CanaryInput:
    """What starts a rollout."""
    return CanaryInput(
        mesh=asked.mesh,
        namespace=document.metadata.namespace,
        name=document.metadata.name,
        spec=document.spec,
        caller=asked.caller,
        queue=asked.queue,
        heartbeat_timeout=asked.heartbeat_timeout,
    )


def canary_id(mesh: str, namespace: str, name: str) -> str:
    """The workflow id of a rollout."""
    return f"canary/{mesh}/{namespace}/{name}"


class WatchRecord(Wire):
    """One watch, so that its verdict can be recomputed offline."""

    rule: StepRule
    fresh: bool
    """Whether good evidence and the step's clock started afresh with it."""
    verdict: Verdict
    ticks: str = ""
    """Packed by `autopilot.evidence.tick_codec`; empty where there were none, or too many to keep."""
    dropped: bool = False
    """The ticks were too many to keep: from here on nothing can be recomputed."""
    judge: int = 1
    """Version of the judge, by whose rules it is judged again."""


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
