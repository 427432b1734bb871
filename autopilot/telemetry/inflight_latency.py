"""Requests that are late already, though no histogram shows them: those that are still open.

Envoy's latency histogram holds what was answered in full. A request that hangs is in none of its counters but two: it
has begun, and it is under way. Judged by the histogram alone, a version that never answers is one without latency.

For one series, a look at time t, and a boundary b in seconds: of `active(t)` requests under way at most
`begun(t) - begun(t - b)` are younger than b; the others have been open for longer, they are *overdue*. What is under
way at every look since watching began may be as old as the proxy and is not held against anyone.

That is a lower bound, and a lower bound alone would be unfair: in a service with requests that stay open for long
(streams, a dependency that hangs for some), a fresh canary fills up with them before stable's eyes, whose own come and
go at a constant number. So the canary's overdue requests count only as far as they are more than its share of what
stable has open now, and of what all arms had open when watching began, plus `DOUBT` standard deviations.

The sums of answered late requests and overdue ones are made to grow only. The canary's is a lower bound of the truth:
a hung request counts once, when it is overdue, and not again when it is answered late in the end. Stable's adds both.

Limits: a caller that leaves before its request was overdue at a look says nothing; where few of many requests hang, the
younger ones hide them until they end. What ended without an answer (resets, timeouts) is in no histogram, and counts as
an error instead: no lower bound of it is as tight for a small arm as for a large one, and so none is fair.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from autopilot.telemetry.model import SeriesSample

RACE = 1.0
"""Requests that may begin while one look is taken: counters are not read at one instant."""

DOUBT = 3.0
"""Standard deviations by which open requests must exceed the canary's share of them."""


@dataclass(slots=True)
class Open:
    """One series' requests under way since its base: the first look, or noughts when it did not exist yet."""

    base: SeriesSample
    latest: SeriesSample = field(init=False)
    _looks: deque[SeriesSample] = field(default_factory=deque)
    _always: float = 0.0
    """Fewest requests under way at any look."""

    def __post_init__(self) -> None:
        self.latest = self.base
        self._looks.append(self.base)
        self._always = self.base.active

    @property
    def begun(self) -> float:
        """Requests begun since the base."""
        if self.latest.begun is None or self.base.begun is None:
            return 0.0
        return max(0.0, self.latest.begun - self.base.begun)

    def look(self, sample: SeriesSample, longest: float) -> None:
        """Takes the next look, and forgets those that no boundary up to `longest` needs."""
        self.latest = sample
        self._always = min(self._always, sample.active)
        self._looks.append(sample)
        while len(self._looks) > 1 and self._looks[1].time <= sample.time - sample.took - longest:
            self._looks.popleft()

    def overdue(self, seconds: float) -> float:
        """At least so many of the requests under way have been open for longer than that."""
        now = self.latest
        before = now.time - now.took - seconds
        past = next((look for look in reversed(self._looks) if look.time <= before), None)
        if past is None or past.begun is None or now.begun is None:
            return 0.0
        return max(0.0, now.active - self._always - max(0.0, now.begun - past.begun) - RACE)


def expected(canary: Sequence[Open], others: Sequence[Open]) -> float:
    """At most so many requests would a canary have open that is like the others, doubt included; a whole number."""
    mine, theirs = sum(one.begun for one in canary), sum(one.begun for one in others)
    if not mine:
        return 0.0
    before = sum(one.base.active for one in (*canary, *others))
    share = mine / (mine + theirs)
    found = [_most(share * (before + 1), share)]
    if theirs:
        ratio = mine / theirs
        found.append(_most(ratio * (sum(one.latest.active for one in others) + 1), ratio))
    return float(math.ceil(max(found)))


def _most(mean: float, ratio: float) -> float:
    """Upper bound of a count whose mean is `ratio` times another count: both are Poisson's."""
    return mean + DOUBT * math.sqrt(mean * (1 + ratio))


@dataclass(slots=True)
class Late:
    """What is known of one arm since watching began: totals that only grow."""

    lenient: bool
    """A lower bound, for an arm on trial; else answered and overdue add up."""
    _timed: float = 0.0
    _answered: list[float] = field(default_factory=list)
    _late: list[float] = field(default_factory=list)
    _overdue: list[float] = field(default_factory=list)
    _decided: float = 0.0

    def fold(self, timed: float, slow: Sequence[float], overdue: Sequence[float]) -> tuple[float, tuple[float, ...]]:
        """Takes what the histogram says of one tick, and what is overdue at its end.

        Args:
            timed: requests answered in this tick.
            slow: of these, those slower than each boundary.
            overdue: requests open for longer than each boundary now.

        Returns:
            Requests that became known to be in time or late in this tick, and of these those late at each boundary.
            Where hardly anything else is decided meanwhile, one that becomes late at several boundaries in turn counts
            in the first each time.
        """
        nothing = [0.0] * len(slow)
        self._timed += timed
        self._answered = [before + more for before, more in zip(self._answered or nothing, slow, strict=True)]
        self._overdue = [max(pair) for pair in zip(self._overdue or nothing, overdue, strict=True)]
        open_ones = overdue if self.lenient else self._overdue
        found = [answered + waiting for answered, waiting in zip(self._answered, open_ones, strict=True)]
        before = self._late or nothing
        self._late = [max(pair) for pair in zip(before, found, strict=True)]
        growth = tuple(now - then for now, then in zip(self._late, before, strict=True))
        in_time = [self._timed - answered for answered in self._answered]
        known = max((late + quick for late, quick in zip(self._late, in_time, strict=True)), default=self._timed)
        more = max(0.0, known - self._decided, *growth)
        self._decided += more
        return more, growth
