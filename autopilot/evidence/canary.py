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

from autopilot.evidence import clustering, coalescing, dispersion, exclusion, need, process, words
from autopilot.evidence.arrays import BatchArm, Counts, Flags, joined
from autopilot.evidence.dispersion import Dispersion
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
from autopilot.evidence.process import RELATIVE, Process
from autopilot.evidence.state import (
    JudgeState,
    MetricState,
    Tally,
    add,
    arm_of,
    pack,
    pack_clusters,
    pack_gauge,
    past,
    unpack,
    unpack_clusters,
    unpack_gauge,
)

VERSION = 2
"""Of the judge's rules; 1 measured clusters over the whole history, compared every tick, ended steps by the clock."""

_SLACK = 1e-6
"""Seconds: what sums of sample times may be off."""

_CROWD = 2.0
"""Without company, the canary's latency is compared with stable's earlier one up to so many times the load of then."""

SLOW_REQUESTS, SLOW_SHARE = 10, 0.4
"""So many requests of a step, so large a share of them slow, are gross: there is no waiting for connections to settle.
(Of a version that hangs, each request counts anew at each boundary that it passes.)"""

FAILURES = frozenset({"errors", "success"})
"""Kinds that count failed requests: the only ones that can be gross."""


def start(judge: Judge, version: int = VERSION) -> JudgeState:
    """The state before the first tick of a rollout; an earlier version's for what was judged by its rules."""
    metrics = []
    for metric in judge.metrics:
        if metric.kind == "threshold":
            metrics.append(MetricState())
        else:
            none = pack(process.fresh(metric), Tally())
            metrics.append(none.model_copy(update={"total": none.since}))
    return JudgeState(version=version, warm=judge.warmup > 0, metrics=tuple(metrics))


def begin_step(judge: Judge, state: JudgeState) -> JudgeState:
    """The state before a step's first tick: good evidence, counts and clock start afresh; harm evidence goes on.

    (All but the small stake on the present epoch, which ends with the step: see `autopilot.evidence.process`.)
    """
    state = _closed(judge, state, warm=state.warm)
    metrics = tuple(
        kept if metric.kind == "threshold" else _begun(metric, kept)
        for metric, kept in zip(judge.metrics, state.metrics, strict=True)
    )
    clock = {"step_ticks": 0, "step_seconds": 0.0, "step_requests": 0.0, "step_compared": (0.0, 0.0)}
    return state.model_copy(update={"metrics": metrics, **clock})


def observe(judge: Judge, state: JudgeState, ticks: Iterable[Tick]) -> JudgeState:
    """Learns from ticks before the rollout how stable's failures cluster; nothing else is kept of them.

    A replay needs the same ticks, or the state that this returned.
    """
    if judge.phi is not None:
        return state
    found = list(ticks)
    metrics = tuple(
        kept if metric.kind == "threshold" else kept.model_copy(update=_learn(metric, kept, found, state.version))
        for metric, kept in zip(judge.metrics, state.metrics, strict=True)
    )
    return state.model_copy(update={"metrics": metrics})


def learned(judge: Judge, state: JudgeState) -> str:
    """What `observe` has learned so far, in words: each metric's failures, and how many of them count as one."""
    return "; ".join(
        words.learned(metric, _measured(metric, kept, state.version), left_out=_left_out(kept))
        for metric, kept in zip(judge.metrics, state.metrics, strict=True)
        if metric.kind != "threshold"
    )


def usual(judge: Judge, state: JudgeState, ticks: Sequence[Tick]) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """For each metric that compares with stable: stable's shares of bad requests in these ticks, and phi, by boundary.

    Args:
        judge: whose metrics.
        state: what `observe` made of the ticks.
        ticks: the same.
    """
    found = []
    for metric, kept in zip(judge.metrics, state.metrics, strict=True):
        if metric.kind not in RELATIVE:
            continue
        counted = [process.counts(metric, arm_of(tick.stable)) for tick in ticks]
        bad, total = (np.sum([each[column] for each in counted], axis=0) for column in (0, 1))
        phi = _phi(judge, metric, kept) if judge.phi is not None else _measured(metric, kept, state.version).phi
        found.append((tuple((bad / np.maximum(total, 1.0)).tolist()), tuple(phi.tolist())))
    return found


