"""Flagger's and Argo Rollouts' rules, each written from its documentation for the comparison alone, and all peers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autopilot.evidence.statistics.arrays import BatchArm, Counts
from worlds.kayenta import Kayenta
from worlds.model import Step, World
from worlds.moment import Rows
from worlds.rule import SLACK, Look, Rule


@dataclass(slots=True)
class Window:
    """What the canary did since the last check, shape (n,) each."""

    requests: Counts
    errors: Counts
    slow: Counts

    def add(self, canary: BatchArm) -> None:
        """Adds a tick."""
        self.requests = self.requests + canary.requests
        self.errors = self.errors + canary.errors
        if canary.slow.shape[-1]:
            self.slow = self.slow + canary.slow[..., 0]


def _empty(n: int) -> Window:
    return Window(np.zeros(n), np.zeros(n), np.zeros(n))


@dataclass(frozen=True)
class Gate:
    """A rule that checks the canary's own figures against constants, once in every interval."""

    name: str
    limit: int
    """Failed checks: Flagger's threshold, or Argo's failureLimit."""
    interval: float = 60.0
    """Seconds between two checks, and the window that each looks at."""
    errors: float = 0.01
    """A check fails above this share of errors."""
    within: float | None = None
    """Seconds within which 99 % of requests must be answered; None where latency is not looked at."""
    repeats: bool = False
    """A failed check holds the weight, and the limit is acted upon at the check after: Flagger. Else Argo."""

    def boundaries(self, world: World) -> tuple[float, ...]:
        """The one of its latency gate."""
        del world
        return () if self.within is None else (self.within,)

    def rungs(self, steps: tuple[Step, ...]) -> tuple[float, ...]:
        """A weight for each interval: a longer step is as many checks at the same weight."""
        return tuple(step.weight for step in steps for _ in range(max(1, round(step.hold / self.interval))))

    def begin(self, n: int, steps: tuple[Step, ...]) -> Checks:
        """No check has failed."""
        del steps
        return Checks(self, np.zeros(n, dtype=np.intp), _empty(n), self.interval)


@dataclass(slots=True)
class Checks:
    """Failed checks of each rollout so far, shape (n,); a success takes none back."""

    gate: Gate
    failed: Rows
    window: Window
    due: float

    def fold(self, canary: BatchArm, stable: BatchArm, time: float) -> Look | None:
        """See `worlds.rule.Judging`."""
        del stable
        self.window.add(canary)
        if time < self.due - SLACK:
            return None
        window, self.window = self.window, _empty(self.failed.size)
        self.due += self.gate.interval
        bad = np.asarray((window.requests <= 0) | (window.errors > self.gate.errors * window.requests))
        if self.gate.within is not None:
            bad |= window.slow > 0.01 * window.requests
        if self.gate.repeats:
            back = self.failed >= self.gate.limit
            self.failed = self.failed + (bad & ~back)
            return Look(back=back, up=~bad & ~back)
        self.failed = self.failed + bad
        back = self.failed > self.gate.limit
        return Look(back=back, up=~back)


def flagger(threshold: int) -> Gate:
    """Flagger's analysis with its two built-in metrics and default thresholds.

    Source: docs.flagger.app, "Canary analysis" and "Metrics analysis" (`request-success-rate` of at least 99 %,
    `request-duration` of at most 500 ms at the 99th percentile, interval 1 m), and the code of Flagger 1.44. Failed
    checks are counted over the whole run; a failed check keeps the weight; a rollback takes place at the check after
    the one that reached the threshold; a window without requests is a failed check.

    Args:
        threshold: failed checks until rollback.
    """
    return Gate(name=f"flagger-{threshold}", limit=threshold, within=0.5, repeats=True)


def argo(limit: int) -> Gate:
    """Argo Rollouts' background analysis of the error rate: `successCondition: result[0] <= 0.01`, interval 60 s.

    Source: argo-rollouts.readthedocs.io, "Analysis & progressive delivery", and the code after 1.9. The run fails when
    more than `failureLimit` measurements have failed, and aborts the rollout at once; the weight rises by the clock.
    With a success condition alone, a measurement without requests (NaN) has failed. The first measurement is taken
    after one interval (`initialDelay`), because the query's window would be empty before.

    Args:
        limit: `failureLimit`, 0 by default in Argo Rollouts.
    """
    return Gate(name=f"argo-{limit}", limit=limit)


PEERS: tuple[Rule, ...] = (flagger(1), flagger(5), argo(0), argo(3), Kayenta())
"""Every rule that ours is compared with."""
