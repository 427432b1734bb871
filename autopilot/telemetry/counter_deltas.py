"""From running totals to what happened between two looks: series by series, then summed over an arm.

Differences come first and sums second, for a sum of totals falls when a pod leaves, and that is no reset. What can't
be told is left out and said so: no data is neither success nor failure.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace

from autopilot.evidence.model import ArmTick, Tick
from autopilot.telemetry.alignment import Aligner, Span
from autopilot.telemetry.inflight_latency import Late, Open, expected
from autopilot.telemetry.model import RESTART_SLACK, Counters, Observation, SeriesSample
from autopilot.telemetry.unproxied_requests import Arrived, Unsent

FORGET = 900.0
"""Seconds after which the totals of a series that has gone are forgotten."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """What users met of the canary, in the user view: counts since the tick before."""

    requests: float = 0.0
    """Given to it, answered or not."""
    failures: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class HubTick:
    """What happened between two samples of the same series."""

    tick: Tick
    """Both arms in the attempt view: what a judge takes."""
    exposure: Exposure
    given: dict[str, float] = field(default_factory=dict)
    """Requests given to each arm in the user view."""
    arrived: dict[str, Arrived] = field(default_factory=dict)
    """What each arm's own sidecars took; of arms where it can be told."""
    active: float = 0.0
    """The canary's tries under way."""
    boundaries: tuple[float, ...] = ()
    """The histogram bounds, in seconds, that `tick.*.slow` refers to, in the order asked; empty before any was seen."""
    notes: tuple[str, ...] = ()
    """What is missing from this tick: proxies that did not answer, series that began anew."""

    @property
    def users(self) -> float:
        """Requests given to all arms in the user view."""
        return sum(self.given.values())

    @property
    def measured(self) -> float | None:
        """The canary's share of the requests in this tick; None without requests."""
        return self.exposure.requests / self.users if self.users > 0 else None


@dataclass(frozen=True, slots=True)
class Gap:
    """Nothing advanced: neither good nor bad, but time went by."""

    time: float
    """When this was noticed, seconds since the epoch."""
    silent_seconds: float
    """Since anything advanced, or since watching began."""
    reason: str


