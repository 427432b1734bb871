"""Latency boundaries that follow a service: the quantiles of its own latency, among the buckets that its histogram has.

A boundary says something where some requests of stable pass it and most do not. Of a service that answers in 5 ms
nothing is seen at 100 ms until it has become twenty times slower, and one that answers in 3 s is always beyond 1 s.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autopilot.telemetry.model import Counters, Observation

QUANTILES = (0.5, 0.9, 0.99, 0.999)
"""The boundaries are the buckets in which these quantiles of stable's latency lie: their upper bounds."""
LEAST = 100.0
"""Of fewer requests nothing is concluded."""


@dataclass(slots=True)
class Spread:
    """How long requests took: so many, and how many of them at most so long."""

    timed: float = 0.0
    within: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    """Requests by upper bound in seconds."""

    def boundaries(self) -> tuple[float, ...]:
        """The boundaries that these requests ask for, in seconds, rising; none where they are too few to tell."""
        if self.timed < LEAST:
            return ()
        finite = sorted(bound for bound in self.within if 0 < bound < math.inf)
        found = (
            next((bound for bound in finite if self.within[bound] >= share * self.timed), None) for share in QUANTILES
        )
        return tuple(dict.fromkeys(bound for bound in found if bound is not None))

    def add(self, counted: Counters, before: Counters | None = None) -> None:
        """Adds what one series has counted, since `before` where that is given."""
        earlier: Mapping[float, float] = dict(before.buckets) if before is not None else {}
        self.timed += counted.timed - (before.timed if before is not None else 0.0)
        for bound, number in counted.buckets:
            self.within[bound] += number - earlier.get(bound, 0.0)


def ever(look: Observation, arm: str) -> Spread:
    """How long the arm's requests took since its proxies began to count."""
    spread = Spread()
    for sample in look.samples:
        if sample.arm == arm:
            spread.add(sample.attempt)
    return spread


def lately(looks: Sequence[Observation], arm: str) -> Spread:
    """How long the arm's requests took between the first and the last of these looks."""
    spread = Spread()
    before: dict[str, Counters] = {}
    for look in looks:
        for sample in look.samples:
            if sample.arm != arm:
                continue
            earlier = before.get(sample.series)
            if earlier is not None:
                # What began anew has counted all that it says since the look before.
                spread.add(sample.attempt, earlier if sample.attempt.timed >= earlier.timed else None)
            before[sample.series] = sample.attempt
    return spread
