"""The judge of a canary: folds ticks into a small state, and says when a step is over and how.

Pure and without a clock: the same ticks give the same verdict, so any decision can be recomputed from what was
recorded.

Alpha is spent once over the whole rollout: metric m may alarm at ``E >= 1/(alpha * w_m)``, w_m its share of the
weights of those metrics that gather evidence (fixed thresholds spend none). The warm-up, in which only gross harm
counts, is a process of its own: error evidence gathered in it may fire only where the harm is gross, and is thrown
away when it ends, for otherwise what did not count in the warm-up would fire just after it. Two processes may each
raise a false alarm, so error metrics give half their alpha to each (ln 2 = 0.7 more evidence needed); latency gathers
nothing in the warm-up and pays nothing. A step can't end well before the warm-up is over, for until then nothing but
gross harm was looked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from autopilot.evidence import dispersion, need, process, words
from autopilot.evidence.arrays import Counts, joined
from autopilot.evidence.eprocess import log_mean
from autopilot.evidence.model import (
    Advance,
    ArmTick,
    Evidence,
    Harm,
    Inconclusive,
    Judge,
    JudgeMetric,
    StepRule,
    Tick,
    Verdict,
)
from autopilot.evidence.process import RELATIVE
from autopilot.evidence.state import (
    JudgeState,
    MetricState,
    Tally,
    add,
    arm_of,
    pack,
    pack_gauge,
    past,
    unpack,
    unpack_gauge,
)

_SLACK = 1e-6
"""Seconds: what sums of sample times may be off."""

_CROWD = 2.0
"""Without company, the canary's latency is compared with stable's earlier one up to so many times the load of then."""

_FAILURES = frozenset({"errors", "success"})
"""Kinds that count failed requests: the only ones that can be gross."""


def start(judge: Judge) -> JudgeState:
    """The state before the first tick of a rollout."""
    metrics = []
    for metric in judge.metrics:
        if metric.kind == "threshold":
            metrics.append(MetricState())
        else:
            none = pack(process.fresh(metric), Tally())
            metrics.append(none.model_copy(update={"total": none.since}))
    return JudgeState(warm=judge.warmup > 0, metrics=tuple(metrics))


def begin_step(judge: Judge, state: JudgeState) -> JudgeState:
    """The state before a step's first tick: good evidence, counts and clock start afresh; harm evidence goes on.

    (All but the small stake on the present epoch, which ends with the step: see `autopilot.evidence.process`.)
    """
    metrics = tuple(
        kept if metric.kind == "threshold" else _begun(metric, kept)
        for metric, kept in zip(judge.metrics, state.metrics, strict=True)
    )
    return state.model_copy(
        update={"metrics": metrics, "step_ticks": 0, "step_seconds": 0.0, "step_requests": 0.0},
    )


def observe(judge: Judge, state: JudgeState, ticks: Iterable[Tick]) -> JudgeState:
    """Learns from ticks before the rollout how stable's failures cluster; nothing else is kept of them.

    A replay needs the same ticks, or the state that this returned.
    """
    if judge.phi is not None:
        return state
    gauges = {
        number: unpack_gauge(metric, kept.gauge)
        for number, (metric, kept) in enumerate(zip(judge.metrics, state.metrics, strict=True))
        if metric.kind != "threshold"
    }
    for tick in ticks:
        stable = arm_of(tick.stable)
        for number, gauge in gauges.items():
            counted = process.counts(judge.metrics[number], stable)
            gauges[number] = dispersion.fold(gauge, *counted, seconds=tick.seconds)
    metrics = tuple(
        kept.model_copy(update={"gauge": pack_gauge(gauges[number])}) if number in gauges else kept
        for number, kept in enumerate(state.metrics)
    )
    return state.model_copy(update={"metrics": metrics})


def learned(judge: Judge, state: JudgeState) -> str:
    """What `observe` has learned so far, in words: each metric's failures, and how many of them count as one."""
    return "; ".join(
        words.learned(metric, dispersion.dispersion(unpack_gauge(metric, kept.gauge)))
        for metric, kept in zip(judge.metrics, state.metrics, strict=True)
        if metric.kind != "threshold"
    )


