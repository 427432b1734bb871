"""One tick of many rollouts, before requests are drawn: what is expected of each arm, and who may change it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from autopilot.evidence.statistics.arrays import Counts

Flags = NDArray[np.bool_]
Rows = NDArray[np.intp]
"""Positions of rollouts."""


@dataclass(slots=True)
class Condition:
    """How one arm does in a tick. All arrays have shape (n,)."""

    errors: Counts
    """Chance that a request fails."""
    slowdown: Counts
    """How many times longer requests take than at the service's usual latency."""
    extra: Counts
    """Expected failing requests besides those of the service's own rate."""


@dataclass(slots=True)
class Moment:
    """A tick that begins `time` seconds after the rollout's first one; before the rollout, `time` is negative."""

    time: float
    seconds: float
    """How long the tick is."""
    weight: Counts
    """The canary's share of the traffic, 0 to 1, shape (n,)."""
    into: Counts
    """Seconds since each rollout's weight last rose, shape (n,)."""
    load: Counts
    """Factor of the service's usual request rate, shape (n,)."""
    canary: Condition
    stable: Condition

    def covered(self, begin: float | Counts, end: float | Counts) -> Counts:
        """The share of the tick that lies between two times; shape of the arguments, () for numbers."""
        inside = np.minimum(self.time + self.seconds, end) - np.maximum(self.time, begin)
        return np.asarray(np.clip(inside, 0.0, self.seconds) / self.seconds)

    def fresh(self, seconds: float) -> Counts:
        """The share of the tick in which the last rise of the weight is less than `seconds` ago, shape (n,)."""
        return np.asarray(np.clip((seconds - self.into) / self.seconds, 0.0, 1.0))

    def arms(self, which: str) -> tuple[Condition, ...]:
        """The arms called "canary", "stable" or "both"."""
        return {"canary": (self.canary,), "stable": (self.stable,), "both": (self.canary, self.stable)}[which]


def fails_too(errors: Counts, share: float | Counts) -> Counts:
    """The chance of failure where requests also fail for another reason, independently, with chance `share`."""
    return np.asarray(errors + (1.0 - errors) * share)


class Acting(Protocol):
    """An influence in one run of n rollouts; it holds what persists between ticks."""

    def act(self, moment: Moment) -> None:
        """Changes the moment in place; moments come in the order of time."""
        ...

    def keep(self, rows: Rows) -> None:
        """Goes on with these rollouts alone."""
        ...


class Influence(Protocol):
    """Something that changes how arms do."""

    def begin(self, rng: np.random.Generator, n: int) -> Acting:
        """The influence in a new run of n rollouts."""
        ...


class Stateless:
    """An influence for which only the moment counts."""

    def begin(self, rng: np.random.Generator, n: int) -> Self:
        """The influence itself."""
        del rng, n
        return self

    def keep(self, rows: Rows) -> None:
        """Nothing is kept by rollout."""
