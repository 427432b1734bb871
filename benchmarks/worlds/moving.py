"""What moves for both arms alike, or happened to stable before: rates that wander, load, incidents."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autopilot.evidence.statistics.arrays import Counts
from worlds.moment import Moment, Rows, Stateless, fails_too

DAY = 86400.0


@dataclass(frozen=True)
class Incident(Stateless):
    """An arm, or both, fails in addition for a while."""

    begins: float
    seconds: float
    share: float
    """Of the requests that would have succeeded."""
    arms: Literal["canary", "stable", "both"] = "both"

    def act(self, moment: Moment) -> None:
        """Raises the arms' errors by the part of the tick that the incident covers."""
        part = self.share * moment.covered(self.begins, self.begins + self.seconds)
        for arm in moment.arms(self.arms):
            arm.errors = fails_too(arm.errors, part)


@dataclass(frozen=True)
class Together(Stateless):
    """Requests of both arms fail, for a while after the canary's weight rose to this much (0 to 1) or more."""

    from_weight: float
    seconds: float
    share: float
    """Of the requests that would have succeeded."""

    def act(self, moment: Moment) -> None:
        """Raises both arms' errors by the part of the tick that it covers."""
        part = np.where(moment.weight >= self.from_weight, moment.fresh(self.seconds), 0.0)
        for arm in moment.arms("both"):
            arm.errors = fails_too(arm.errors, self.share * part)


@dataclass(frozen=True)
class LoadStep(Stateless):
    """The whole service gets `factor` times its requests for a while, and may become slower."""

    begins: float
    seconds: float
    factor: float
    slowdown: float = 1.0

    def act(self, moment: Moment) -> None:
        """Changes the load, and both arms' latency."""
        part = moment.covered(self.begins, self.begins + self.seconds)
        moment.load = moment.load * (1.0 + (self.factor - 1.0) * part)
        for arm in moment.arms("both"):
            arm.slowdown = arm.slowdown * (1.0 + (self.slowdown - 1.0) * part)


@dataclass(frozen=True)
class Wander:
    """A rate of both arms wanders: the exponential of an Ornstein-Uhlenbeck process, with a mean of 1."""

    what: Literal["errors", "latency"]
    deviation: float
    """Standard deviation of the logarithm: 0.3 is about +-30 %."""
    constant: float = 60.0
    """Seconds in which the correlation falls to 1/e."""

    def begin(self, rng: np.random.Generator, n: int) -> Wandering:
        """Each rollout has a path of its own, which begins in the stationary state."""
        return Wandering(self, rng, rng.standard_normal(n))


@dataclass(slots=True)
class Wandering:
    """Where each rollout's path is, in standard deviations, shape (n,)."""

    wander: Wander
    rng: np.random.Generator
    place: Counts
    time: float | None = None

    def act(self, moment: Moment) -> None:
        """Moves along the path and changes both arms alike."""
        if self.time is not None:
            kept = math.exp(-(moment.time - self.time) / self.wander.constant)
            self.place = kept * self.place + math.sqrt(1 - kept**2) * self.rng.standard_normal(self.place.size)
        self.time = moment.time
        factor = np.exp(self.wander.deviation * self.place - self.wander.deviation**2 / 2)
        for arm in moment.arms("both"):
            if self.wander.what == "errors":
                arm.errors = arm.errors * factor
            else:
                arm.slowdown = arm.slowdown * factor

    def keep(self, rows: Rows) -> None:
        """Goes on with these paths alone."""
        self.place = self.place[rows]


@dataclass(frozen=True)
class Diurnal:
    """Load and errors rise and fall with the hours; each rollout begins at an hour of its own."""

    load: float
    """Largest change of the load, as a share of its mean; below 1."""
    errors: float
    """The same for the share of errors, which moves with the load."""
    period: float = DAY

    def begin(self, rng: np.random.Generator, n: int) -> Hours:
        """Draws the hour at which each rollout begins."""
        return Hours(self, rng.uniform(0.0, 2 * math.pi, n))


@dataclass(slots=True)
class Hours:
    """The phase at which each rollout began, shape (n,)."""

    diurnal: Diurnal
    phase: Counts

    def act(self, moment: Moment) -> None:
        """Changes the load, and both arms' errors."""
        wave = np.sin(self.phase + 2 * math.pi * moment.time / self.diurnal.period)
        moment.load = moment.load * (1.0 + self.diurnal.load * wave)
        for arm in moment.arms("both"):
            arm.errors = arm.errors * (1.0 + self.diurnal.errors * wave)

    def keep(self, rows: Rows) -> None:
        """Goes on with these rollouts alone."""
        self.phase = self.phase[rows]