def _begun(metric: JudgeMetric, kept: MetricState) -> MetricState:
    packed = pack(process.begin_step(unpack(metric, kept)), kept.total)
    return packed.model_copy(update={"gauge": kept.gauge, "phi": kept.phi})


def update(judge: Judge, rule: StepRule, state: JudgeState, tick: Tick) -> tuple[JudgeState, Verdict | None]:
    """Folds one tick and judges.

    Args:
        judge: how the rollout is judged, the same for every tick.
        rule: when the present step is over.
        state: as the tick before left it, or from `start` or `begin_step`.
        tick: increments of both arms since the tick before.

    Returns:
        The new state, and a verdict where the step is over.

    Raises:
        ValueError: the tick lacks a boundary that a metric needs.
    """
    state = _fold(judge, state, tick)
    shown = evidence(judge, state)
    return state, _harm(judge, state, shown) or _end(judge, rule, state, shown)


def replay(
    judge: Judge, rule: StepRule, ticks: Iterable[Tick], state: JudgeState | None = None
) -> tuple[JudgeState, Verdict | None]:
    """Judges recorded ticks one by one, up to the first verdict."""
    state = start(judge) if state is None else state
    for tick in ticks:
        state, verdict = update(judge, rule, state, tick)
        if verdict is not None:
            return state, verdict
    return state, None


def evidence(judge: Judge, state: JudgeState) -> tuple[Evidence, ...]:
    """How far each metric has come, in the judge's order.

    Evidence below 0 speaks against harm, and is shown as 0.
    """
    return tuple(_evidence(judge, state, *pair) for pair in zip(judge.metrics, state.metrics, strict=True))


def harm_needed(judge: Judge, metric: JudgeMetric) -> float:
    """Evidence at which a metric alarms: ``ln 1/(alpha w_m)``, and ln 2 more where it is judged in the warm-up too."""
    spent = sum(other.weight for other in judge.metrics if other.kind != "threshold")
    halves = 2.0 if judge.warmup > 0 and metric.kind in _FAILURES else 1.0
    return math.log(halves * spent / (judge.alpha * metric.weight))


def _fold(judge: Judge, state: JudgeState, tick: Tick) -> JudgeState:
    first = tick.time - tick.seconds if state.first is None else state.first
    warm = state.warm and tick.time - first <= judge.warmup + _SLACK
    everybody = sum(arm.requests for arm in (tick.canary, tick.stable, tick.baseline) if arm is not None)
    company = everybody - tick.canary.requests >= process.ALONE * tick.canary.requests
    crowded = not company and everybody * state.company_seconds > _CROWD * state.company_requests * tick.seconds
    told = tick.model_copy(update=_nobody(tick)) if crowded else tick
    metrics = tuple(
        _read(metric, kept, tick, warm=warm)
        if metric.kind == "threshold"
        else _gather(
            judge, metric, kept, told if metric.kind == "latency" else tick, warm=warm, over=state.warm and not warm
        )
        for metric, kept in zip(judge.metrics, state.metrics, strict=True)
    )
    requests = max(0.0, tick.canary.requests)
    return JudgeState(
        ticks=state.ticks + 1,
        first=first,
        last=tick.time,
        warm=warm,
        requests=state.requests + requests,
        step_ticks=state.step_ticks + 1,
        step_seconds=state.step_seconds + tick.seconds,
        step_requests=state.step_requests + requests,
        company_requests=state.company_requests + (everybody if company else 0.0),
        company_seconds=state.company_seconds + (tick.seconds if company else 0.0),
        metrics=metrics,
    )


def _nobody(tick: Tick) -> dict[str, ArmTick]:
    """The tick's arms without requests: latency under a load that stable never had says nothing of the version."""
    nothing = (0.0,) * len(tick.canary.slow)
    return {"canary": ArmTick(slow=nothing), "stable": ArmTick(slow=nothing)}