def _left_out(kept: MetricState) -> float:
    """Seconds of incidents that were left out of what is known of clusters."""
    return max(kept.clusters.left_out, default=0.0) if kept.clusters is not None else 0.0


def _measured(metric: JudgeMetric, kept: MetricState, version: int) -> Dispersion:
    if version < VERSION:
        return dispersion.dispersion(unpack_gauge(metric, kept.gauge))
    return clustering.dispersion(unpack_clusters(metric, kept.clusters))


def _learn(metric: JudgeMetric, kept: MetricState, ticks: Sequence[Tick], version: int) -> dict[str, object]:
    """What is known of stable's clusters with some ticks more."""
    counted = [(*process.counts(metric, arm_of(tick.stable)), tick.seconds) for tick in ticks]
    if version < VERSION:
        first = unpack_gauge(metric, kept.gauge)
        for bad, total, seconds in counted:
            first = dispersion.fold(first, bad, total, seconds=seconds)
        return {"gauge": pack_gauge(first)}
    gauge = unpack_clusters(metric, kept.clusters)
    for bad, total, seconds in counted:
        gauge = clustering.fold(gauge, bad, total, seconds=seconds)
    return {"clusters": pack_clusters(gauge)}


def _begun(metric: JudgeMetric, kept: MetricState) -> MetricState:
    return _with(kept, pack(process.begin_step(unpack(metric, kept)), kept.total))


def _with(kept: MetricState, packed: MetricState) -> MetricState:
    """New evidence beside what is known of stable's clusters."""
    failing = (kept.failing[0], kept.failing[1] if packed.epoch == kept.epoch else 0)
    known = {"gauge": kept.gauge, "clusters": kept.clusters, "phi": kept.phi, "failing": failing}
    return packed.model_copy(update=known)


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
    state = _fold(judge, rule, state, tick)
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
    halves = 2.0 if judge.warmup > 0 and metric.kind in FAILURES else 1.0
    return math.log(halves * spent / (judge.alpha * metric.weight))


def _fold(judge: Judge, rule: StepRule, state: JudgeState, tick: Tick) -> JudgeState:
    for metric in judge.metrics:
        if metric.kind != "threshold":
            process.counts(metric, arm_of(tick.canary))  # refused at once, not when it is compared
    first = tick.time - tick.seconds if state.first is None else state.first
    warm = state.warm and tick.time - first <= judge.warmup + _SLACK
    if state.warm and not warm:
        state = _harm_begins(judge, _closed(judge, state, warm=True))
    state = state.model_copy(update={"first": first, "warm": warm})
    if state.version < VERSION:
        state = _compare(judge, state, tick, warm=warm)
    else:
        state = state.model_copy(update={"pending": _more_of(state.pending, tick)})
        state = _closed(judge, state, warm=warm) if _whole(state, alone=rule.alone) else state
    metrics = tuple(
        _read(metric, kept, tick, warm=warm) if metric.kind == "threshold" else _told(judge, metric, kept, tick, state)
        for metric, kept in zip(judge.metrics, state.metrics, strict=True)
    )
    requests = max(0.0, tick.canary.requests)
    return state.model_copy(
        update={
            "ticks": state.ticks + 1,
            "last": tick.time,
            "requests": state.requests + requests,
            "step_ticks": state.step_ticks + 1,
            "step_seconds": state.step_seconds + tick.seconds,
            "step_requests": state.step_requests + requests,
            "metrics": metrics,
        }
    )


def _more_of(pending: Tick | None, tick: Tick) -> Tick:
    """What is held back, with one tick more."""
    if pending is None:
        return tick
    arms = {}
    for name in ("canary", "stable", "baseline"):
        one, other = getattr(pending, name), getattr(tick, name)
        arms[name] = (one or other) if one is None or other is None else one.plus(other)
    return Tick(time=tick.time, seconds=pending.seconds + tick.seconds, **arms)


def _whole(state: JudgeState, *, alone: bool) -> bool:
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


def _closed(judge: Judge, state: JudgeState, *, warm: bool) -> JudgeState:
    """The state with what was held back compared."""
    if state.pending is None:
        return state
    tick, before = state.pending, state.step_compared
    canary, stable = (float(coalescing.seen(arm)) for arm in _pair(tick))
    state = _compare(judge, state.model_copy(update={"pending": None}), tick, warm=warm)
    return state.model_copy(update={"step_compared": (before[0] + canary, before[1] + stable)})


