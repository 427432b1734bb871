"""Counters of a service over a sliding window: read at each look, and the difference kept."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from autopilot.telemetry.fault_effects.port import Hop
from autopilot.telemetry.inflight_latency import Open
from autopilot.telemetry.model import (
    RESTART_SLACK,
    Counters,
    Observation,
    SeriesSample,
)


@dataclass(frozen=True, slots=True)
class Totals:
    """What was counted of a service since looking began."""

    time: float
    answered: float = 0.0
    """Requests completed, as the service's own counters have it."""
    completed: float = 0.0
    """The same with those that proxies ended themselves."""
    failed: float = 0.0
    given: float = 0.0
    timed: dict[float, float] = field(default_factory=dict)
    """By boundary asked for: requests in the histogram."""
    late: dict[float, float] = field(default_factory=dict)
    """Of these, the slower ones."""
    overdue: dict[float, float] = field(default_factory=dict)
    """By seconds: at least so many requests are open for longer now, without a first word of an answer."""


@dataclass(slots=True)
class History:
    """One service's recent totals.

    Args:
        since: seconds since the epoch; samples taken earlier tell of what is not asked for.
    """

    since: float
    boundaries: set[float] = field(default_factory=set)
    """Seconds that requests are compared with."""
    longest: float = 0.0
    """The longest window that is asked for."""
    looks: deque[Totals] = field(default_factory=deque)
    missing: dict[str, str] = field(default_factory=dict)
    _series: dict[str, _Series] = field(default_factory=dict)
    _tellers: dict[str, str] = field(default_factory=dict)
    _hops: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Requests and failures by caller, as a witness had them last."""

    def fold(self, observation: Observation, hops: Sequence[Hop] = ()) -> None:
        """Takes what was read; `hops` are those to this service, where there is a witness."""
        self.missing = dict(observation.missing)
        samples = [sample for sample in observation.samples if _finite(sample) and sample.time >= self.since]
        self._listen(samples)
        last = self.looks[-1] if self.looks else Totals(time=0.0)
        grown = [self._take(sample) for sample in samples]
        newest = max((sample.time for sample in samples), default=0.0)
        if newest <= last.time:
            return
        self.looks.append(self._sum(newest, last, [one for one in grown if one is not None], hops))
        while len(self.looks) > 2 and self.looks[1].time <= newest - self.longest:
            self.looks.popleft()

    def over(self, window: float) -> tuple[Totals, Totals] | None:
        """The totals at both ends of the last `window` seconds, or of all that was seen; None before two looks."""
        if len(self.looks) < 2:
            return None
        latest = self.looks[-1]
        whole = [look for look in self.looks if look.time <= latest.time - window]
        return (whole[-1] if whole else self.looks[0]), latest

    def _listen(self, samples: Iterable[SeriesSample]) -> None:
        """Begins an arm anew where another tells of it than before: both count the same requests."""
        tellers = {sample.arm: sample.told_by for sample in samples}
        for arm, teller in tellers.items():
            if self._tellers.get(arm, teller) != teller:
                self._series = {name: one for name, one in self._series.items() if one.latest.arm != arm}
        self._tellers |= tellers

    def _take(self, sample: SeriesSample) -> _Growth | None:
        known = self._series.get(sample.series)
        if known is None or known.began_anew(sample):
            self._series[sample.series] = _Series(sample)
            return None
        return known.grow(sample, self.boundaries, self.longest) if sample.time > known.latest.time else None

    def _witnessed(self, hops: Iterable[Hop]) -> tuple[float, float]:
        """Requests and failures since the last look; what began anew is left out."""
        requests = failures = 0.0
        for hop in hops:
            for series, done in hop.requests.items():
                name, bad = f"{hop.caller}|{series}", hop.failures.get(series, 0.0)
                before = self._hops.get(name)
                self._hops[name] = (done, bad)
                if before is not None and done >= before[0] and bad >= before[1]:
                    requests += done - before[0]
                    failures += bad - before[1]
        return requests, failures

    def _sum(self, now: float, last: Totals, grown: list[_Growth], hops: Iterable[Hop]) -> Totals:
        def total(of: Callable[[_Growth], dict[float, float]], before: dict[float, float]) -> dict[float, float]:
            return {
                each: before.get(each, 0.0) + sum(of(one).get(each, 0.0) for one in grown) for each in self.boundaries
            }

        answered = sum(one.completed for one in grown)
        completed, failed = self._witnessed(hops)
        if not self._hops:
            completed, failed = answered, sum(one.failed for one in grown)
        return Totals(
            time=now,
            answered=last.answered + answered,
            completed=last.completed + completed,
            failed=last.failed + failed,
            given=last.given + sum(one.given for one in grown),
            timed=total(lambda one: one.timed, last.timed),
            late=total(lambda one: one.late, last.late),
            overdue={each: sum(one.overdue(each) for one in self._series.values()) for each in self.boundaries},
        )


@dataclass(frozen=True, slots=True)
class _Growth:
    """What one series counted between two samples."""

    completed: float
    failed: float
    given: float
    timed: dict[float, float]
    late: dict[float, float]


class _Series:
    """One series since it was first seen, or began anew."""

    def __init__(self, first: SeriesSample) -> None:
        self.first = self.latest = first
        self._given = first.given
        self._open = Open(first)

    def began_anew(self, sample: SeriesSample) -> bool:
        """Whether its counters have begun again: what it counted in between is left out."""
        before = self.latest
        later = (
            sample.started is not None
            and before.started is not None
            and sample.started > before.started + RESTART_SLACK
        )
        return later or sample.user.requests < before.user.requests or sample.user.errors < before.user.errors

    def grow(self, sample: SeriesSample, boundaries: Iterable[float], longest: float) -> _Growth:
        """Takes the next sample."""
        before = self.latest
        now = sample
        if not sample.user.buckets and before.user.buckets:  # a histogram that is left out once is not all new later
            kept = replace(sample.user, timed=before.user.timed, buckets=before.user.buckets)
            now = replace(sample, user=kept)
        given = max(self._given, now.given)  # a try that waits for its retry is not given back
        slow = {each: _slow(now.user, before.user, each) for each in boundaries}
        growth = _Growth(
            completed=now.user.requests - before.user.requests,
            failed=now.user.errors - before.user.errors,
            given=given - self._given,
            timed={each: timed for each, (timed, _) in slow.items()},
            late={each: late for each, (_, late) in slow.items()},
        )
        self._given, self.latest = given, now
        self._open.look(now, max(longest, *boundaries, 0.0))
        return growth

    def overdue(self, seconds: float) -> float:
        """At least so many are open for longer; not those whose answer has begun, for they are streams."""
        unanswered = (self.latest.given - self.latest.user.requests) - (self.first.given - self.first.user.requests)
        return max(0.0, min(self._open.overdue(seconds), unanswered))


def _slow(now: Counters, before: Counters, seconds: float) -> tuple[float, float]:
    """Requests that came into the histogram, and of these the slower ones than its bound that is nearest."""
    bounds = [bound for bound, _ in now.buckets if 0 < bound < math.inf]
    if not bounds:
        return 0.0, 0.0
    nearest = min(sorted(bounds), key=lambda bound: abs(math.log(bound / seconds)))
    within, earlier = dict(now.buckets)[nearest], dict(before.buckets)
    if earlier and nearest not in earlier:
        return 0.0, 0.0
    timed = max(0.0, now.timed - before.timed)
    return timed, min(timed, max(0.0, timed - (within - earlier.get(nearest, 0.0))))


def _finite(sample: SeriesSample) -> bool:
    user = sample.user
    numbers = [sample.time, sample.took, sample.active, sample.begun or 0.0, sample.attempt.requests]
    numbers += [user.requests, user.errors, user.timed, *(count for _, count in user.buckets)]
    return all(map(math.isfinite, numbers))