@dataclass(slots=True)
class Differencer:
    """Differences one subject's observations for a canary arm and a stable arm."""

    canary: str
    stable: str
    wanted: tuple[float, ...] = ()
    """Latency boundaries asked for, in seconds."""
    baseline: str = ""
    """The arm that doubles stable for a fair comparison; empty where there is none."""
    boundaries: tuple[float, ...] = ()
    """Those the histograms have, nearest by logarithm; fixed when the first histogram is seen."""
    _before: dict[str, SeriesSample] = field(default_factory=dict)
    _aligner: Aligner = field(init=False)
    """Increments by series since the last tick, attempt view."""
    _users: dict[str, list[Counters]] = field(default_factory=dict)
    """The same in the user view."""
    _given: dict[str, float] = field(default_factory=dict)
    """By series the most requests it was known to be given: a try that waits for its retry is not given back."""
    _open: dict[str, Open] = field(default_factory=dict)
    """By series."""
    _late: dict[str, Late] = field(default_factory=dict)
    """By arm."""
    _unsent: dict[str, Unsent] = field(default_factory=dict)
    """By arm."""
    _tellers: dict[str, str] = field(default_factory=dict)
    """By arm, who told of it in the last look that said anything of it."""
    _sampled: float | None = None
    """When the last tick ended, seconds since the epoch."""
    _newest: float | None = None
    """When the newest sample was taken."""
    _advanced: float | None = None

    def __post_init__(self) -> None:
        """Cuts everything at the canary's samples."""
        self._aligner = Aligner(self.canary)

    def fold(self, observation: Observation) -> HubTick | Gap:
        """Takes the next observation; a tick once every series' sample time has advanced, else a gap that says why."""
        usable, notes = _usable(observation)
        self._settle(usable)
        self._listen(usable, notes)
        for arrivals in observation.arrivals:
            self._unsent.setdefault(arrivals.arm, Unsent()).look(arrivals)
        for sample in usable:
            before = self._before.get(sample.series)
            if before is not None and sample.time <= before.time:
                continue
            now = sample if before is None else _carried(sample, before)
            since = self._base(now, before)
            if since is not before:
                now = sample  # What began anew has no share in the histogram of what was before.
            self._before[sample.series] = now
            if since is None:
                if before is not None:
                    notes.append(f"{sample.series} was reset; requests in between are not counted")
                self._begin(now)
                continue
            if since is not before:
                self._begin(since)
            self._count(now, since)
        self._forget(observation.time)
        return self._result(observation, usable, notes)

    def _listen(self, samples: Iterable[SeriesSample], notes: list[str]) -> None:
        """Begins an arm anew where another tells of it than before: what one counted meanwhile, the other did too."""
        tellers = {sample.arm: sample.told_by for sample in samples}
        for arm, teller in tellers.items():
            if (before := self._tellers.get(arm, teller)) != teller:
                self._drop(name for name, sample in self._before.items() if sample.arm == arm)
                notes.append(f"{arm} is now reported by {teller} instead of {before}")
        self._tellers |= tellers

    def _begin(self, base: SeriesSample) -> None:
        self._open[base.series] = Open(base)
        self._given[base.series] = base.given
        self._aligner.begin(base.series, base.arm, base.time)

    def _count(self, now: SeriesSample, since: SeriesSample) -> None:
        """Adds what one series did between two looks to its arm."""
        given, had = max(now.given, self._given[now.series]), self._given[now.series]
        self._given[now.series] = given
        counted = _minus(now.attempt, since.attempt)
        self._aligner.add(Span(now.series, now.arm, began=since.time, ended=now.time, counted=counted))
        seen = Counters(requests=given - had, errors=now.user.errors - since.user.errors)
        self._users.setdefault(now.arm, []).append(seen)
        self._open[now.series].look(now, max(self.boundaries, default=0.0))

    def silent(self, time: float) -> float:
        """Seconds since anything advanced, as of `time`; the first call starts the clock."""
        if self._advanced is None:
            self._advanced = time
        return max(0.0, time - self._advanced)

    def _result(self, observation: Observation, usable: list[SeriesSample], notes: list[str]) -> HubTick | Gap:
        """A tick of what has come together, once the newest sample is newer than the last tick's."""
        newest = max((sample.time for sample in usable), default=None)
        first, silent = self._newest is None, self.silent(observation.time)
        present = {sample.series for sample in usable}
        if newest is not None and (self._newest is None or newest > self._newest):
            if self._newest is None:
                self._sampled = newest
                self._aligner.look(newest)
            else:
                self._advanced = observation.time
            self._newest = newest
        cut = None if first or newest is None else self._cut(present, newest)
        if cut is None:
            reason = _why(observation, usable, notes, first=first)
            return Gap(time=observation.time, silent_seconds=silent, reason=reason)
        before, self._sampled, arms = cut
        moment = self._sampled
        users, self._users = self._users, {}
        user = _total(users.get(self.canary, ()))
        return HubTick(
            tick=Tick(
                time=moment,
                seconds=moment - before,
                canary=self._arm(self.canary, arms.get(self.canary, []), present),
                stable=self._arm(self.stable, arms.get(self.stable, []), present),
                baseline=self._arm(self.baseline, arms.get(self.baseline, []), present) if self.baseline else None,
            ),
            exposure=Exposure(requests=user.requests, failures=user.errors, seconds=moment - before),
            given={arm: _total(found).requests for arm, found in users.items()},
            arrived={arm: unsent.take() for arm, unsent in self._unsent.items()},
            active=sum(sample.active for sample in usable if sample.arm == self.canary),
            boundaries=self.boundaries,
            notes=tuple(notes),
        )

    def _cut(self, present: set[str], newest: float) -> tuple[float, float, dict[str, list[Counters]]] | None:
        """From when until when the arms can be compared, and what they counted meanwhile; None where they can't yet."""
        aligner = self._aligner
        if aligner.alone(present):
            before = self._sampled
            if before is None or newest <= before or not aligner.waiting:
                return None
            return before, newest, aligner.take_all(newest)
        moment = aligner.until(present, newest)
        before = aligner.start
        if moment is None or before is None or moment <= before:
            return None
        return before, moment, aligner.take(moment)

    def _base(self, sample: SeriesSample, before: SeriesSample | None) -> SeriesSample | None:
        """The totals to subtract: those before, noughts for a series born since, None where that can't be told."""
        seen = before.time if before is not None else self._sampled
        nothing = None if sample.begun is None else 0.0
        nought = replace(sample, attempt=Counters(), user=Counters(), active=0.0, begun=nothing, took=0.0)
        if seen is not None:
            nought = replace(nought, time=seen)
        born = sample.started is not None and seen is not None and sample.started > seen
        if before is None:
            return nought if born else None
        restarted = (
            sample.started is not None
            and before.started is not None
            and sample.started > before.started + RESTART_SLACK
        )
        if restarted or _fell(sample.attempt, before.attempt) or _fell(sample.user, before.user):
            return nought if born else None
        return before

    def _settle(self, samples: Iterable[SeriesSample]) -> None:
        """Moves each boundary to the nearest bound that every histogram has, once."""
        if self.boundaries or not self.wanted:
            return
        found = [{bound for bound, _ in sample.attempt.buckets if 0 < bound < math.inf} for sample in samples]
        common = set.intersection(*(bounds for bounds in found if bounds)) if any(found) else set()
        if common:
            self.boundaries = tuple(_nearest(wanted, common) for wanted in self.wanted)

    def _arm(self, arm: str, found: list[Counters], present: Container[str]) -> ArmTick:
        total = _total(found)
        if not self.boundaries:
            return _counted(total, timed=0.0, slow=(0.0,) * len(self.wanted))
        timed, slow = 0.0, [0.0] * len(self.boundaries)
        for counters in found:
            within = dict(counters.buckets)
            if all(bound in within for bound in self.boundaries):
                timed += counters.timed
                for index, bound in enumerate(self.boundaries):
                    slow[index] += max(0.0, counters.timed - within[bound])
        late = self._late.setdefault(arm, Late(lenient=arm == self.canary))
        timed, growth = late.fold(timed, slow, self._overdue(arm, present))
        return _counted(total, timed=timed, slow=tuple(growth))

    def _overdue(self, arm: str, present: Container[str]) -> list[float]:
        """Requests of the arm that are open for longer than each boundary; the canary's beyond its share of such."""
        mine = [one for series, one in self._open.items() if one.base.arm == arm and series in present]
        others = [one for one in self._open.values() if one.base.arm != self.canary]
        usual = expected(mine, others) if arm == self.canary else 0.0
        return [max(0.0, sum(one.overdue(bound) for one in mine) - usual) for bound in self.boundaries]

    def _forget(self, time: float) -> None:
        self._drop(name for name, sample in self._before.items() if time - sample.time > FORGET)

    def _drop(self, series: Iterable[str]) -> None:
        for name in list(series):
            for kept in (self._before, self._open, self._given):
                kept.pop(name, None)
            self._aligner.forget(name)


