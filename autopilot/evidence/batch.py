"""The harm evidence of many rollouts at once: for simulations of how often a judge is wrong, and how fast it is right.

The same processes as for one rollout, with a leading batch axis. Warm-up, steps and fixed thresholds belong to the
single rollout (`autopilot.evidence.canary`) and have no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autopilot.evidence import process
from autopilot.evidence.arrays import BatchTick, Counts
from autopilot.evidence.model import Judge, JudgeMetric
from autopilot.evidence.process import Process


def gathering(judge: Judge) -> tuple[JudgeMetric, ...]:
    """The metrics that gather evidence, in the judge's order: all but fixed thresholds."""
    return tuple(metric for metric in judge.metrics if metric.kind != "threshold")


def start_batch(judge: Judge, batch: tuple[int, ...]) -> tuple[Process, ...]:
    """One empty process for each of `gathering`, of shape ``batch``."""
    return tuple(process.fresh(metric, batch) for metric in gathering(judge))


def update_batch(judge: Judge, processes: Sequence[Process], tick: BatchTick) -> tuple[Process, ...]:
    """Folds one tick of all rollouts."""
    return tuple(
        process.fold(judge, metric, before, tick.canary, tick.stable, seconds=tick.seconds)
        for metric, before in zip(gathering(judge), processes, strict=True)
    )


def harm_batch(judge: Judge, processes: Sequence[Process]) -> Counts:
    """Evidence of harm, shape ``batch + (metrics,)``; compare with `autopilot.evidence.canary.harm_needed`."""
    found = [
        process.harm(judge, metric, gathered) for metric, gathered in zip(gathering(judge), processes, strict=True)
    ]
    return np.stack(found, axis=-1)
