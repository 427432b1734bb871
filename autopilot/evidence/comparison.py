"""Comparisons of the arms: when ticks make one, which of it counts towards harm, and what it adds to each metric."""

from __future__ import annotations

import math

import numpy as np

from autopilot.evidence.model import ArmTick, Judge, JudgeMetric, Tick
from autopilot.evidence.state import SLACK, VERSION, JudgeState, MetricState, add, arm_of, pack, past, unpack
from autopilot.evidence.statistics import coalescing, metric_process
from autopilot.evidence.statistics.arrays import BatchArm, Counts, Flags, joined
from autopilot.evidence.statistics.metric_process import FAILURES

_CROWD = 2.0
"""Without company, the canary's latency is compared with stable's earlier one up to so many times the load of then."""

MANY_REQUESTS, MANY_SHARE = 10, 0.4
"""So many requests of a step, so large a share of them bad, are gross: there is no waiting for connections to settle.
(Of a version that hangs, each request counts anew at each boundary that it passes.)"""

YOUNG = 5.0
"""Seconds after a rise of the weight in which failures do not count either: pods that were added have just begun."""


def more_of(pending: Tick | None, tick: Tick) -> Tick:
    """What is held back, with one tick more."""
    if pending is None:
        return tick
    arms = {}
    for name in ("canary", "stable", "baseline"):
        one, other = getattr(pending, name), getattr(tick, name)
        arms[name] = (one or other) if one is None or other is None else one.plus(other)
    return Tick(time=tick.time, seconds=pending.seconds + tick.seconds, **arms)


def whole(state: JudgeState, *, alone: bool) -> bool:
    """Whether what is held back makes a comparison."""
    if state.pending is None:
        return False
    own, stable = _pair(state.pending)
    canary, others = (np.asarray(total) for total in state.step_compared)
    return bool(
        coalescing.whole(
            coalescing.seen(own),
            coalescing.seen(stable),
            state.pending.seconds,
            before_canary=canary,
            before_stable=others,
            alone=alone,
        )
    )


def closed(judge: Judge, state: JudgeState, *, warm: bool) -> JudgeState:
    """The state with what was held back compared."""
    if state.pending is None:
        return state
    tick, before = state.pending, state.step_compared
    canary, stable = (float(coalescing.seen(arm)) for arm in _pair(tick))
    state = compare(judge, state.model_copy(update={"pending": None}), tick, warm=warm)
    return state.model_copy(update={"step_compared": (before[0] + canary, before[1] + stable)})


def _pair(tick: Tick) -> tuple[BatchArm, BatchArm]:
    """The canary, and stable with a baseline."""
    baseline = arm_of(tick.baseline) if tick.baseline is not None else None
    return arm_of(tick.canary), joined(arm_of(tick.stable), baseline)


def harm_begins(judge: Judge, state: JudgeState) -> JudgeState:
    """The state after the warm-up: harm evidence starts afresh."""
    metrics = tuple(
        kept
        if metric.kind == "threshold"
        else kept_with(kept, pack(metric_process.begin_harm(unpack(metric, kept)), kept.total)).model_copy(
            update={"failing": (0, 0)}
        )
        for metric, kept in zip(judge.metrics, state.metrics, strict=True)
    )
    return state.model_copy(update={"metrics": metrics})


def compare(judge: Judge, state: JudgeState, tick: Tick, *, warm: bool) -> JudgeState:
    """Adds one comparison of the arms to each metric that gathers evidence."""
    everybody = sum(arm.requests for arm in (tick.canary, tick.stable, tick.baseline) if arm is not None)
    company = everybody - tick.canary.requests >= coalescing.ALONE * tick.canary.requests
    alone = crowded(everybody, tick.seconds, company, state.company_requests, state.company_seconds)
    told = tick.model_copy(update=_nobody(tick)) if alone else tick
    metrics = tuple(
        kept
        if metric.kind == "threshold"
        else _gather(
            judge,
            metric,
            kept,
            told if metric.kind == "latency" else tick,
            counts=_counts(judge, state, metric, kept, warm),
        )
        for metric, kept in zip(judge.metrics, state.metrics, strict=True)
    )
    return state.model_copy(
        update={
            "metrics": metrics,
            "company_requests": state.company_requests + (everybody if company else 0.0),
            "company_seconds": state.company_seconds + (tick.seconds if company else 0.0),
        }
    )