def merge(first: HubTick, second: HubTick) -> HubTick:
    """Two ticks in a row as one: counts and seconds add up, so a slow consumer loses nothing."""
    seconds = first.tick.seconds + second.tick.seconds
    return HubTick(
        tick=Tick(
            time=second.tick.time,
            seconds=seconds,
            canary=_join(first.tick.canary, second.tick.canary),
            stable=_join(first.tick.stable, second.tick.stable),
            baseline=_join(first.tick.baseline, second.tick.baseline)
            if first.tick.baseline is not None and second.tick.baseline is not None
            else None,
        ),
        exposure=Exposure(
            requests=first.exposure.requests + second.exposure.requests,
            failures=first.exposure.failures + second.exposure.failures,
            seconds=seconds,
        ),
        given={arm: first.given.get(arm, 0.0) + second.given.get(arm, 0.0) for arm in {**first.given, **second.given}},
        arrived={
            arm: first.arrived.get(arm, Arrived()) + second.arrived.get(arm, Arrived())
            for arm in {**first.arrived, **second.arrived}
        },
        active=second.active,
        boundaries=second.boundaries,
        notes=tuple(dict.fromkeys((*first.notes, *second.notes))),
    )


def _join(first: ArmTick, second: ArmTick) -> ArmTick:
    if len(first.slow) != len(second.slow):
        raise ValueError(f"{len(first.slow)} and {len(second.slow)} boundaries cannot be added")
    return first.plus(second)


