"""The activities that workflows call: wire models and typed signatures, without any client.

Workflows import this module alone; the implementations (`activities.mesh`, `activities.canary.activities`, …) subclass
it, so mypy holds both sides to the same contract and no heavy import reaches the workflow sandbox.
"""

from __future__ import annotations

from typing import Any, Literal, NoReturn

from temporalio import activity

from autopilot.evidence.model import Inconclusive, StepRule, Verdict
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.model import Aspect, Change, Lease, Receipt, Target
from autopilot.operations.canary_status import Progress
from autopilot.operations.common import Exposure, Outcome
from autopilot.reports.canary import CanaryReport
from autopilot.spec.canary import Analysis, CanaryArms
from autopilot.wire import Wire

HaltRule = Literal["end", "over", "ignore"]
"""A halt ends the watch; the release of a halt ends the watch; or the watch ignores halts."""


RESTORE_HEARTBEAT = 2.0
"""Seconds without a heartbeat after which a restore is started on another worker."""


class AcquireRequest(Wire):
    """Takes a lease."""

    target: Target
    aspects: tuple[Aspect, ...]
    operation: str
    token: str
    ttl: float
    planned_end: float | None
    lasting: float | None = None
    """Seconds from now to the planned end, for an operation that waited in turn."""
    queue: bool = False
    by: Actor = Actor()


class ApplyRequest(Wire):
    """Lays changes over the base, and waits until the proxies have them."""

    lease: Lease
    changes: tuple[Change, ...]
    canary: str = ""
    """The arm under test: with one, the weights are exported as metrics, under the resource's name."""
    name: str = ""
    by: Actor = Actor()


class EndRequest(Wire):
    """Commits or lifts what a lease has laid; `net` says which safety net asks."""

    lease: Lease
    net: str = "workflow"
    by: Actor = Actor()


class HeldRequest(Wire):
    """Asks whether a lease is still held."""

    lease: Lease


class Ended(Wire):
    """Result of a commit or a lift."""

    receipt: Receipt | None
    """None where it had been done before."""
    seconds: float
    """Seconds until the proxies themselves reported it."""


class CountRequest(Wire):
    """Reads an arm's totals as users met them."""

    target: Target
    arms: CanaryArms
    analysis: Analysis
    queries: bool = False
    """Whether to try the custom queries and to look for histograms too, so that a mistake is found before anything is
    written."""
    fresh: bool = False
    """Whether to wait for samples that are younger than the request: nothing from before is to be counted after it."""


class Totals(Wire):
    """Totals of the canary arm since its counters began, per series, so that a restarted proxy is no negative count."""

    time: float
    series: dict[str, tuple[float, float]]
    """Series → (requests, failures)."""
    notes: tuple[str, ...] = ()
    """What the rollout's metrics lack, where that was asked for: one sentence each."""

    def since(self, before: Totals) -> Exposure:
        """Requests and failures in the user view between the two readings."""
        requests = failures = 0.0
        for name, (total, failed) in self.series.items():
            old_total, old_failed = before.series.get(name, (0.0, 0.0))
            restarted = total < old_total
            requests += total - (0.0 if restarted else old_total)
            failures += failed - (0.0 if restarted else old_failed)
        return Exposure(requests=requests, failures=max(0.0, failures), seconds=self.time - before.time)


class LearnRequest(Wire):
    """Learns how stable's failures cluster from what was counted before the rollout."""

    target: Target
    arms: CanaryArms
    analysis: Analysis
    weight: float = 0.0
    """The canary's in the first step, in percent: says what a slow scrape costs there."""


class Learned(Wire):
    """What is known before the first watch."""

    state: str = ""
    """The judge's memory as JSON, opaque to workflows; empty where nothing was learned."""
    boundaries: tuple[float, ...] = ()
    """Latency boundaries in seconds that stable's own latency asks for; none where that is not known."""
    note: str
    """One sentence: from how much, and what; or why nothing."""


class WatchRequest(Wire):
    """Watches one step until there is a verdict."""

    lease: Lease
    target: Target
    name: str
    arms: CanaryArms
    analysis: Analysis
    rule: StepRule
    weight: float
    step: int
    since: float = 0.0
    """When the weights were set, seconds since the epoch: what was counted before shows nothing of the split."""
    baseline: str = ""
    """The arm that doubles stable for a fair comparison; empty where there is none."""
    state: str = ""
    """The judge's memory as JSON, opaque to workflows; empty at the start of the rollout."""
    fresh_step: bool = True
    """Whether good evidence and the step's clock start afresh."""
    some_rules: bool = False
    """Whether only some of the rules that lead to stable are split: then the weights do not say what the arms get."""
    patient: bool = False
    """Whether missing telemetry is tolerated (a person is being asked already)."""
    halt: HaltRule = "end"
    """How this watch handles a halt."""
    temporal_grace: float = 120.0
    """Seconds without an answer of Temporal after which the lease is no longer renewed."""
    record: bool = True
    """Whether the ticks are recorded for the report; a wait for a person may last for weeks."""