def _pair(tick: Tick) -> tuple[BatchArm, BatchArm]:
    """The canary, and stable with a baseline."""
    baseline = arm_of(tick.baseline) if tick.baseline is not None else None
    return arm_of(tick.canary), joined(arm_of(tick.stable), baseline)


def _harm_begins(judge: Judge, state: JudgeState) -> JudgeState:
    """The state after the warm-up: harm evidence starts afresh."""
    metrics = tuple(
        kept
        if metric.kind == "threshold"
        else _with(kept, pack(process.begin_harm(unpack(metric, kept)), kept.total)).model_copy(
            update={"failing": (0, 0)}
        )
        for metric, kept in zip(judge.metrics, state.metrics, strict=True)
    )
    return state.model_copy(update={"metrics": metrics})


def _compare(judge: Judge, state: JudgeState, tick: Tick, *, warm: bool) -> JudgeState:
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
    if metric.kind in FAILURES:
        return True
    settling = state.version >= VERSION and min(state.step_seconds, _counted(judge, state)) < judge.settle - _SLACK
    return not warm and not (settling and not _slow_throughout(judge, kept))


def _counted(judge: Judge, state: JudgeState) -> float:
    """Seconds since the warm-up was over; negative before."""
    return (state.last or 0.0) - (state.first or 0.0) - judge.warmup if judge.warmup > 0 else math.inf


def _slow_throughout(judge: Judge, kept: MetricState) -> bool:
    """Whether very many requests of this step were slow at some boundary at which few of stable's are."""
    if kept.step is None or kept.step.canary < SLOW_REQUESTS:
        return False
    known = past(kept)[0]
    pairs = zip(kept.step.canary_bad, known.stable_bad, strict=True)
    return known.stable > 0 and any(
        canary >= SLOW_SHARE * kept.step.canary
        and canary * known.stable >= judge.gross_ratio * stable * kept.step.canary
        for canary, stable in pairs
    )


def _gather(judge: Judge, metric: JudgeMetric, kept: MetricState, tick: Tick, *, counts: bool) -> MetricState:
    """One comparison more for a metric that gathers evidence; `counts`: also towards harm."""
    canary, stable = arm_of(tick.canary), arm_of(tick.stable)
    baseline = arm_of(tick.baseline) if judge.baseline and tick.baseline is not None else None
    gathered = process.fold(
        judge, metric, unpack(metric, kept), canary, stable, seconds=tick.seconds, harm=counts, baseline=baseline
    )
    counted, bad = process.counts(metric, joined(stable, baseline)), process.counts(metric, canary)
    packed = _with(kept, pack(gathered, add(kept.total, bad, counted)))
    if not counts:
        return packed
    fails, (whole, of_epoch) = int(bad[0][0] > 0), packed.failing
    return packed.model_copy(update={"failing": (whole + fails, of_epoch + fails)})


def _told(judge: Judge, metric: JudgeMetric, kept: MetricState, tick: Tick, state: JudgeState) -> MetricState:
    """What was known of stable's clusters before this tick, and with it: a tick does not judge itself."""
    if judge.phi is not None:
        return kept
    found = _measured(metric, kept, state.version)
    said = {"phi": tuple(np.round(found.phi * found.known, 4).tolist())}
    return kept.model_copy(update={**said, **_learn(metric, kept, [tick], state.version)})


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
        **_progress(judge, state, metric, kept, gathered, phi=phi, index=index),
        note=words.note(metric, index, kept, warm=state.warm, learns=judge.phi is None),
    )


def _progress(
    judge: Judge,
    state: JudgeState,
    metric: JudgeMetric,
    kept: MetricState,
    gathered: Process,
    *,
    phi: Counts,
    index: int,
) -> dict[str, float | None]:
    """How far the step has come, and how many requests it still lacks."""
    if state.version < VERSION:
        if metric.kind not in RELATIVE:
            return {}
        good = float(process.good(gathered, phi=phi))
        return _more(judge, metric, kept, index, phi=float(phi[index]), good=good)
    if not gathered.step_all[0].any():
        return {}
    boundaries = process.excluded(gathered, phi=phi)
    least = int(boundaries.argmin())
    needed = math.log(1 / judge.miss_budget)
    sure = (needed + math.log(exclusion.BETS.size)) * float(phi[least])
    smallest = exclusion.upper(gathered.step_bad[0, least], gathered.step_all[0, 0], sure=sure)
    lacking = max(0.0, needed - float(boundaries[least]))
    return {
        "excluded": float(boundaries[least]),
        "excluded_needed": needed,
        "smallest": round(float(smallest), 6),
        "more": _until_excluded(judge, kept, least, phi=float(phi[least]), lacking=lacking),
    }