def crowded(
    everybody: Counts | float,
    seconds: Counts | float,
    company: Flags | bool,
    before: Counts | float,
    took: Counts | float,
) -> Flags:
    """Whether the canary is alone under a load that stable never had, shape ``batch`` as all others.

    Args:
        everybody: requests to all arms.
        seconds: within so many.
        company: whether stable keeps the canary company.
        before: requests to all arms while it did.
        took: seconds of those.
    """
    return np.asarray(~np.asarray(company) & (np.multiply(everybody, took) > _CROWD * np.multiply(before, seconds)))


def _nobody(tick: Tick) -> dict[str, ArmTick]:
    """The tick's arms without requests: latency under a load that stable never had says nothing of the version."""
    nothing = (0.0,) * len(tick.canary.slow)
    return {"canary": ArmTick(slow=nothing), "stable": ArmTick(slow=nothing)}


def _counts(judge: Judge, state: JudgeState, metric: JudgeMetric, kept: MetricState, warm: bool) -> bool:
    """Whether what a comparison says may be harm: decided by what came before it."""
    if state.version < VERSION:
        return metric.kind in FAILURES or not warm
    if warm and metric.kind not in FAILURES:
        return False
    since_rise = state.step_seconds if state.ticks > state.step_ticks else math.inf
    if metric.kind in FAILURES:
        settling = since_rise < min(judge.settle, YOUNG) - SLACK
    else:
        settling = min(since_rise, _counted(judge, state)) < judge.settle - SLACK
    return not settling or _bad_throughout(judge, kept)


def _counted(judge: Judge, state: JudgeState) -> float:
    """Seconds since the warm-up was over; negative before."""
    return (state.last or 0.0) - (state.first or 0.0) - judge.warmup if judge.warmup > 0 else math.inf


def _bad_throughout(judge: Judge, kept: MetricState) -> bool:
    """Whether very many requests of this step failed, or were slow at some boundary, where few of stable's are."""
    if kept.step is None or kept.step.canary < MANY_REQUESTS:
        return False
    known = past(kept)[0]
    pairs = zip(kept.step.canary_bad, known.stable_bad, strict=True)
    return known.stable > 0 and any(
        canary >= MANY_SHARE * kept.step.canary
        and canary * known.stable >= judge.gross_ratio * stable * kept.step.canary
        for canary, stable in pairs
    )


def _gather(judge: Judge, metric: JudgeMetric, kept: MetricState, tick: Tick, *, counts: bool) -> MetricState:
    """One comparison more for a metric that gathers evidence; `counts`: also towards harm."""
    canary, stable = arm_of(tick.canary), arm_of(tick.stable)
    baseline = arm_of(tick.baseline) if judge.baseline and tick.baseline is not None else None
    gathered = metric_process.fold(
        judge, metric, unpack(metric, kept), canary, stable, seconds=tick.seconds, harm=counts, baseline=baseline
    )
    counted, bad = metric_process.counts(metric, joined(stable, baseline)), metric_process.counts(metric, canary)
    packed = kept_with(kept, pack(gathered, add(kept.total, bad, counted)))
    if not counts:
        return packed
    fails, (whole, of_epoch) = int(bad[0][0] > 0), packed.failing
    return packed.model_copy(update={"failing": (whole + fails, of_epoch + fails)})


def kept_with(kept: MetricState, packed: MetricState) -> MetricState:
    """New evidence beside what is known of stable's clusters."""
    failing = (kept.failing[0], kept.failing[1] if packed.epoch == kept.epoch else 0)
    known: dict[str, object] = {"gauge": kept.gauge, "clusters": kept.clusters, "phi": kept.phi, "failing": failing}
    known |= {"readings": kept.readings, "aborts": kept.aborts}
    return packed.model_copy(update=known)