def _counted(total: Counters, *, timed: float, slow: tuple[float, ...]) -> ArmTick:
    return ArmTick(
        requests=total.requests,
        errors=total.errors,
        timed=timed,
        slow=slow,
        client_errors=total.client_errors,
        aborts=total.aborts,
    )


def _usable(observation: Observation) -> tuple[list[SeriesSample], list[str]]:
    """The samples that are numbers throughout, and what is to be said of the rest."""
    usable, notes = [], [f"{name} is missing: {why}" for name, why in observation.missing.items()]
    for sample in observation.samples:
        if all(map(math.isfinite, _numbers(sample))):
            usable.append(sample)
        else:
            notes.append(f"{sample.series} has counters that are not numbers")
    return usable, notes


def _why(observation: Observation, usable: list[SeriesSample], notes: list[str], *, first: bool) -> str:
    """Why there is no tick."""
    subject = observation.subject
    if not usable:
        what = f"no counters of {subject.namespace}/{subject.service}"
    elif first:
        what = "this is the first reading, so there is no difference yet"
    else:
        what = "no new sample"
    return "; ".join([what, *notes])


def _numbers(sample: SeriesSample) -> list[float]:
    found = [sample.time, sample.took, sample.active, 0.0 if sample.begun is None else sample.begun]
    for view in (sample.attempt, sample.user):
        found += [view.requests, view.errors, view.timed, *(count for _, count in view.buckets)]
        found += [view.client_errors or 0.0, view.aborts]
    return found


def _fell(now: Counters, before: Counters) -> bool:
    earlier = dict(before.buckets)
    return (
        now.requests < before.requests
        or now.errors < before.errors
        or now.timed < before.timed
        or (now.client_errors or 0.0) < (before.client_errors or 0.0)
        or now.aborts < before.aborts
        or any(count < earlier.get(bound, 0.0) for bound, count in now.buckets)
    )


def _carried(sample: SeriesSample, before: SeriesSample) -> SeriesSample:
    """The sample with the histogram of the one before, where it has lost its own: else it would return as all new."""
    if sample.attempt.buckets or not before.attempt.buckets:
        return sample
    return replace(
        sample,
        attempt=replace(sample.attempt, timed=before.attempt.timed, buckets=before.attempt.buckets),
        user=replace(sample.user, timed=before.user.timed, buckets=before.user.buckets),
    )


def _minus(now: Counters, before: Counters) -> Counters:
    """Increments; a histogram that was not there before began since, for Envoy has none until a first request."""
    earlier = dict(before.buckets)
    return Counters(
        requests=now.requests - before.requests,
        errors=now.errors - before.errors,
        timed=now.timed - before.timed,
        buckets=tuple(
            (bound, count - earlier.get(bound, 0.0)) for bound, count in now.buckets if bound in earlier or not earlier
        ),
        client_errors=None if now.client_errors is None else now.client_errors - (before.client_errors or 0.0),
        aborts=now.aborts - before.aborts,
    )


def _total(found: Iterable[Counters]) -> Counters:
    parts = list(found)
    told = [counters.client_errors for counters in parts if counters.client_errors is not None]
    return Counters(
        requests=sum(counters.requests for counters in parts),
        errors=sum(counters.errors for counters in parts),
        client_errors=sum(told) if told else None,
        aborts=sum(counters.aborts for counters in parts),
    )


def _nearest(wanted: float, bounds: set[float]) -> float:
    return min(sorted(bounds), key=lambda bound: abs(math.log(bound / max(wanted, 1e-9))))
