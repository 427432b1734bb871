"""State of many rollouts by row, for `worlds.ours`: what is kept of each metric and of each step."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from autopilot.evidence.model import JudgeMetric
from autopilot.evidence.statistics import clustering, dispersion
from autopilot.evidence.statistics.arrays import BatchArm, Counts
from autopilot.evidence.statistics.metric_process import Process
from worlds.moment import Rows


@dataclass
class Watched:
    """One metric in all rollouts that still run."""

    metric: JudgeMetric
    gathered: Process
    gauge: clustering.Gauge
    read: dispersion.Dispersion
    failing: Counts
    """Comparisons in which the canary failed: since harm evidence began, and in the epoch, shape (n, 2)."""


@dataclass
class StepRows:
    """Of every rollout that runs, shape (n,)."""

    rung: Rows
    risen: Counts
    seconds: Counts
    requests: Counts
    company: Counts
    company_seconds: Counts
    compared: Counts
    compared_stable: Counts
    group_seconds: Counts
    canary: BatchArm
    """What is held back."""
    stable: BatchArm


def nothing(n: int, boundaries: int) -> BatchArm:
    """An arm without requests, shape (n,)."""
    return BatchArm(np.zeros(n), np.zeros(n), np.zeros(n), np.zeros((n, boundaries)))


def taken(each, rows):  # type: ignore[no-untyped-def]
    """Some rows of a dataclass of arrays."""
    values = {one.name: getattr(each, one.name) for one in fields(each)}
    return replace(
        each,
        **{
            name: value if value is None else value[rows] if isinstance(value, np.ndarray) else taken(value, rows)
            for name, value in values.items()
        },
    )
