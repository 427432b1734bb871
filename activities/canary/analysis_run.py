"""One watch of one step: turns ticks into a verdict, and shows its progress; the lease is renewed beside it.

Apart from Temporal: what it heartbeats and how it is cancelled belongs to the activity around it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from prometheus_client import Gauge

from activities.canary.endpoint_check import EndpointCheck
from activities.canary.promql_checks import Thresholds
from activities.contracts.operation import WatchBeat, WatchRequest, WatchResult
from activities.judge_stalls import Stalls
from activities.lease_renewal import LeaseRenewer
from activities.temporal_health import TemporalHealth
from autopilot.evidence import bypass_check, canary, sample_ratio
from autopilot.evidence.configuration import boundaries_of, judge_from
from autopilot.evidence.explanations import shortened
from autopilot.evidence.model import Advance, Harm, Inconclusive, Verdict
from autopilot.evidence.state import JudgeState
from autopilot.evidence.tick_codec import Recorder, rounded
from autopilot.mesh.model import Target
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.observability.metrics import CANARY_WEIGHT, TELEMETRY_AGE
from autopilot.operations.canary_status import ENDPOINTS, Progress
from autopilot.operations.common import Exposure
from autopilot.spec.canary import CanaryArms, PromQL
from autopilot.telemetry.hub import Feed
from autopilot.telemetry.model import Subject
from autopilot.telemetry.ticks import Gap, HubTick
from autopilot.telemetry.unproxied_requests import Arrived

_RECENT = 10
"""Ticks over which the measured share is shown."""
_SETTLE = 1.0
"""Seconds after a change of weights that count for neither: clocks differ, and a scrape may be older than it says."""
_SCRAPES = 2.5
"""Scrape intervals without a sample after which telemetry is silent: one may fail, and one is always late."""
_CHUNK, _CHUNK_SIZE = 3600, 300_000
"""Ticks, and characters of them packed, after which a watch hands over to the next: its heartbeats and its result must
stay small."""


class AnalysisRun:
    """Feeds the hub's ticks to the judge."""

    def __init__(
        self, request: WatchRequest, attached: AttachedMesh, health: TemporalHealth, earlier: WatchBeat | None
    ) -> None:
        self._request = request
        self._attached = attached
        self._judge = judge_from(request.analysis)
        self._state = self._begin(earlier)
        self._progress = earlier.progress if earlier else Progress(time=time.time(), weight=request.weight)
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        self._heard = earlier.silent_since if earlier and earlier.silent_since else time.time()
        self._keeper = LeaseRenewer(
            attached.mesh, request.lease, health, grace=request.temporal_grace, halt=request.halt
        )
        self._vigil = EndpointCheck(attached.mesh, request.target, request.arms, request.weight)
        remembered = earlier.split if earlier else ""
        self._split = (
            sample_ratio.SplitState.model_validate_json(remembered) if remembered else sample_ratio.SplitState()
        )
        passed = earlier.bypass if earlier else ""
        self._bypass = bypass_check.BypassState.model_validate_json(passed) if passed else bypass_check.BypassState()
        self._thresholds = Thresholds()
        self._recorder = Recorder(earlier.ticks if earlier else "")

    async def run(self, heartbeat: Callable[[WatchBeat], None]) -> WatchResult:
        """Watches until there is a verdict. `heartbeat` is called at every tick.

        Raises:
            InvalidChange: the spec needs a source that this process does not have.
        """
        request, analysis = self._request, self._request.analysis
        hub = self._attached.hub(analysis.source)
        queries = [metric for metric in analysis.metrics if isinstance(metric, PromQL)]
        source = self._attached.query_source(queries[0].name) if queries else None
        stalls = Stalls("canary", analysis.tick)
        async with (
            self._keeper.keeping() as kept,
            self._vigil.kept() as gone,
            self._thresholds.following(queries, source, request.target, request.arms),
            hub.subscribe(
                subject_of(request.target, request.arms, request.baseline),
                canary=request.arms.canary,
                stable=request.arms.stable,
                baseline=request.baseline,
                boundaries=boundaries_of(analysis),
                tick=analysis.tick,
            ) as feed,
        ):
            verdict: Verdict | None = None
            while verdict is None:
                item = await _next(feed, kept, gone)
                stalls.passed()
                if item is not None:
                    verdict = self._fold(item)
                else:
                    verdict = kept.result() if kept.done() else self._without_endpoints(gone.result())
                if isinstance(verdict, Harm):
                    await self._keeper.condemn(verdict.reason)
                heartbeat(self._beat())
        stalls.ended()
        return self.result(verdict)

    def result(self, verdict: Verdict) -> WatchResult:
        """The answer to the workflow."""
        return WatchResult(
            verdict=verdict,
            state=self._state.model_dump_json(),
            progress=self._progress,
            ticks=self._recorder.text(),
            full=self._full(),
            judge=self._state.version,
        )

    def _begin(self, earlier: WatchBeat | None) -> JudgeState:
        if earlier is not None:
            return JudgeState.model_validate_json(earlier.state)
        if not self._request.state:
            return canary.start(self._judge)
        state = JudgeState.model_validate_json(self._request.state)
        return canary.begin_step(self._judge, state) if self._request.fresh_step else state

    def _beat(self) -> WatchBeat:
        return WatchBeat(
            state=self._state.model_dump_json(),
            progress=self._progress,
            silent_since=self._heard,
            split=self._split.model_dump_json(),
            bypass=self._bypass.model_dump_json(),
            ticks=self._recorder.text(),
            judge=self._state.version,
        )

    def _fold(self, item: HubTick | Gap) -> Verdict | None:
        if isinstance(item, Gap):
            return self._silence(item)
        self._heard = time.time()
        tick = rounded(item.tick.model_copy(update={"readings": self._thresholds.take()}))
        if self._request.record:
            self._recorder.add(tick)
        self._state, verdict = canary.update(self._judge, self._request.rule, self._state, tick)
        self._show(item)
        if isinstance(verdict, Inconclusive) and verdict.cause == "noData":
            why = "".join(f"; {name}: {shortened(failure, 300)}" for name, failure in self._thresholds.failed.items())
            verdict = verdict.model_copy(update={"reason": verdict.reason + why})
        if verdict is None or isinstance(verdict, Advance):
            verdict = self._misdirected(item) or verdict
        if verdict is None and self._full():
            return Inconclusive(
                cause="stopped", reason="this watch has reached its size limit; the next one continues from here"
            )
        return verdict

    def _without_endpoints(self, reason: str) -> Harm:
        return Harm(metric=ENDPOINTS, reason=reason, evidence=canary.evidence(self._judge, self._state))

    def _full(self) -> bool:
        return self._recorder.full(_CHUNK, _CHUNK_SIZE)

    def _misdirected(self, item: HubTick) -> Inconclusive | None:
        """Whether requests reach other arms than the weights say: then arms cannot be compared."""
        found = self._split_wrong(item)
        bypassed = self._bypassed(item)
        if self._request.patient or not (found or bypassed):
            return None
        shown = canary.evidence(self._judge, self._state)
        return Inconclusive(cause="split", reason=bypassed or found, evidence=shown)

    def _split_wrong(self, item: HubTick) -> str:
        """How the split at the callers' proxies differs from the weights; empty where it does not."""
        request = self._request
        if request.some_rules:
            return ""  # the others' requests go to stable too, and no counter tells them apart
        if item.tick.time - item.tick.seconds < request.since + _SETTLE:
            return ""  # some of it was counted before the proxies had these weights
        weights = {request.arms.canary: request.weight, request.arms.stable: 100 - request.weight}
        if request.baseline:  # it gets as much as the canary, out of stable's share
            weights |= {request.baseline: request.weight, request.arms.stable: 100 - 2 * request.weight}
        self._split, mismatch = sample_ratio.update(self._split, weights, item.given, seconds=item.tick.seconds)
        return mismatch.reason if mismatch else ""

    def _bypassed(self, item: HubTick) -> str:
        """Which arm gets requests that passed no caller's proxy; empty where none does."""
        arms = (self._request.arms.canary, self._request.arms.stable)
        found = {arm: item.arrived.get(arm, Arrived()) for arm in arms}
        arrived = {arm: (one.requests, one.unsent) for arm, one in found.items()}
        self._bypass, finding = bypass_check.update(self._bypass, arrived, seconds=item.tick.seconds)
        return finding.reason if finding else ""

    def _silence(self, gap: Gap) -> Verdict | None:
        silent = time.time() - self._heard
        self._progress = self._progress.model_copy(update={"time": time.time(), "silent": silent})
        self._labelled(TELEMETRY_AGE).set(silent)
        if self._request.patient or silent < self._patience():
            return None
        return Inconclusive(
            cause="noData",
            reason=f"telemetry has had no new data for {silent:.0f} s: {gap.reason}",
            evidence=canary.evidence(self._judge, self._state),
        )

    def _patience(self) -> float:
        """Seconds without data after which telemetry counts as silent; between two scrapes there is never any."""
        analysis = self._request.analysis
        return max(analysis.no_data.after, _SCRAPES * (self._attached.interval(analysis.source) or 0.0))

    def _show(self, item: HubTick) -> None:
        before, request = self._progress, self._request
        seen = item.exposure
        # What the arms were given, not what they answered: a canary that hangs gets its share all the same.
        self._recent.append((seen.requests, item.users))
        mine, everybody = (sum(column) for column in zip(*self._recent, strict=True))
        measured = 100 * mine / everybody if everybody else None
        self._progress = Progress(
            time=item.tick.time,
            weight=request.weight,
            measured=measured,
            requests=before.requests + item.tick.canary.requests,
            stable_requests=before.stable_requests + item.tick.stable.requests,
            failures=before.failures + item.tick.canary.errors,
            seconds=before.seconds + item.tick.seconds,
            evidence=canary.evidence(self._judge, self._state),
            exposure=before.exposure + Exposure(requests=seen.requests, failures=seen.failures, seconds=seen.seconds),
        )
        self._labelled(TELEMETRY_AGE).set(max(0.0, time.time() - item.tick.time))
        if measured is not None:
            labels = (request.target.namespace, request.name)
            CANARY_WEIGHT.labels(*labels, request.arms.canary, "measured").set(measured)
            CANARY_WEIGHT.labels(*labels, request.arms.stable, "measured").set(100 - measured)

    def _labelled(self, gauge: Gauge) -> Gauge:
        return gauge.labels(self._request.target.namespace, self._request.name)


async def _next(feed: Feed, kept: asyncio.Task[Inconclusive], gone: asyncio.Task[str]) -> HubTick | Gap | None:
    """The next tick; None where a task beside ends first. A tick that is there already comes first: it may be harm.

    Raises:
        RuntimeError: the telemetry hub was closed.
    """

    async def take() -> HubTick | Gap:
        async for item in feed:
            return item
        raise RuntimeError("the telemetry hub was closed while a watch was running")

    ticking = asyncio.create_task(take(), name="next tick")
    try:
        await asyncio.wait({ticking, kept, gone}, return_when=asyncio.FIRST_COMPLETED)
        return ticking.result() if ticking.done() else None
    finally:
        ticking.cancel()


def subject_of(target: Target, arms: CanaryArms, baseline: str = "") -> Subject:
    """Whose traffic a rollout looks at; with the baseline arm, where one has a share."""
    told_apart = (arms.stable, arms.canary, baseline) if baseline else (arms.stable, arms.canary)
    return Subject(mesh=target.mesh, namespace=target.namespace, service=target.service, arms=told_apart)