def _gather(judge: Judge, metric: JudgeMetric, kept: MetricState, tick: Tick, *, warm: bool, over: bool) -> MetricState:
    """One tick of a metric that gathers evidence; `over` says that the warm-up ended with the tick before."""
    gathered = unpack(metric, kept)
    if over:
        gathered = process.begin_harm(gathered)
    canary, stable = arm_of(tick.canary), arm_of(tick.stable)
    baseline = arm_of(tick.baseline) if judge.baseline and tick.baseline is not None else None
    judged = not warm or metric.kind in _FAILURES
    gathered = process.fold(
        judge, metric, gathered, canary, stable, seconds=tick.seconds, harm=judged, baseline=baseline
    )
    counted = process.counts(metric, joined(stable, baseline))
    packed = pack(gathered, add(kept.total, process.counts(metric, canary), counted))
    return packed if judge.phi is not None else packed.model_copy(update=_gauge(metric, kept, tick, told=True))


def _gauge(metric: JudgeMetric, kept: MetricState, tick: Tick, *, told: bool) -> dict[str, object]:
    """Stable's dispersion with one tick more, and where `told` what it was before it."""
    gauge = unpack_gauge(metric, kept.gauge)
    found = dispersion.dispersion(gauge) if told else None
    gauge = dispersion.fold(gauge, *process.counts(metric, arm_of(tick.stable)), seconds=tick.seconds)
    said = {} if found is None else {"phi": tuple(np.round(found.phi * found.known, 4).tolist())}
    return {"gauge": pack_gauge(gauge), **said}


def _phi(judge: Judge, metric: JudgeMetric, kept: MetricState) -> Counts:
    """What evidence is divided by, shape ``(B,)``: until stable has failed often enough, gross harm waits for less.

    So does any where a baseline guards, which needs no phi.
    """
    wide = process.width(metric)
    if judge.phi is not None:
        return np.full(wide, judge.phi)
    unknown = dispersion.GROSS if _gross(judge, metric, kept) else dispersion.PRIOR
    unknown = dispersion.FLOOR if kept.sign else unknown
    said = np.asarray(kept.phi or (0.0,) * wide)
    return np.where(said > 0, said, unknown)


def _read(metric: JudgeMetric, kept: MetricState, tick: Tick, *, warm: bool) -> MetricState:
    """One tick of a fixed threshold: only a reading counts, for either side."""
    reading = tick.readings.get(metric.name)
    if warm or reading is None or not math.isfinite(reading):
        return kept
    out = _beyond(metric, reading) is not None
    return MetricState(failures=kept.failures + 1 if out else 0, reading=reading)


def _beyond(metric: JudgeMetric, reading: float) -> str | None:
    if metric.maximum is not None and reading > metric.maximum:
        return f"above the maximum of {metric.maximum:g}"
    if metric.minimum is not None and reading < metric.minimum:
        return f"below the minimum of {metric.minimum:g}"
    return None


def _evidence(judge: Judge, state: JudgeState, metric: JudgeMetric, kept: MetricState) -> Evidence:
    if metric.kind == "threshold":
        note = "" if kept.reading is None else f"last reading {kept.reading:g}"
        return Evidence(metric=metric.name, harm=kept.failures, harm_needed=metric.failures, note=note)
    gathered = unpack(metric, kept)
    relative = metric.kind in RELATIVE
    phi = _phi(judge, metric, kept)
    boundaries = process.harm_by_boundary(judge, metric, gathered, phi=phi)
    index = int(boundaries.argmax())
    return Evidence(
        metric=metric.name,
        harm=max(0.0, float(log_mean(boundaries))),
        harm_needed=harm_needed(judge, metric),
        good=max(0.0, float(process.good(gathered, phi=phi))) if relative else None,
        good_needed=math.log(1 / judge.beta) if relative else None,
        canary=words.share(kept.total.canary_bad[index], kept.total.canary),
        stable=words.share(kept.total.stable_bad[index], kept.total.stable),
        phi=None if judge.phi is not None else float(phi[index]),
        **_more(judge, metric, kept, index, phi=float(phi[index]), good=float(process.good(gathered, phi=phi)))
        if relative
        else {},
        note=words.note(metric, index, kept, warm=state.warm, learns=judge.phi is None),
    )


