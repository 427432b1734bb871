"""What happens to one arm by chance: pods that restart, and bursts of failures of a single client."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from autopilot.evidence.statistics.arrays import Counts
from worlds.moment import Condition, Moment, Rows, fails_too

HORIZON = 7200.0
"""Seconds after the rollout's first tick until which events are drawn."""


def times(rng: np.random.Generator, n: int, every: float, begins: float) -> Counts:
    """When events of a Poisson process happen from `begins` until HORIZON.

    Args:
        rng: where they are drawn.
        n: number of rollouts.
        every: mean seconds between two events.
        begins: seconds after the rollout's first tick; may be negative.

    Returns:
        Ascending times, shape (n, K), with infinity behind each rollout's last one.
    """
    # So many that fewer than one rollout in 10^5 has events left over.
    mean = (HORIZON - begins) / every
    gaps = rng.exponential(every, (n, math.ceil(mean + 5 * math.sqrt(mean) + 5)))
    found = begins + np.cumsum(gaps, axis=1)
    return np.asarray(np.where(found < HORIZON, found, np.inf))


@dataclass(frozen=True)
class Restarts:
    """Pods restart by chance, in each arm independently: meanwhile, the pod's share of requests fails."""

    every: float
    """Mean seconds between two restarts in an arm."""
    seconds: float = 2.0
    pods: int = 5
    begins: float = -1800.0

    def begin(self, rng: np.random.Generator, n: int) -> Restarting:
        """Draws when they happen."""
        canary = times(rng, n, self.every, max(0.0, self.begins))
        return Restarting(self, canary, times(rng, n, self.every, self.begins))


@dataclass(slots=True)
class Restarting:
    """When pods of each arm restart, shapes (n, K)."""

    restarts: Restarts
    canary: Counts
    stable: Counts

    def act(self, moment: Moment) -> None:
        """Raises errors of the arms that have a pod down in this tick."""
        for arm, found in ((moment.canary, self.canary), (moment.stable, self.stable)):
            down = moment.covered(found, found + self.restarts.seconds).sum(axis=1)
            arm.errors = fails_too(arm.errors, np.minimum(1.0, down / self.restarts.pods))

    def keep(self, rows: Rows) -> None:
        """Goes on with these rollouts alone."""
        self.canary, self.stable = self.canary[rows], self.stable[rows]


@dataclass(frozen=True)
class Bursts:
    """Single clients send failing requests for a while.

    A client stays with the arm that its place leads to, as with a hash of its address: the canary's if the place
    (uniform between 0 and 1) is below the weight. So it falls into an arm by chance of the weight, wholly.
    """

    size: float
    """Expected requests of one burst, all of which fail."""
    seconds: float
    every: float | None = None
    """Mean seconds between two bursts; None for a single one in each rollout."""
    begins: float = 0.0
    """When bursts begin to happen; a single one happens within `within` seconds of it."""
    within: float = 240.0

    def begin(self, rng: np.random.Generator, n: int) -> Bursting:
        """Draws when they happen, and the clients' places."""
        if self.every is None:
            found = rng.uniform(self.begins, self.begins + self.within, (n, 1))
        else:
            found = times(rng, n, self.every, self.begins)
        return Bursting(self, found, rng.uniform(size=found.shape))


@dataclass(slots=True)
class Bursting:
    """When bursts happen, and the place of each one's client, shapes (n, K)."""

    bursts: Bursts
    times: Counts
    places: Counts
    mean: float = field(init=False)
    """Requests/s in a burst."""

    def __post_init__(self) -> None:
        self.mean = self.bursts.size / self.bursts.seconds

    def act(self, moment: Moment) -> None:
        """Adds the failing requests of this tick to the arm of each client."""
        now = moment.covered(self.times, self.times + self.bursts.seconds) * self.mean * moment.seconds
        if not now.any():
            return
        into_canary = self.places < moment.weight[:, None]
        _add(moment.canary, np.where(into_canary, now, 0.0).sum(axis=1))
        _add(moment.stable, np.where(into_canary, 0.0, now).sum(axis=1))

    def keep(self, rows: Rows) -> None:
        """Goes on with these rollouts alone."""
        self.times, self.places = self.times[rows], self.places[rows]


def _add(arm: Condition, requests: Counts) -> None:
    arm.extra = arm.extra + requests
