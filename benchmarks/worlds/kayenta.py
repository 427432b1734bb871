"""Kayenta's judge, written from its documented rule for the comparison alone.

Source: spinnaker.io, "Canary judge" and "Configure a canary", and the code of NetflixACAJudge-v1.0 and its Mann-Whitney
classifier. Every 10 s make a point of each arm: the share of requests that failed, and the share that took longer than
the service's usual 90th percentile. A metric is High, and has failed, if the lower end of the confidence interval
(98 %) of the shift from stable's points to the canary's is above a quarter of the estimated shift, and the ratio of the
means is at least 1 (the default limit of the effect). `direction: increase`; points without requests are removed
(`nanStrategy: remove`); outliers are kept. The score is the share of metrics that passed, times 100; half or more
metrics without data score 0. At the end of each step all points since the begin are judged (`lookback` 0): a score of
at most 50 (`marginal`) ends the rollout, and the last one must be at least 75 (`pass`).

With a growing window, harm that begins late is diluted by the points before it, until more than half of the pairs have
it: that is the rule, and the reason why it finds little of it.

The interval's ends are order statistics of the pairwise differences, by the normal approximation without its
correction for ties; Kayenta finds the same ends as roots of the approximate statistic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtri

from autopilot.evidence.statistics.arrays import BatchArm, Counts
from worlds.model import Step, World
from worlds.moment import Flags
from worlds.rule import SLACK, Look


@dataclass(frozen=True)
class Kayenta:
    """The rule's settings, which are its defaults."""

    name: str = "kayenta"
    point: float = 10.0
    """Seconds of one point."""
    confidence: float = 0.98
    tolerance: float = 0.25
    """Share of the estimated shift that the interval must exceed."""
    effect: float = 1.0
    """Least ratio of the means."""
    marginal: float = 50.0
    passing: float = 75.0

    def boundaries(self, world: World) -> tuple[float, ...]:
        """The usual 90th percentile."""
        return (world.shape.quantile(0.9),)

    def rungs(self, steps: tuple[Step, ...]) -> tuple[float, ...]:
        """One weight for each step."""
        return tuple(step.weight for step in steps)

    def begin(self, n: int, steps: tuple[Step, ...]) -> Series:
        """No points yet."""
        ends, time = [], 0.0
        for step in steps:
            time += step.hold
            ends.append(time)
        return Series(self, ends, n, self.point)


@dataclass(slots=True)
class Series:
    """The points of both arms so far; all rollouts that run are at the same step."""

    rule: Kayenta
    ends: list[float]
    """Seconds at which steps end, ascending."""
    n: int
    due: float
    open: list[tuple[BatchArm, BatchArm]] = field(default_factory=list)
    """Ticks of the point that is not over."""
    canary: list[Counts] = field(default_factory=list)
    """Points of (errors, latency), shape (2, n) each; NaN without requests."""
    stable: list[Counts] = field(default_factory=list)

    def fold(self, canary: BatchArm, stable: BatchArm, time: float) -> Look | None:
        """See `worlds.rule.Judging`."""
        self.open.append((canary, stable))
        if time < self.due - SLACK:
            return None
        arms, self.open = self.open, []
        self.due += self.rule.point
        self.canary.append(_point([canary for canary, _ in arms]))
        self.stable.append(_point([stable for _, stable in arms]))
        if not self.ends or time < self.ends[0] - SLACK:
            return None
        self.ends.pop(0)
        return self._judged(last=not self.ends)

    def _judged(self, *, last: bool) -> Look:
        canary, stable = np.stack(self.canary, axis=-1), np.stack(self.stable, axis=-1)
        passed = np.zeros(self.n)
        silent = np.zeros(self.n, dtype=np.intp)
        for metric in (0, 1):
            high, nodata = mann_whitney(self.rule, canary[metric], stable[metric])
            passed += ~high & ~nodata
            silent += nodata
        # Half of two metrics is one.
        score = np.where(silent >= 1, 0.0, 100.0 * passed / 2)
        back = score < self.rule.passing if last else score <= self.rule.marginal
        return Look(back=np.asarray(back), up=~np.asarray(back))


def _point(arms: list[BatchArm]) -> Counts:
    requests = np.sum([arm.requests for arm in arms], axis=0)
    bad = np.stack([np.sum([arm.errors for arm in arms], axis=0), np.sum([arm.slow[..., 0] for arm in arms], axis=0)])
    return np.asarray(np.divide(bad, requests, out=np.full(bad.shape, np.nan), where=requests > 0))


def mann_whitney(rule: Kayenta, canary: Counts, stable: Counts) -> tuple[Flags, Flags]:
    """Which rollouts' metric is High, and which have no data.

    Args:
        rule: confidence, tolerance and effect.
        canary: its points, shape (n, K), NaN where there are none.
        stable: stable's points, the same.

    Returns:
        High, and without data, shape (n,) each.
    """
    n = canary.shape[0]
    of_canary, of_stable = (~np.isnan(canary)).sum(axis=1), (~np.isnan(stable)).sum(axis=1)
    nodata = (of_canary == 0) | (of_stable == 0)
    pairs = of_canary * of_stable
    shifts = np.sort((canary[:, :, None] - stable[:, None, :]).reshape(n, -1), axis=1)  # NaN comes last.
    deviation = np.sqrt(pairs * (of_canary + of_stable + 1) / 12.0)
    lower = np.floor(pairs / 2.0 - ndtri(0.5 + rule.confidence / 2) * deviation).astype(int)
    rows = np.arange(n)
    # Too few points have an interval without ends.
    low = np.where(lower >= 1, shifts[rows, np.maximum(lower, 1) - 1], -math.inf)
    middle = np.maximum(pairs - 1, 0)
    estimate = (shifts[rows, middle // 2] + shifts[rows, (middle + 1) // 2]) / 2
    means = [np.nansum(points, axis=1) / np.maximum(count, 1) for points, count in
             ((canary, of_canary), (stable, of_stable))]  # fmt: skip
    effect = means[0] >= rule.effect * means[1]
    high = ~nodata & effect & (low > rule.tolerance * np.abs(estimate))
    return np.asarray(high), np.asarray(nodata)