def _more(
    judge: Judge, metric: JudgeMetric, kept: MetricState, index: int, *, phi: float, good: float
) -> dict[str, float | None]:
    """Requests still lacking, at the rates and the weight seen so far; nothing while stable is silent."""
    seen = kept.recent
    stable = words.share(kept.total.stable_bad[index], kept.total.stable)
    if stable is None or seen.canary <= 0 or seen.stable <= 0:
        return {}
    weight = seen.canary / (seen.canary + seen.stable)
    total = need.requests_needed(judge, stable=stable, weight=weight, needed=harm_needed(judge, metric), phi=phi)
    lacking = math.log(1 / judge.beta) - good
    left = need.requests_to_good(judge, stable=stable, weight=weight, lacking=max(0.0, lacking), phi=phi)
    return {
        "more": None if total is None else round(max(0.0, total - kept.since.canary)),
        "good_more": left if left is None or lacking > 0 else 0.0,
    }


def _harm(judge: Judge, state: JudgeState, shown: Sequence[Evidence]) -> Harm | None:
    for metric, kept, found in zip(judge.metrics, state.metrics, shown, strict=True):
        if found.harm < found.harm_needed or (state.warm and not _gross(judge, metric, kept)):
            continue
        if metric.kind == "threshold":
            beyond = _beyond(metric, kept.reading) if kept.reading is not None else None
            reason = f"{metric.name}: {kept.reading:g} is {beyond}, {kept.failures} readings in a row"
        else:
            stakes = process.harm_by_stake(judge, metric, unpack(metric, kept), phi=_phi(judge, metric, kept))
            view, row, index = (int(at) for at in np.unravel_index(int(stakes.argmax()), stakes.shape))
            counted = (past(kept) if view else (kept.since, kept.recent))[row]
            reason = words.harm(metric, counted, index, found, before=view == 1, warm=state.warm)
        return Harm(metric=metric.name, reason=reason, evidence=tuple(shown))
    return None


def _gross(judge: Judge, metric: JudgeMetric, kept: MetricState) -> bool:
    """Whether failures are so many that a warm-up can't explain them."""
    canary = words.share(kept.since.canary_bad[0], kept.since.canary) if metric.kind in _FAILURES else None
    if canary is None:
        return False
    stable = words.share(kept.since.stable_bad[0], kept.since.stable) or 0.0
    return canary >= judge.gross_share and canary >= judge.gross_ratio * stable


def _end(judge: Judge, rule: StepRule, state: JudgeState, shown: Sequence[Evidence]) -> Advance | Inconclusive | None:
    if rule.limit is None:
        return None
    if state.step_seconds >= rule.hold - _SLACK and not state.warm:
        enough = state.step_requests >= rule.min_requests
        if enough or _good(judge, shown):
            reason = words.advance(state.step_seconds, state.step_requests, shown, by_evidence=not enough)
            return Advance(reason=reason, evidence=tuple(shown))
    if state.step_seconds >= rule.limit - _SLACK:
        reason = words.out_of_time(state.step_seconds, state.step_requests, rule.min_requests, warm=state.warm)
        reason += words.lacking(judge, shown)
        return Inconclusive(cause="time", reason=reason, evidence=tuple(shown))
    return None


def _good(judge: Judge, shown: Sequence[Evidence]) -> bool:
    """Whether every comparison with stable has shown that the canary is not `good_ratio` times worse."""
    relative = [found for metric, found in zip(judge.metrics, shown, strict=True) if metric.kind in RELATIVE]
    return bool(relative) and all((found.good or 0.0) >= (found.good_needed or math.inf) for found in relative)
