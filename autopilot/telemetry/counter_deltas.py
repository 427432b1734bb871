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
from autopilot.telemetry.counter_arithmetic import carried, fell, minus, nearest, numbers, summed
from autopilot.telemetry.inflight_latency import Late, Open, expected
from autopilot.telemetry.model import RESTART_SLACK, Counters, Observation, SeriesSample
from autopilot.telemetry.ticks import Exposure, Gap, HubTick, arm_tick
from autopilot.telemetry.unproxied_requests import Unsent

FORGET = 900.0
"""Seconds after which the totals of a series that has gone are forgotten."""


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
            now = sample if before is None else carried(sample, before)
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
        counted = minus(now.attempt, since.attempt)
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
        user = summed(users.get(self.canary, ()))
        return HubTick(
            tick=Tick(
                time=moment,
                seconds=moment - before,
                canary=self._arm(self.canary, arms.get(self.canary, []), present),
                stable=self._arm(self.stable, arms.get(self.stable, []), present),
                baseline=self._arm(self.baseline, arms.get(self.baseline, []), present) if self.baseline else None,
            ),
            exposure=Exposure(requests=user.requests, failures=user.errors, seconds=moment - before),
            given={arm: summed(found).requests for arm, found in users.items()},
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
        if restarted or fell(sample.attempt, before.attempt) or fell(sample.user, before.user):
            return nought if born else None
        return before

    def _settle(self, samples: Iterable[SeriesSample]) -> None:
        """Moves each boundary to the nearest bound that every histogram has, once."""
        if self.boundaries or not self.wanted:
            return
        found = [{bound for bound, _ in sample.attempt.buckets if 0 < bound < math.inf} for sample in samples]
        common = set.intersection(*(bounds for bounds in found if bounds)) if any(found) else set()
        if common:
            self.boundaries = tuple(nearest(wanted, common) for wanted in self.wanted)

    def _arm(self, arm: str, found: list[Counters], present: Container[str]) -> ArmTick:
        total = summed(found)
        if not self.boundaries:
            return arm_tick(total, timed=0.0, slow=(0.0,) * len(self.wanted))
        timed, slow = 0.0, [0.0] * len(self.boundaries)
        for counters in found:
            within = dict(counters.buckets)
            if all(bound in within for bound in self.boundaries):
                timed += counters.timed
                for index, bound in enumerate(self.boundaries):
                    slow[index] += max(0.0, counters.timed - within[bound])
        late = self._late.setdefault(arm, Late(lenient=arm == self.canary))
        timed, growth = late.fold(timed, slow, self._overdue(arm, present))
        return arm_tick(total, timed=timed, slow=tuple(growth))

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


def _usable(observation: Observation) -> tuple[list[SeriesSample], list[str]]:
    """The samples that are numbers throughout, and what is to be said of the rest."""
    usable, notes = [], [f"{name} is missing: {why}" for name, why in observation.missing.items()]
    for sample in observation.samples:
        if all(map(math.isfinite, numbers(sample))):
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
