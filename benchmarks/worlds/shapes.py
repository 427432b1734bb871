"""How long requests take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtr, ndtri

from autopilot.evidence.statistics.arrays import Counts


class Shape(Protocol):
    """The distribution of a healthy service's latency."""

    def slower(self, boundaries: Counts, slowdown: Counts) -> Counts:
        """The share of requests that take longer than each boundary.

        Args:
            boundaries: seconds, shape (B,).
            slowdown: factor of every request's duration, shape (n,).

        Returns:
            Shares, shape (n, B).
        """
        ...

    def quantile(self, share: float) -> float:
        """The seconds within which this share of requests is answered, at the usual latency."""
        ...


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Latency whose logarithm is normal."""

    median: float
    """Seconds."""
    sigma: float = 1.0
    """Standard deviation of the natural logarithm."""

    def slower(self, boundaries: Counts, slowdown: Counts) -> Counts:
        """See `Shape`."""
        above = np.log(boundaries) - math.log(self.median) - np.log(slowdown)[..., None]
        return np.asarray(ndtr(-above / self.sigma))

    def quantile(self, share: float) -> float:
        """See `Shape`."""
        return float(self.median * math.exp(self.sigma * float(ndtri(share))))
