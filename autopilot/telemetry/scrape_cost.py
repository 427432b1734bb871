"""What a scrape interval costs: how long a bad version goes on before anyone could see it.

A scrape shows what came before it. Harm begins somewhere between two scrapes, so that its first sample comes half an
interval later on average, and a whole one at worst; what a judge then needs to be sure is not counted here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autopilot.spec.values.units import format_seconds


@dataclass(frozen=True, slots=True)
class ScrapeCost:
    """Exposure that comes before the first sample which shows harm."""

    interval: float
    """Seconds between two scrapes."""
    rate: float
    """Requests a second to the service."""
    weight: float
    """The canary's share, percent."""

    @property
    def seconds(self) -> float:
        """Expected."""
        return self.interval / 2

    @property
    def most_seconds(self) -> float:
        """At worst, where no scrape fails."""
        return self.interval

    @property
    def requests(self) -> float:
        """The canary's requests meanwhile, expected."""
        return self.seconds * self._canary

    @property
    def most_requests(self) -> float:
        """The same at worst."""
        return self.most_seconds * self._canary

    @property
    def _canary(self) -> float:
        return self.rate * self.weight / 100

    def __str__(self) -> str:
        """The cost in one sentence."""
        every = f"Prometheus scrapes every {_said(self.interval)}"
        later = f"{_said(self.seconds)} later on average, {_said(self.most_seconds)} at worst"
        if round(self.most_requests) < 1:
            return f"{every}, so harm is seen {later}."
        met = (
            f"about {round(self.requests):,} requests reach the canary before that "
            f"({round(self.most_requests):,} at worst)"
        )
        return (
            f"{every}, so harm is seen {later}: {met}, at {self.rate:g} requests/s and a weight of {self.weight:g} %."
        )


def scrape_cost(interval: float, *, rate: float, weight: float) -> ScrapeCost:
    """What one scrape interval costs.

    Args:
        interval: seconds between two scrapes.
        rate: requests a second to the service, both arms; 0 where it is not known.
        weight: the canary's share, percent.

    Raises:
        ValueError: a number that is none of these.
    """
    if not (math.isfinite(interval) and interval > 0):
        raise ValueError(f"a scrape interval of {interval:g} s is not valid; give the seconds between two scrapes")
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"{rate:g} requests/s is not a valid rate; give 0 if it is unknown")
    if not 0 <= weight <= 100:
        raise ValueError(f"a weight of {weight:g} % is not valid; give a number between 0 and 100")
    return ScrapeCost(interval, rate, weight)


def _said(seconds: float) -> str:
    return format_seconds(round(seconds, 1) if seconds >= 1 else round(seconds, 3))
