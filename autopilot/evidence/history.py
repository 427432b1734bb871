"""What is known of stable's failures before a canary is judged by them: how they cluster, and how many are usual."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from autopilot.evidence import explanations, metric_progress
from autopilot.evidence.model import Judge, JudgeMetric, Tick
from autopilot.evidence.state import (
    VERSION,
    JudgeState,
    MetricState,
    arm_of,
    fitting,
    pack_clusters,
    pack_gauge,
    unpack_clusters,
    unpack_gauge,
)
from autopilot.evidence.statistics import clustering, dispersion, metric_process
from autopilot.evidence.statistics.dispersion import Dispersion
from autopilot.evidence.statistics.metric_process import RELATIVE


def observe(judge: Judge, state: JudgeState, ticks: Iterable[Tick]) -> JudgeState:
    """Learns from ticks before the rollout how stable's failures cluster; nothing else is kept of them.

    A replay needs the same ticks, or the state that this returned.
    """
    if judge.phi is not None:
        return state
    judge, found = fitting(judge, state), list(ticks)
    metrics = tuple(
        kept if metric.kind == "threshold" else kept.model_copy(update=learn(metric, kept, found, state.version))
        for metric, kept in zip(judge.metrics, state.metrics, strict=True)
    )
    return state.model_copy(update={"metrics": metrics})


def learned(judge: Judge, state: JudgeState) -> str:
    """What `observe` has learned so far, in words: each metric's failures, and how many of them count as one."""
    return "; ".join(
        explanations.learned(metric, measured(metric, kept, state.version), left_out=left_out(kept))
        for metric, kept in zip(fitting(judge, state).metrics, state.metrics, strict=True)
        if metric.kind != "threshold" and (not metric.implied or _counted(kept))
    )


def _counted(kept: MetricState) -> bool:
    """Whether the ticks told of the metric at all."""
    return kept.clusters is not None and any(kept.clusters.last_all)


def usual(
    judge: Judge, state: JudgeState, ticks: Sequence[Tick]
) -> list[tuple[Judge, tuple[float, ...], tuple[float, ...]]]:
    """For each metric that compares with stable, and was told of in these ticks: the judge with its margins, stable's
    shares of bad requests, and phi, by boundary.

    Args:
        judge: whose metrics.
        state: what `observe` made of the ticks.
        ticks: the same.
    """
    judge, found = fitting(judge, state), []
    for metric, kept in zip(judge.metrics, state.metrics, strict=True):
        if metric.kind not in RELATIVE:
            continue
        counted = [metric_process.counts(metric, arm_of(tick.stable)) for tick in ticks]
        bad, total = (np.sum([each[column] for each in counted], axis=0) for column in (0, 1))
        if metric.implied and not total.any():
            continue
        told = judge.phi is not None
        phi = metric_progress.phi_of(judge, metric, kept) if told else measured(metric, kept, state.version).phi
        found.append((judge.of(metric), tuple((bad / np.maximum(total, 1.0)).tolist()), tuple(phi.tolist())))
    return found


def left_out(kept: MetricState) -> float:
    """Seconds of incidents that were left out of what is known of clusters."""
    return max(kept.clusters.left_out, default=0.0) if kept.clusters is not None else 0.0


def measured(metric: JudgeMetric, kept: MetricState, version: int) -> Dispersion:
    """How stable's failures cluster, as far as the ticks tell."""
    if version < VERSION:
        return dispersion.dispersion(unpack_gauge(metric, kept.gauge))
    return clustering.dispersion(unpack_clusters(metric, kept.clusters))


def learn(metric: JudgeMetric, kept: MetricState, ticks: Sequence[Tick], version: int) -> dict[str, object]:
    """What is known of stable's clusters with some ticks more."""
    counted = [(*metric_process.counts(metric, arm_of(tick.stable)), tick.seconds) for tick in ticks]
    if version < VERSION:
        first = unpack_gauge(metric, kept.gauge)
        for bad, total, seconds in counted:
            first = dispersion.fold(first, bad, total, seconds=seconds)
        return {"gauge": pack_gauge(first)}
    gauge = unpack_clusters(metric, kept.clusters)
    for bad, total, seconds in counted:
        gauge = clustering.fold(gauge, bad, total, seconds=seconds)
    return {"clusters": pack_clusters(gauge)}
