"""How far each metric has come: the evidence that people see, and that verdicts are based on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autopilot.evidence import explanations
from autopilot.evidence.model import Evidence, Judge, JudgeMetric
from autopilot.evidence.state import VERSION, JudgeState, MetricState, fitting, unpack
from autopilot.evidence.statistics import dispersion, exclusion, metric_process, process_evidence, sample_size
from autopilot.evidence.statistics.arrays import Counts
from autopilot.evidence.statistics.eprocess import log_mean
from autopilot.evidence.statistics.metric_process import FAILURES, RELATIVE, Process


def evidence(judge: Judge, state: JudgeState) -> tuple[Evidence, ...]:
    """How far each metric has come, in the judge's order.

    Evidence below 0 speaks against harm, and is shown as 0.
    """
    return told(judge, state, every(judge, state))


def every(judge: Judge, state: JudgeState) -> tuple[Evidence, ...]:
    """The same of all metrics: one for each."""
    judge = fitting(judge, state)
    return tuple(_evidence(judge, state, *pair) for pair in zip(judge.metrics, state.metrics, strict=True))


def told(judge: Judge, state: JudgeState, shown: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """Without metrics that the spec does not name and the source does not tell."""
    each = zip(fitting(judge, state).metrics, state.metrics, shown, strict=True)
    return tuple(found for metric, kept, found in each if not metric.implied or kept.total.canary or kept.total.stable)


def harm_needed(judge: Judge, metric: JudgeMetric) -> float:
    """Evidence at which a metric alarms: ``ln 1/(alpha w_m)``, and ln 2 more where it is judged in the warm-up too."""
    spent = sum(other.weight for other in judge.metrics if other.kind != "threshold")
    halves = 2.0 if judge.warmup > 0 and metric.kind in FAILURES else 1.0
    return math.log(halves * spent / (judge.alpha * metric.weight))


def phi_of(judge: Judge, metric: JudgeMetric, kept: MetricState) -> Counts:
    """What evidence is divided by, shape ``(B,)``: until stable has failed often enough, gross harm waits for less.

    So does any where a baseline guards, which needs no phi.
    """
    wide = metric_process.width(metric)
    if judge.phi is not None:
        return np.full(wide, judge.phi)
    unknown = dispersion.GROSS if gross(judge, metric, kept) else dispersion.PRIOR
    unknown = dispersion.FLOOR if kept.sign else unknown
    said = np.asarray(kept.phi or (0.0,) * wide)
    return np.where(said > 0, said, unknown)


def gross(judge: Judge, metric: JudgeMetric, kept: MetricState) -> bool:
    """Whether failures are so many that a warm-up can't explain them."""
    canary = explanations.share(kept.since.canary_bad[0], kept.since.canary) if metric.kind in FAILURES else None
    if canary is None:
        return False
    stable = explanations.share(kept.since.stable_bad[0], kept.since.stable) or 0.0
    return canary >= judge.gross_share and canary >= judge.gross_ratio * stable


def _evidence(judge: Judge, state: JudgeState, metric: JudgeMetric, kept: MetricState) -> Evidence:
    if metric.kind == "threshold":
        note = "" if kept.reading is None else f"last reading {explanations.reading(kept.reading)}"
        if state.version >= VERSION and not kept.readings:
            note += ("; " if note else "") + "no reading in this step"
        return Evidence(metric=metric.name, harm=kept.failures, harm_needed=metric.failures, note=note)
    gathered = unpack(metric, kept)
    relative = metric.kind in RELATIVE
    phi = phi_of(judge, metric, kept)
    boundaries = process_evidence.harm_by_boundary(judge, metric, gathered, phi=phi)
    index = int(boundaries.argmax())
    return Evidence(
        metric=metric.name,
        harm=max(0.0, float(log_mean(boundaries))),
        harm_needed=harm_needed(judge, metric),
        good=max(0.0, float(process_evidence.good(gathered, phi=phi))) if relative else None,
        good_needed=math.log(1 / judge.beta) if relative else None,
        canary=explanations.share(kept.total.canary_bad[index], kept.total.canary),
        stable=explanations.share(kept.total.stable_bad[index], kept.total.stable),
        phi=None if judge.phi is not None else float(phi[index]),
        **_progress(judge, state, metric, kept, gathered, phi=phi, index=index),
        note=_note(judge, state, metric, kept, index),
    )


def _note(judge: Judge, state: JudgeState, metric: JudgeMetric, kept: MetricState, index: int) -> str:
    said = explanations.note(metric, index, kept, warm=state.warm, learns=judge.phi is None)
    if state.version < VERSION or metric.kind not in {"latency", "within"} or kept.readings or not state.step_requests:
        return said
    unseen = "no canary request of this step is in a latency histogram"
    return f"{unseen}; {said}" if said else unseen


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
        good = float(process_evidence.good(gathered, phi=phi))
        return _more(judge, metric, kept, index, phi=float(phi[index]), good=good)
    if not gathered.step_all[0].any():
        return {}
    boundaries = process_evidence.excluded(gathered, phi=phi)
    least = int(boundaries.argmin())
    needed = math.log(1 / judge.miss_budget)
    sure = (needed + math.log(exclusion.BETS.size)) * float(phi[least])
    smallest = exclusion.upper(gathered.step_bad[0, least], gathered.step_all[0, 0], sure=sure)
    lacking = max(0.0, needed - float(boundaries[least]))
    return {
        "excluded": float(boundaries[least]),
        "excluded_needed": needed,
        "smallest": round(float(smallest), 6),
        "more": _until_excluded(judge.of(metric), kept, least, phi=float(phi[least]), lacking=lacking),
    }


def _until_excluded(judge: Judge, kept: MetricState, index: int, *, phi: float, lacking: float) -> float | None:
    """Canary requests still lacking, where it is like stable; None while the two cannot be compared."""
    seen = kept.step
    if lacking <= 0:
        return 0.0
    if seen is None or seen.canary <= 0 or seen.stable <= 0:
        return None
    stable = explanations.share(kept.total.stable_bad[index], kept.total.stable) or 0.0
    weight = seen.canary / (seen.canary + seen.stable)
    left = sample_size.requests_to_exclude(judge, stable=stable, weight=weight, lacking=lacking, phi=phi)
    return None if left is None else round(left)


def _more(
    judge: Judge, metric: JudgeMetric, kept: MetricState, index: int, *, phi: float, good: float
) -> dict[str, float | None]:
    """Requests still lacking, at the rates and the weight seen so far; nothing while stable is silent."""
    seen = kept.recent
    stable = explanations.share(kept.total.stable_bad[index], kept.total.stable)
    if stable is None or seen.canary <= 0 or seen.stable <= 0:
        return {}
    weight = seen.canary / (seen.canary + seen.stable)
    total = sample_size.requests_needed(judge, stable=stable, weight=weight, needed=harm_needed(judge, metric), phi=phi)
    lacking = math.log(1 / judge.beta) - good
    left = sample_size.requests_to_good(judge, stable=stable, weight=weight, lacking=max(0.0, lacking), phi=phi)
    return {
        "more": None if total is None else round(max(0.0, total - kept.since.canary)),
        "good_more": left if left is None or lacking > 0 else 0.0,
    }
