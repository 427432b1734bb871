"""Verdicts: harm by evidence or by the guard, and the end of a step by what it has excluded or by its time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autopilot.evidence import explanations, metric_progress
from autopilot.evidence.model import Advance, Evidence, Harm, Inconclusive, Judge, JudgeMetric, StepRule
from autopilot.evidence.state import SLACK, VERSION, JudgeState, past, unpack
from autopilot.evidence.statistics import process_evidence
from autopilot.evidence.statistics.metric_process import RELATIVE

GUARDED = frozenset({"errors", "success"})
"""Kinds under the absolute guard: how many client errors are too many, the callers decide as much as the version."""


def harm(judge: Judge, state: JudgeState, shown: Sequence[Evidence]) -> Harm | None:
    """Harm, where a metric has enough evidence of it or the guard finds it.

    Args:
        judge: how the rollout is judged.
        state: after the last tick.
        shown: what `autopilot.evidence.metric_progress` says of that state.
    """
    for metric, kept, found in zip(judge.metrics, state.metrics, shown, strict=True):
        if found.harm < found.harm_needed or (state.warm and not metric_progress.gross(judge, metric, kept)):
            continue
        if metric.kind == "threshold":
            if kept.reading is None:
                continue  # for the type checker: readings were out of bounds, so there is one
            out = beyond(metric, kept.reading)
            reason = f"{metric.name}: {explanations.reading(kept.reading)} is {out}, {kept.failures} readings in a row"
        else:
            phi = metric_progress.phi_of(judge, metric, kept)
            stakes = process_evidence.harm_by_stake(judge, metric, unpack(metric, kept), phi=phi)
            view, row, index = (int(at) for at in np.unravel_index(int(stakes.argmax()), stakes.shape))
            counted = (past(kept) if view else (kept.since, kept.recent))[row]
            reason = explanations.harm(
                metric, counted, index, found, before=view == 1, warm=state.warm
            ) + explanations.left(kept)
        return Harm(metric=metric.name, reason=reason, evidence=metric_progress.told(judge, state, shown))
    return _guarded(judge, state, shown) if state.version >= VERSION else None


def _guarded(judge: Judge, state: JudgeState, shown: Sequence[Evidence]) -> Harm | None:
    """Harm by the absolute guard, whatever phi says: of all that counts so far, or of the present epoch."""
    if judge.guard_share is None:
        return None
    for metric, kept in zip(judge.metrics, state.metrics, strict=True):
        tallies = zip((kept.since, kept.recent), kept.failing, strict=True)
        for seen, failing in tallies if metric.kind in GUARDED else ():
            canary = explanations.share(seen.canary_bad[0], seen.canary) or 0.0
            stable = explanations.share(seen.stable_bad[0], seen.stable) or 0.0
            enough = seen.canary >= judge.guard_requests and seen.stable > 0 and failing >= judge.guard_failing
            if enough and canary >= judge.guard_share and canary >= judge.gross_ratio * stable:
                reason = explanations.guarded(metric, seen, judge.guard_share) + explanations.left(kept)
                return Harm(metric=metric.name, reason=reason, evidence=metric_progress.told(judge, state, shown))
    return None


def beyond(metric: JudgeMetric, reading: float) -> str | None:
    """How a reading is out of a fixed threshold's bounds; None where it is not."""
    if metric.maximum is not None and reading > metric.maximum:
        return f"above the maximum of {metric.maximum:g}"
    if metric.minimum is not None and reading < metric.minimum:
        return f"below the minimum of {metric.minimum:g}"
    return None


def ready(judge: Judge, rule: StepRule, state: JudgeState, shown: Sequence[Evidence]) -> Advance | None:
    """The end of a step in which nothing was found, by the metrics that had readings; None while it goes on."""
    if rule.limit is None or state.warm or state.step_seconds < rule.hold - SLACK:
        return None
    relative = any(metric.kind in RELATIVE for metric in judge.metrics)
    if state.version >= VERSION and relative and state.step_compared[0] <= 0:
        return None  # what was held back until now is no comparison yet
    enough = state.step_requests >= rule.min_requests
    seconds, requests = state.step_seconds, state.step_requests
    if state.version < VERSION and (enough or _good(judge, shown)):
        reason = explanations.advance(seconds, requests, shown, by_evidence=not enough)
        return Advance(reason=reason, evidence=metric_progress.told(judge, state, shown))
    if state.version >= VERSION and enough and (_excluded(shown) or _good(judge, shown)):
        said = metric_progress.told(judge, state, shown)
        return Advance(reason=explanations.advance_excluding(seconds, requests, said), evidence=said)
    return None


def unread(judge: Judge, state: JudgeState) -> tuple[JudgeMetric, ...]:
    """The metrics without a single reading in this step: while there are any, it does not advance."""
    if state.version < VERSION:
        return ()
    pairs = zip(judge.metrics, state.metrics, strict=True)
    return tuple(metric for metric, kept in pairs if not kept.readings > 0 and not metric.implied)


def end(judge: Judge, rule: StepRule, state: JudgeState, shown: Sequence[Evidence]) -> Inconclusive | None:
    """The end of a step that cannot advance, by its time or by that of a metric without data; None while it goes on."""
    if rule.limit is None:
        return None
    late = state.step_seconds >= rule.limit - SLACK
    seconds, requests = state.step_seconds, state.step_requests
    lacking = () if state.warm else unread(judge, state)
    over = bool(lacking) and state.step_waited >= max(metric.patience for metric in lacking) - SLACK
    if late and not over:  # a metric that counts requests lacks nothing else where there were none
        lacking = tuple(metric for metric in lacking if metric.kind == "threshold" or requests > 0)
    if lacking and (late or over):
        reason = explanations.no_data(lacking, seconds, requests)
        return Inconclusive(cause="noData", reason=reason, evidence=metric_progress.told(judge, state, shown))
    if late:
        said = metric_progress.told(judge, state, shown)
        reason = explanations.out_of_time(
            seconds, requests, rule.min_requests, said, warm=state.warm, version=state.version
        )
        reason += explanations.lacking(judge, said)
        return Inconclusive(cause="time", reason=reason, evidence=metric_progress.told(judge, state, shown))
    return None


def _excluded(shown: Sequence[Evidence]) -> bool:
    """Whether harm of the size to be detected is excluded by every metric that saw requests in this step."""
    return all(found.excluded >= (found.excluded_needed or 0.0) for found in shown if found.excluded is not None)


def _good(judge: Judge, shown: Sequence[Evidence]) -> bool:
    """Whether every comparison with stable has shown that the canary is not `good_ratio` times worse."""
    relative = [pair for pair in zip(judge.metrics, shown, strict=True) if pair[0].kind in RELATIVE]
    return bool(relative) and all(_enough(*pair) for pair in relative)


def _enough(metric: JudgeMetric, found: Evidence) -> bool:
    """Whether a metric has shown the canary to be good; of one that the spec does not name, less is enough."""
    if metric.implied and (found.excluded is None or found.excluded >= (found.excluded_needed or 0.0)):
        return True
    return (found.good or 0.0) >= (found.good_needed or math.inf)
