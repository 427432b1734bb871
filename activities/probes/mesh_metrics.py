"""What users met of services lately, for probes: counters read at each look, and the difference over a window.

Counters are those that a service's callers have of it: what was answered, and how. A fault that lies at the callers
ends requests before these see them (an abort, a denial), or holds them back (a delay). Where the mesh has a witness
that counts what proxies answered themselves, aborts count as what they were for users; delays show one hop up alone.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from activities.probes.tolerance import Seen, judged
from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.mesh.model import Target, baseline_of
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.spec.chaos.probes import MeshProbe
from autopilot.spec.values.units import format_seconds
from autopilot.telemetry.fault_effects.port import Hop
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.inflight_latency import Open
from autopilot.telemetry.model import (
    RESTART_SLACK,
    Counters,
    Observation,
    SeriesSample,
    Subject,
    TelemetryError,
)

SCRAPES: Final = 2.5
"""Scrape intervals without a sample after which there is no data: one scrape may fail, and one is always late."""
_SHARED: Final = 0.1
"""Seconds for which all probes share one reading."""
_ARMS_KEPT: Final = 15.0
"""Seconds for which the arms of a service are not asked for again."""
_STALE: Final = 2.0
_WHOLE: Final = 0.9
"""Share of the window that a rate needs: over less time it varies too much by chance."""


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


class Traffic:
    """The traffic of services of one mesh, read from its proxies. All are read at once, whoever looks.

    Args:
        attached: the mesh and its telemetry.
        clock: seconds since the epoch; must be the clock of the samples' `time`.
    """

    def __init__(self, attached: AttachedMesh, clock: Callable[[], float] = time.time) -> None:
        self._attached = attached
        self._clock = clock
        self._since = clock()
        self._histories: dict[Target, History] = {}
        self._arms: dict[Target, tuple[float, tuple[str, ...]]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._read_at = -math.inf
        self._failure = ""

    def forget(self) -> None:
        """Starts a new window: requests before now no longer count."""
        self._since = self._clock()
        self._histories.clear()
        self._read_at = -math.inf

    def follow(self, probe: MeshProbe, target: Target) -> History:
        """The history of a probe's service; it is read from now on whenever anybody looks."""
        history = self._histories.setdefault(target, History(self._since))
        history.boundaries |= {probe.window, probe.slower_than}
        history.longest = max(history.longest, probe.window)
        return history

    def patience(self, probe: MeshProbe) -> float:
        """Seconds from the first look in which having no data yet means nothing."""
        return max(probe.window, SCRAPES * (self._interval or 0.0)) + max(1.0, probe.interval)

    def early(self, probe: MeshProbe, target: Target) -> bool:
        """Whether nothing is wrong with the counters, but that they have not been read for long enough."""
        history = self._histories.get(target)
        now = self._clock()
        heard = not self._failure and now - self._read_at <= probe.timeout + _STALE
        return heard and history is not None and now - history.since < self.patience(probe)

    async def refuse(self, target: Target) -> None:
        """Checks that there is such a service, and something that counts its traffic.

        Raises:
            InvalidChange: there is not.
            MeshUnavailable: the mesh does not answer.
        """
        if self._attached.proxies is None:
            raise InvalidChange(
                "this mesh is read through Prometheus, and this worker has none: start it with --prometheus URL"
            )
        await self._arms_of(target)

    async def look(self, probe: MeshProbe, target: Target) -> Seen:
        """What users met of the service over the last window.

        Raises:
            MeshError: its arms cannot be told.
        """
        history = self.follow(probe, target)
        await self.read()
        if self._failure:
            return Seen(None, note=self._failure)
        ends = history.over(probe.window)
        if ends is None:
            return Seen(None, note=_without(f"no counters of {target.ref} were read yet", history.missing))
        since, now = ends
        silent = self._clock() - now.time
        if silent > probe.window + SCRAPES * (self._interval or 0.0) + _STALE:
            return Seen(None, note=_without(f"no new counters of {target.ref} for {silent:.0f} s", history.missing))
        value, said = _measured(probe, since, now)
        if value is None:
            return Seen(None, said, _without(said, history.missing))
        ok, note = await judged(probe.tolerance, value, f"{probe.metric} of {target.ref}: ")
        return Seen(ok, _without(said, history.missing), f"{note} ({said})" if note else "")

    async def read(self) -> None:
        """Reads the counters of every service that is followed, unless somebody has just done so.

        Raises:
            MeshError: the arms of a service cannot be told.
        """
        if self._reading is None and self._clock() - self._read_at < _SHARED:
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="traffic for probes")
            self._reading.add_done_callback(self._read_done)
        await asyncio.shield(self._reading)

    async def close(self) -> None:
        """Cancels a running reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _read_done(self, task: asyncio.Task[None]) -> None:
        self._reading = None
        if not task.cancelled():
            task.exception()  # a waiting caller gets the error; without one it is not needed

    async def _read(self) -> None:
        histories = dict(self._histories)
        subjects = [
            Subject(
                mesh=target.mesh, namespace=target.namespace, service=target.service, arms=await self._arms_of(target)
            )
            for target in histories
        ]
        witness = self._attached.witness
        try:
            observations = await self._hub.source.observe(subjects)
            hops = await witness.hops(subjects) if witness is not None else []
        except TelemetryError as failure:
            self._failure = str(failure)
            return
        self._failure = ""
        self._read_at = self._clock()
        for (target, history), observation in zip(histories.items(), observations, strict=True):
            history.fold(observation, [hop for hop in hops if hop.service == target.ref])

    async def _arms_of(self, target: Target) -> tuple[str, ...]:
        """Its arms, and those that double them; asked for now and then, for a rollout may bring one."""
        asked, arms = self._arms.get(target, (-math.inf, ()))
        if self._clock() - asked < _ARMS_KEPT:
            return arms
        try:
            state = await self._attached.mesh.observe(target)
        except MeshError:
            if arms:
                return arms
            raise
        names = [arm.name for arm in state.arms]
        arms = tuple(dict.fromkeys([*names, *map(baseline_of, names)]))
        self._arms[target] = (self._clock(), arms)
        return arms

    @property
    def _hub(self) -> Hub:
        return self._attached.hub("mesh")

    @property
    def _interval(self) -> float | None:
        return self._attached.interval("mesh")


def _measured(probe: MeshProbe, since: Totals, now: Totals) -> tuple[float | None, str]:
    """The value of the metric and the counts behind it; None where these are too few."""
    seconds = now.time - since.time
    span = f"in {format_seconds(round(seconds, 1))}"
    if probe.metric == "requestRate":
        ended = (now.completed - now.answered) - (since.completed - since.answered)
        given = now.given - since.given + max(0.0, ended)
        if seconds < _WHOLE * probe.window:
            return (
                None,
                f"counted for only {format_seconds(round(seconds, 1))} of {format_seconds(probe.window)} so far",
            )
        return given / seconds, f"{given / seconds:.4g} requests a second {span}"
    if probe.metric == "slowShare":
        waiting = max(0.0, now.overdue[probe.slower_than] - since.overdue.get(probe.slower_than, 0.0))
        total = now.timed[probe.slower_than] - since.timed.get(probe.slower_than, 0.0) + waiting
        bad = now.late[probe.slower_than] - since.late.get(probe.slower_than, 0.0) + waiting
        what = f"took longer than {format_seconds(probe.slower_than)}"
    else:
        waiting = max(0.0, now.overdue[probe.window] - since.overdue.get(probe.window, 0.0))
        total = now.completed - since.completed + waiting
        bad = now.failed - since.failed + waiting
        what = "failed"
    if total <= 0 or total < probe.least:
        return None, f"{total:.0f} requests {span}; at least {max(1, probe.least)} are needed"
    hung = f", {waiting:.0f} without an answer" if waiting else ""
    share = min(1.0, max(0.0, bad / total))
    return (
        share if probe.metric == "slowShare" else 1.0 - share
    ), f"{bad:.0f} of {total:.0f} requests {what} {span}{hung}"


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


def _without(said: str, missing: dict[str, str]) -> str:
    return "; ".join([said, *(f"{name} is missing: {why}" for name, why in missing.items())])
