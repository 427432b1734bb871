"""What only the canary does: constant harm, harm that begins late, cold starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from worlds.moment import Moment, Stateless, fails_too


@dataclass(frozen=True)
class Failing(Stateless):
    """The canary fails with this share, or as stable does if that is more."""

    share: float
    begins: float = -math.inf
    from_weight: float = 0.0
    """Only at this weight (0 to 1) or more."""

    def act(self, moment: Moment) -> None:
        """Sets the canary's errors for the part of the tick in which it fails."""
        part = np.where(moment.weight >= self.from_weight, moment.covered(self.begins, math.inf), 0.0)
        usual = moment.canary.errors
        moment.canary.errors = (1.0 - part) * usual + part * np.maximum(usual, self.share)


@dataclass(frozen=True)
class Times(Stateless):
    """The canary's errors are this many times those it would have had; its requests take so much longer."""

    errors: float = 1.0
    slowdown: float = 1.0

    def act(self, moment: Moment) -> None:
        """Multiplies."""
        moment.canary.errors = np.minimum(1.0, self.errors * moment.canary.errors)
        moment.canary.slowdown = moment.canary.slowdown * self.slowdown


@dataclass(frozen=True)
class Leak(Stateless):
    """The canary's errors rise in a straight line from the rollout's begin on, and stay."""

    share: float
    """What they come to."""
    seconds: float

    def act(self, moment: Moment) -> None:
        """Sets the canary's errors, by the middle of the tick."""
        done = min(1.0, max(0.0, (moment.time + moment.seconds / 2) / self.seconds))
        usual = moment.canary.errors
        moment.canary.errors = usual + np.maximum(0.0, self.share - usual) * done


@dataclass(frozen=True)
class Cold(Stateless):
    """A canary that is slow, or fails in addition, just after it began or after every rise of its weight."""

    seconds: float
    slowdown: float = 1.0
    errors: float = 0.0
    every_step: bool = False

    def act(self, moment: Moment) -> None:
        """Changes the canary for the part of the tick in which it is cold."""
        part = moment.fresh(self.seconds) if self.every_step else moment.covered(0.0, self.seconds)
        moment.canary.errors = fails_too(moment.canary.errors, self.errors * part)
        moment.canary.slowdown = moment.canary.slowdown * (1.0 + (self.slowdown - 1.0) * part)
