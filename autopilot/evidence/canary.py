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

No data is never good: a metric without a single reading in a step lets no step advance, whatever all others say. The
step then waits for it, at most `JudgeMetric.patience` longer than for all others, and ends as inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from autopilot.evidence import comparison, history, verdict
from autopilot.evidence.history import learned, observe, usual
from autopilot.evidence.metric_progress import every, evidence, harm_needed
from autopilot.evidence.model import Judge, JudgeMetric, StepRule, Tick, Verdict
from autopilot.evidence.state import SLACK, VERSION, JudgeState, MetricState, Tally, arm_of, fitting, pack, unpack
from autopilot.evidence.statistics import metric_process

__all__ = ("begin_step", "evidence", "harm_needed", "learned", "observe", "replay", "start", "update", "usual")
"""All that the judge's callers need; the rooms behind it are its own."""


ABORTED = frozenset({"errors", "success"})
"""Kinds for which a caller that left may be a failure."""


def start(judge: Judge, version: int = VERSION) -> JudgeState:
    """The state before the first tick of a rollout; an earlier version's for what was judged by its rules."""
    metrics = []
    for metric in judge.metrics:
        if metric.implied and version < VERSION:
            continue
        if metric.kind == "threshold":
            metrics.append(MetricState())
        else:
            none = pack(metric_process.fresh(metric), Tally())
            metrics.append(none.model_copy(update={"total": none.since}))
    return JudgeState(version=version, warm=judge.warmup > 0, metrics=tuple(metrics))


def begin_step(judge: Judge, state: JudgeState) -> JudgeState:
    """The state before a step's first tick: good evidence, counts and clock start afresh; harm evidence goes on.

    (All but the small stake on the present epoch, which ends with the step: see
    `autopilot.evidence.statistics.metric_process`.)
    """
    judge = fitting(judge, state)
    state = comparison.closed(judge, state, warm=state.warm)
    metrics = tuple(_begun(metric, kept) for metric, kept in zip(judge.metrics, state.metrics, strict=True))
    clock = {"step_ticks": 0, "step_seconds": 0.0, "step_requests": 0.0, "step_waited": 0.0}
    return state.model_copy(update={"metrics": metrics, "step_compared": (0.0, 0.0), **clock})


def _begun(metric: JudgeMetric, kept: MetricState) -> MetricState:
    kept = kept.model_copy(update={"readings": 0.0})
    if metric.kind == "threshold":
        return kept
    return comparison.kept_with(kept, pack(metric_process.begin_step(unpack(metric, kept)), kept.total))


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
    judge = fitting(judge, state)
    state = _fold(judge, rule, state, tick)
    shown = every(judge, state)
    if (harm := verdict.harm(judge, state, shown)) is not None:
        return state, harm
    ready = verdict.ready(judge, rule, state, shown)
    if ready is not None and verdict.unread(judge, state):
        state, ready = state.model_copy(update={"step_waited": state.step_waited + tick.seconds}), None
    return state, ready or verdict.end(judge, rule, state, shown)


def replay(
    judge: Judge, rule: StepRule, ticks: Iterable[Tick], state: JudgeState | None = None
) -> tuple[JudgeState, Verdict | None]:
    """Judges recorded ticks one by one, up to the first verdict."""
    state = start(judge) if state is None else state
    for tick in ticks:
        state, found = update(judge, rule, state, tick)
        if found is not None:
            return state, found
    return state, None


def _fold(judge: Judge, rule: StepRule, state: JudgeState, tick: Tick) -> JudgeState:
    counted = [
        0.0 if metric.kind == "threshold" else float(metric_process.counts(metric, arm_of(tick.canary))[1][0])
        for metric in judge.metrics
    ]  # a tick that lacks a boundary is refused at once, not when it is compared
    first = tick.time - tick.seconds if state.first is None else state.first
    warm = state.warm and tick.time - first <= judge.warmup + SLACK
    if state.warm and not warm:
        state = comparison.harm_begins(judge, comparison.closed(judge, state, warm=True))
    state = state.model_copy(update={"first": first, "warm": warm})
    if state.version < VERSION:
        state = comparison.compare(judge, state, tick, warm=warm)
    else:
        state = state.model_copy(update={"pending": comparison.more_of(state.pending, tick)})
        state = comparison.closed(judge, state, warm=warm) if comparison.whole(state, alone=rule.alone) else state
    metrics = tuple(
        _read(metric, kept, tick, warm=warm)
        if metric.kind == "threshold"
        else _told(judge, metric, kept, tick, state).model_copy(update=_seen(metric, kept, tick, more))
        for metric, kept, more in zip(judge.metrics, state.metrics, counted, strict=True)
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


def _seen(metric: JudgeMetric, kept: MetricState, tick: Tick, more: float) -> dict[str, object]:
    """What is known of the canary's tick at once, compared or not."""
    known: dict[str, object] = {"readings": kept.readings + more}
    if metric.kind in ABORTED and metric.aborts and (tick.canary.errors or tick.canary.aborts):
        failures, aborts = kept.aborts
        known["aborts"] = (failures + tick.canary.errors, aborts + tick.canary.aborts)
    return known


def _told(judge: Judge, metric: JudgeMetric, kept: MetricState, tick: Tick, state: JudgeState) -> MetricState:
    """What was known of stable's clusters before this tick, and with it: a tick does not judge itself."""
    if judge.phi is not None:
        return kept
    found = history.measured(metric, kept, state.version)
    said = {"phi": tuple(np.round(found.phi * found.known, 4).tolist())}
    return kept.model_copy(update={**said, **history.learn(metric, kept, [tick], state.version)})


def _read(metric: JudgeMetric, kept: MetricState, tick: Tick, *, warm: bool) -> MetricState:
    """One tick of a fixed threshold: only a reading counts, for either side."""
    reading = tick.readings.get(metric.name)
    if warm or reading is None or not math.isfinite(reading):
        return kept
    out = verdict.beyond(metric, reading) is not None
    return MetricState(failures=kept.failures + 1 if out else 0, reading=reading, readings=kept.readings + 1)
