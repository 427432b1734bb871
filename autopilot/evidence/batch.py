"""The harm evidence of many rollouts at once: for simulations of how often a judge is wrong, and how fast it is right.

The same processes as for one rollout, with a leading batch axis. Warm-up, steps and fixed thresholds belong to the
single rollout (`autopilot.evidence.canary`) and have no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from autopilot.evidence.model import Judge, JudgeMetric
from autopilot.evidence.statistics import dispersion, metric_process, process_evidence
from autopilot.evidence.statistics.arrays import BatchArm, BatchTick, Counts
from autopilot.evidence.statistics.dispersion import Gauge
from autopilot.evidence.statistics.metric_process import Process


def gathering(judge: Judge) -> tuple[JudgeMetric, ...]:
    """The metrics that gather evidence, in the judge's order: all but fixed thresholds."""
    return tuple(metric for metric in judge.metrics if metric.kind != "threshold")


def start_batch(judge: Judge, batch: tuple[int, ...]) -> tuple[Process, ...]:
    """One empty process for each of `gathering`, of shape ``batch``."""
    return tuple(metric_process.fresh(metric, batch) for metric in gathering(judge))


def update_batch(judge: Judge, processes: Sequence[Process], tick: BatchTick) -> tuple[Process, ...]:
    """Folds one tick of all rollouts."""
    return tuple(
        metric_process.fold(
            judge, metric, before, tick.canary, tick.stable, seconds=tick.seconds, baseline=tick.baseline
        )
        for metric, before in zip(gathering(judge), processes, strict=True)
    )


def start_gauges(judge: Judge, batch: tuple[int, ...]) -> tuple[Gauge, ...]:
    """One gauge of stable's dispersion for each of `gathering`, of shape ``batch``."""
    return tuple(dispersion.fresh(metric_process.width(metric), batch) for metric in gathering(judge))


def update_gauges(judge: Judge, gauges: Sequence[Gauge], stable: BatchArm, *, seconds: float) -> tuple[Gauge, ...]:
    """Folds stable's ticks of all rollouts."""
    return tuple(
        dispersion.fold(gauge, *metric_process.counts(metric, stable), seconds=seconds)
        for metric, gauge in zip(gathering(judge), gauges, strict=True)
    )


def take(gathered: Process, rows: NDArray[np.intp]) -> Process:
    """The processes of some rollouts: ``rows`` indexes the leading axis."""
    return Process(**{field.name: getattr(gathered, field.name)[rows] for field in fields(gathered)})


def harm_batch(judge: Judge, processes: Sequence[Process], phi: Sequence[Counts] | None = None) -> Counts:
    """Evidence of harm, shape ``batch + (metrics,)``; compare with `autopilot.evidence.canary.harm_needed`.

    Args:
        judge: how all of them are judged.
        processes: what they have gathered.
        phi: for each of `gathering` the dispersion of its failures, shape ``batch + (B,)``; none for 1.
    """
    scales = [metric_process.SINGLE] * len(processes) if phi is None else phi
    found = [
        process_evidence.harm(judge, metric, gathered, phi=scale)
        for metric, gathered, scale in zip(gathering(judge), processes, scales, strict=True)
    ]
    return np.stack(found, axis=-1)
