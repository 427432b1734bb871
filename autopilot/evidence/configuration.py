"""From what a user writes under `analysis` to what the judge computes with."""

from __future__ import annotations

from autopilot.evidence.model import Judge, JudgeMetric
from autopilot.spec.canary import (
    Analysis,
    ClientErrorRate,
    ErrorRate,
    Latency,
    LatencyObjective,
    Metric,
    PromQL,
    SuccessRate,
)

UNKNOWN = (0.1, 0.25, 0.5, 1.0, 2.5)
"""Latency boundaries in seconds where the spec names none and nothing is known of stable's latency."""


def open_boundaries(analysis: Analysis) -> bool:
    """Whether stable's own latency decides at which boundaries it is compared."""
    return any(isinstance(metric, Latency) and metric.boundaries is None for metric in analysis.metrics)


def with_boundaries(analysis: Analysis, found: tuple[float, ...]) -> Analysis:
    """The analysis with these boundaries where the spec names none."""
    metrics = tuple(
        metric.model_copy(update={"boundaries": found})
        if isinstance(metric, Latency) and metric.boundaries is None
        else metric
        for metric in analysis.metrics
    )
    return analysis.model_copy(update={"metrics": metrics})


def boundaries_of(analysis: Analysis) -> tuple[float, ...]:
    """Every latency boundary that any metric needs, in seconds, rising: the order of `ArmTick.slow`."""
    found: set[float] = set()
    for metric in analysis.metrics:
        if isinstance(metric, Latency):
            found.update(metric.boundaries or UNKNOWN)
        elif isinstance(metric, LatencyObjective):
            found.add(metric.within)
    return tuple(sorted(found))


def judge_from(analysis: Analysis) -> Judge:
    """The judge that an analysis asks for; indices of boundaries refer to `boundaries_of`."""
    order = boundaries_of(analysis)
    return Judge(
        metrics=(*(_judged(metric, order, analysis) for metric in analysis.metrics), *implied(analysis)),
        alpha=analysis.alpha,
        beta=analysis.beta,
        ratio=analysis.margin.ratio,
        absolute=analysis.margin.absolute,
        good_ratio=analysis.good_ratio,
        warmup=analysis.warmup,
        phi=analysis.dispersion,
        detect=analysis.detect,
        detect_absolute=analysis.detect_absolute,
        miss_budget=analysis.miss_budget,
        settle=analysis.settle,
        guard_share=analysis.guard.share if analysis.guard else None,
        guard_requests=analysis.guard.requests if analysis.guard else 0.0,
        baseline=analysis.baseline != "none",
    )


def _metric(metric: Metric, order: tuple[float, ...]) -> JudgeMetric:
    match metric:
        case ErrorRate():
            return JudgeMetric(name=metric.name, kind="errors", weight=metric.weight)
        case Latency():
            seconds = tuple(sorted(set(metric.boundaries or UNKNOWN)))
            indices = tuple(order.index(boundary) for boundary in seconds)
            return JudgeMetric(
                name=metric.name, kind="latency", weight=metric.weight, boundaries=indices, seconds=seconds
            )
        case ClientErrorRate():
            return JudgeMetric(
                name=metric.name,
                kind="clientErrors",
                weight=metric.weight,
                ratio=metric.margin.ratio,
                absolute=metric.margin.absolute,
                detect=metric.detect,
                detect_absolute=metric.detect_absolute,
            )
        case SuccessRate():
            return JudgeMetric(name=metric.name, kind="success", weight=metric.weight, objective=metric.objective)
        case LatencyObjective():
            return JudgeMetric(
                name=metric.name,
                kind="within",
                weight=metric.weight,
                boundaries=(order.index(metric.within),),
                seconds=(metric.within,),
                objective=metric.objective,
            )
        case _:
            return JudgeMetric(
                name=metric.name,
                kind="threshold",
                maximum=metric.max,
                minimum=metric.min,
                failures=metric.failures,
                asked=metric.query,
            )


def _judged(metric: Metric, order: tuple[float, ...], analysis: Analysis) -> JudgeMetric:
    """With how long a step waits for its first reading: no query is said to have no value before it was tried again."""
    interval = metric.interval if isinstance(metric, PromQL) else 0.0
    also = {"patience": max(analysis.no_data.after, interval), "aborts": analysis.errors.caller_aborts == "count"}
    return _metric(metric, order).model_copy(update=also)


def implied(analysis: Analysis) -> tuple[JudgeMetric, ...]:
    """Client errors, wherever errors are compared: so the judge sees a version that refuses everybody."""
    named = {metric.name for metric in analysis.metrics}
    kinds = [type(metric) for metric in analysis.metrics]
    if analysis.errors.client_errors == "ignore" or ErrorRate not in kinds or ClientErrorRate in kinds:
        return ()
    own = ClientErrorRate()
    name = own.name if own.name not in named else f"{own.name}-compared"
    sizes = {
        "ratio": max(own.margin.ratio, analysis.margin.ratio),
        "absolute": max(own.margin.absolute, analysis.margin.absolute),
        "detect": max(own.detect, analysis.detect),
        "detect_absolute": max(own.detect_absolute, analysis.detect_absolute),
    }  # so that no step takes longer for a metric that nobody asked for than for what was asked
    return (_metric(own, ()).model_copy(update={"name": name, "implied": True, **sizes}),)