def _until_excluded(judge: Judge, kept: MetricState, index: int, *, phi: float, lacking: float) -> float | None:
    """Canary requests still lacking, where it is like stable; None while the two cannot be compared."""
    seen = kept.step
    if lacking <= 0:
        return 0.0
    if seen is None or seen.canary <= 0 or seen.stable <= 0:
        return None
    stable = words.share(kept.total.stable_bad[index], kept.total.stable) or 0.0
    weight = seen.canary / (seen.canary + seen.stable)
    left = need.requests_to_exclude(judge, stable=stable, weight=weight, lacking=lacking, phi=phi)
    return None if left is None else round(left)


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
    return _guarded(judge, state, shown) if state.version >= VERSION else None


def _guarded(judge: Judge, state: JudgeState, shown: Sequence[Evidence]) -> Harm | None:
    """Harm by the absolute guard, whatever phi says: of all that counts so far, or of the present epoch."""
    if judge.guard_share is None:
        return None
    for metric, kept in zip(judge.metrics, state.metrics, strict=True):
        tallies = zip((kept.since, kept.recent), kept.failing, strict=True)
        for seen, failing in tallies if metric.kind in FAILURES else ():
            canary = words.share(seen.canary_bad[0], seen.canary) or 0.0
            stable = words.share(seen.stable_bad[0], seen.stable) or 0.0
            enough = seen.canary >= judge.guard_requests and seen.stable > 0 and failing >= judge.guard_failing
            if enough and canary >= judge.guard_share and canary >= judge.gross_ratio * stable:
                reason = words.guarded(metric, seen, judge.guard_share)
                return Harm(metric=metric.name, reason=reason, evidence=tuple(shown))
    return None


def _gross(judge: Judge, metric: JudgeMetric, kept: MetricState) -> bool:
    """Whether failures are so many that a warm-up can't explain them."""
    canary = words.share(kept.since.canary_bad[0], kept.since.canary) if metric.kind in FAILURES else None
    if canary is None:
        return False
    stable = words.share(kept.since.stable_bad[0], kept.since.stable) or 0.0
    return canary >= judge.gross_share and canary >= judge.gross_ratio * stable


def _end(judge: Judge, rule: StepRule, state: JudgeState, shown: Sequence[Evidence]) -> Advance | Inconclusive | None:
    if rule.limit is None:
        return None
    if state.step_seconds >= rule.hold - _SLACK and not state.warm:
        enough = state.step_requests >= rule.min_requests
        seconds, requests = state.step_seconds, state.step_requests
        if state.version < VERSION and (enough or _good(judge, shown)):
            reason = words.advance(seconds, requests, shown, by_evidence=not enough)
            return Advance(reason=reason, evidence=tuple(shown))
        if state.version >= VERSION and enough and (_excluded(shown) or _good(judge, shown)):
            return Advance(reason=words.advance_excluding(seconds, requests, shown), evidence=tuple(shown))
    if state.step_seconds >= rule.limit - _SLACK:
        reason = words.out_of_time(
            state.step_seconds, state.step_requests, rule.min_requests, shown, warm=state.warm, version=state.version
        )
        reason += words.lacking(judge, shown)
        return Inconclusive(cause="time", reason=reason, evidence=tuple(shown))
    return None


def _excluded(shown: Sequence[Evidence]) -> bool:
    """Whether harm of the size to be detected is excluded by every metric that saw requests in this step."""
    return all(found.excluded >= (found.excluded_needed or 0.0) for found in shown if found.excluded is not None)


def _good(judge: Judge, shown: Sequence[Evidence]) -> bool:
    """Whether every comparison with stable has shown that the canary is not `good_ratio` times worse."""
    relative = [found for metric, found in zip(judge.metrics, shown, strict=True) if metric.kind in RELATIVE]
    return bool(relative) and all((found.good or 0.0) >= (found.good_needed or math.inf) for found in relative)
