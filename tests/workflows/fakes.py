"""An in-memory mesh and a scripted telemetry behind the real signatures: what a workflow test looks at afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.contracts.operation import (
    AcquireRequest,
    ApplyRequest,
    CountRequest,
    Ended,
    EndRequest,
    HeldRequest,
    Learned,
    LearnRequest,
    MeshSignatures,
    ReportSignatures,
    TelemetrySignatures,
    Totals,
    WatchBeat,
    WatchRequest,
    WatchResult,
)
from autopilot.evidence.model import Advance, Harm, Inconclusive, Verdict
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.model import Holder, Lease, Receipt, SplitTraffic
from autopilot.operations.canary_status import Progress
from autopilot.operations.common import Exposure
from autopilot.reports.canary import CanaryReport

ADVANCE = Advance(reason="enough good evidence")
HARM = Harm(metric="errors", reason="errors: 20 % against 0 %")
NO_DATA = Inconclusive(cause="noData", reason="telemetry has been silent")
NO_TIME = Inconclusive(cause="time", reason="too few requests")
LEASE_LOST = Inconclusive(cause="leaseLost", reason="somebody else holds it")
CONDEMNED = Inconclusive(cause="condemned", reason="20 % errors, found before the worker died")
TAKEN_OVER = Inconclusive(cause="takenOver", reason="security/quarantine takes it over")
HALTED = Inconclusive(cause="halted", reason="halted by ann: paged")
LET_GO = Inconclusive(cause="stopped", reason="the halt was released")


@dataclass(frozen=True)
class Hold:
    """A watch that says nothing until it is stopped, or until `until` is set, and then says `then`."""

    until: asyncio.Event | None = None
    then: Verdict | None = None


@dataclass
class World(MeshSignatures, TelemetrySignatures, ReportSignatures):
    """One service with v1 at 100 %, and what happened to it."""

    script: list[Verdict | Hold] = field(default_factory=list)
    """What the watches find, one after the other; ADVANCE when it is used up."""
    base: dict[str, float] = field(default_factory=lambda: {"v1": 100.0})
    overlay: dict[str, float] | None = None
    lease: Lease | None = None
    held_by: str | None = None
    fencing: int = 0
    walked: list[float] = field(default_factory=list)
    numbers: list[int] = field(default_factory=lambda: [0])
    """Of the writes, in the order they came."""
    watched: list[WatchRequest] = field(default_factory=list)
    lifted_by: list[str] = field(default_factory=list)
    lifted: asyncio.Event = field(default_factory=asyncio.Event)
    apply_takes: float = 0.0
    """Seconds from a write to its answer."""
    lift_takes: float = 0.0
    """Seconds from the lift to its answer."""
    resumed_from: list[WatchBeat | None] = field(default_factory=list)
    """For every watch, the heartbeat of its try before."""
    reports: list[CanaryReport] = field(default_factory=list)
    watching: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a watch holds."""
    fail_count: list[ApplicationError] = field(default_factory=list)
    lacking: tuple[str, ...] = ()
    fail_apply: list[ApplicationError] = field(default_factory=list)
    fail_acquire: list[ApplicationError] = field(default_factory=list)
    fail_commit: list[ApplicationError] = field(default_factory=list)
    fail_lift: list[ApplicationError] = field(default_factory=list)
    asked: list[AcquireRequest] = field(default_factory=list)
    """Every time the lease was given."""
    actors: list[Actor] = field(default_factory=list)
    """Who made each write, in their order."""
    fail_learn: list[ApplicationError] = field(default_factory=list)
    learned: Learned = field(default_factory=lambda: Learned(note="nothing to learn from"))

    def reset(self) -> None:
        """As new; for tests that try many worlds on one server."""
        vars(self).update(vars(type(self)()))

    @property
    def weights(self) -> dict[str, float]:
        """What traffic gets now."""
        return self.base if self.overlay is None else self.overlay

    @property
    def at_rest(self) -> bool:
        """Nothing of ours is left over the base."""
        return self.overlay is None and self.lease is None

    def holds(self, lease: Lease) -> bool:
        """Whether this lease, presented for whatever write, is the one that is held."""
        return self.lease is not None and self.lease.holder == lease.holder

    @activity.defn(name="mesh.acquire")
    async def acquire(self, request: AcquireRequest) -> Lease:
        if self.fail_acquire:
            raise self.fail_acquire.pop(0)
        if self.held_by:
            raise ApplicationError(f"held by {self.held_by}", type="LeaseHeld", non_retryable=True)
        self.fencing += 1
        self.overlay = None  # what an earlier lease of the same operation laid is lifted
        self.asked.append(request)
        self.actors.append(request.by)
        self.lease = Lease(
            target=request.target,
            aspects=request.aspects,
            holder=Holder(operation=request.operation, fencing=self.fencing),
            ttl=request.ttl,
            max_unattended=request.ttl,
            planned_end=request.planned_end,
        )
        return self.lease

    @activity.defn(name="mesh.apply")
    async def apply(self, request: ApplyRequest) -> Receipt:
        if self.fail_apply:
            raise self.fail_apply.pop(0)
        if not self.holds(request.lease):
            raise ApplicationError("not held", type="LeaseLost", non_retryable=True)
        assert request.lease.write >= self.numbers[-1], "a later write has a larger number"
        self.numbers.append(request.lease.write)
        (change,) = request.changes
        assert isinstance(change, SplitTraffic)
        self.overlay = change.weights
        self.actors.append(request.by)
        self.walked.append(change.weights["v2"])
        await asyncio.sleep(self.apply_takes)
        return Receipt(target=request.lease.target, holder=request.lease.holder, digest="d", written=1.0)

    @activity.defn(name="mesh.commit")
    async def commit(self, request: EndRequest) -> Ended:
        if self.fail_commit:
            raise self.fail_commit.pop(0)
        if not self.holds(request.lease) or self.overlay is None:
            raise ApplicationError("not held", type="LeaseLost", non_retryable=True)
        assert request.lease.write == self.numbers[-1], "a commit names the write it means"
        self.base, self.overlay, self.lease = self.overlay, None, None
        return Ended(receipt=None, seconds=0)

    @activity.defn(name="mesh.lift")
    async def lift(self, request: EndRequest) -> Ended:
        if self.fail_lift:
            raise self.fail_lift.pop(0)
        if self.holds(request.lease):
            self.overlay = self.lease = None
            self.lifted.set()
            await asyncio.sleep(self.lift_takes)
            self.lifted_by.append(request.net)
            self.actors.append(request.by)
        return Ended(receipt=None, seconds=0.01)

    @activity.defn(name="mesh.held")
    async def held(self, request: HeldRequest) -> bool:
        return self.holds(request.lease)

    @activity.defn(name="telemetry.count")
    async def count(self, request: CountRequest) -> Totals:
        if self.fail_count:
            raise self.fail_count.pop(0)
        series = {"one": (10.0 * len(self.watched), 1.0 * len(self.watched))}
        return Totals(time=0, series=series, notes=self.lacking if request.queries else ())

    @activity.defn(name="telemetry.learn")
    async def learn(self, request: LearnRequest) -> Learned:
        if self.fail_learn:
            raise self.fail_learn.pop(0)
        return self.learned

    @activity.defn(name="telemetry.watch")
    async def watch(self, request: WatchRequest) -> WatchResult:
        self.watched.append(request)
        beats = activity.info().heartbeat_details
        self.resumed_from.append(WatchBeat.model_validate(beats[0]) if beats else None)
        found = self.script.pop(0) if self.script else ADVANCE
        progress = Progress(time=0, weight=request.weight, exposure=Exposure(requests=5, failures=1, seconds=1))
        if isinstance(found, Hold):
            found = await self._hold(found, progress)
        return WatchResult(verdict=found, state=f"memory {len(self.watched)}", progress=progress)

    @activity.defn(name="report.archive")
    async def archive(self, report: CanaryReport) -> str:
        self.reports.append(report)
        return "kept"

    async def _hold(self, hold: Hold, progress: Progress) -> Verdict:
        self.watching.set()
        try:
            while hold.until is None or not hold.until.is_set():
                activity.heartbeat(WatchBeat(state="held", progress=progress))
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            if details is None or not details.cancel_requested:
                raise
            return Inconclusive(cause="stopped", reason="asked to stop")
        finally:
            self.watching.clear()
        return hold.then or ADVANCE