class WatchBeat(Wire):
    """Heartbeat of a watch: what another worker needs to continue it, and what clients show meanwhile."""

    state: str
    progress: Progress
    silent_since: float | None = None
    split: str = ""
    """What the check of the measured split remembers, as JSON."""
    bypass: str = ""
    """The same of the check for requests that passed no proxy."""
    ticks: str = ""
    """What was judged so far, packed (`autopilot.evidence.tick_codec`)."""
    judge: int = 1
    """Version of the judge."""


class WatchResult(Wire):
    """Result of a watch."""

    verdict: Verdict
    state: str
    progress: Progress
    ticks: str = ""
    """What was judged, packed (`autopilot.evidence.tick_codec`)."""
    full: bool = False
    """Whether it ended because its record is full: the next watch goes on from there."""
    judge: int = 1
    """Version of the judge."""


class HoldLeaseRequest(Wire):
    """Holds what is laid for some time, its lease renewed."""

    lease: Lease
    seconds: float
    halt: HaltRule = "end"
    """How this hold handles a halt."""
    temporal_grace: float = 120.0
    """Seconds without an answer of Temporal after which the lease is no longer renewed."""


class HoldLeaseBeat(Wire):
    """Heartbeat of a hold."""

    held: float
    """Seconds since it was scheduled."""


class HeldLease(Wire):
    """Result of a hold."""

    held: float
    ended: Inconclusive | None = None
    """Why it ended before its time: the lease was lost or taken, or a halt came."""


class LastHeartbeatRequest(Wire):
    """Asks for the last heartbeat of an activity that has not ended."""

    workflow_id: str
    run_id: str
    activity_type: str


class MeshSignatures:
    """Effects on a mesh."""

    @activity.defn(name="mesh.acquire")
    async def acquire(self, request: AcquireRequest) -> Lease:
        """Takes the lease, or returns the one this run already holds."""
        signature_only()

    @activity.defn(name="mesh.apply")
    async def apply(self, request: ApplyRequest) -> Receipt:
        """Plans, writes, and verifies at the proxies."""
        signature_only()

    @activity.defn(name="mesh.commit")
    async def commit(self, request: EndRequest) -> Ended:
        """Makes the overlay the base."""
        signature_only()

    @activity.defn(name="mesh.lift")
    async def lift(self, request: EndRequest) -> Ended:
        """Restores the base; does nothing where that was done before."""
        signature_only()

    @activity.defn(name="mesh.held")
    async def held(self, request: HeldRequest) -> bool:
        """Whether the lease is still held."""
        signature_only()


class TelemetrySignatures:
    """Reading what the mesh does."""

    @activity.defn(name="telemetry.count")
    async def count(self, request: CountRequest) -> Totals:
        """Reads totals once."""
        signature_only()

    @activity.defn(name="telemetry.learn")
    async def learn(self, request: LearnRequest) -> Learned:
        """Learns from what was counted before the rollout; where nothing can be learned it says why."""
        signature_only()

    @activity.defn(name="telemetry.watch")
    async def watch(self, request: WatchRequest) -> WatchResult:
        """Judges ticks until there is a verdict; heartbeats its state, renews the lease, condemns it on harm."""
        signature_only()


class HoldSignatures:
    """Waiting under a lease, for kinds of operations that watch nothing themselves."""

    @activity.defn(name="operation.hold")
    async def hold(self, request: HoldLeaseRequest) -> HeldLease:
        """Renews the lease until the time is over, or until the operation cannot go on."""
        signature_only()


class HeartbeatSignatures:
    """What Temporal knows of activities that have not ended."""

    @activity.defn(name="operation.last_heartbeat")
    async def last(self, request: LastHeartbeatRequest) -> Any:
        """The last heartbeat's details; None where there was none."""
        signature_only()


class ArchiveRequest(Wire):
    """Archives the report of an operation of any kind."""

    kind: str
    """As documents say it."""
    workflow_id: str
    outcome: Outcome
    report: dict[str, Any]
    """As JSON."""


class OperationReportSignatures:
    """Archives reports of kinds without an archive of their own."""

    @activity.defn(name="operation.archive")
    async def archive(self, request: ArchiveRequest) -> str:
        """Writes the report to the archive and counts the outcome; returns where."""
        signature_only()


class ReportSignatures:
    """Archives rollouts' reports beyond Temporal's retention."""

    @activity.defn(name="report.archive")
    async def archive(self, report: CanaryReport) -> str:
        """Writes the report to the archive and counts the outcome; returns where."""
        signature_only()


def signature_only() -> NoReturn:
    """The body of every signature.

    Raises:
        TypeError: always.
    """
    raise TypeError("this is only a signature; register the activity class that implements it")
