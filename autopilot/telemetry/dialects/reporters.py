"""Counters that a mesh splits by outcome and tells from several places: summed again, and believed from one place.

Istio and Linkerd count a request once for each outcome, and often twice over: where it was sent and where it arrived.
A *teller* is such a place. Of an arm only one teller is believed in one look, the first in the dialect's order that
says anything at all: whoever added two up would count requests twice, and whoever mixed them by series would do so at
every scrape that fails. Each sample says who told of it, for `autopilot.telemetry.counter_deltas` begins an arm anew
when that changes: what one teller counted meanwhile was counted by another.

One proxy is often scraped by several jobs, or by two Prometheuses that are one in storage. Counted twice it would be
evidence twice. So where a series names its pod, it is known by the pod and by what the mesh itself says, and not by who
scraped it.

A series is there from its first request on, and Prometheus does not say since when it counts. A new version's first
failures would be lost in the first sample, a whole scrape interval of them. But whoever else is scraped from the same
target tells: what is in a scrape, and was not in the one before, began in between.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autopilot.telemetry.arms import Owners, Resolver
from autopilot.telemetry.dialects.dialect import Matrix, Reading
from autopilot.telemetry.model import Counters, SeriesSample, Subject

TOOK = 0.5
"""Seconds: a scrape is stamped when it is sent, and read when it arrives."""

_Labels = tuple[tuple[str, str], ...]
"""Names and values, sorted; without those that part what is one series."""

_POD = ("pod", "pod_name", "kubernetes_pod_name")
_PLACE = ("namespace", "kubernetes_namespace", "cluster")
_TARGET = frozenset({"job", "instance", *_POD, *_PLACE})
"""What a scrape is known by. Without any of these all is one target, and nothing can be told of its scrapes."""
_MUCH = 1.5
"""Times as many requests as the believed teller's, from which it is said that another saw more."""
_FEW = 10.0


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one Prometheus series counts."""

    teller: str
    failed: bool = False
    client: bool = False
    """Answered with a client error: HTTP 4xx, or a gRPC status that stands for one."""
    aborted: bool = False
    """Failed since its caller left before an answer began."""
    bound: float | None = None
    """Of a histogram's bucket, seconds; None for a count of requests."""
    begun: bool = False
    """Requests that began, whatever became of them; else those that ended."""


@dataclass(frozen=True, slots=True)
class Language:
    """How a dialect is read."""

    tellers: tuple[str, ...]
    """Places that tell of requests, the most trusted first."""
    meaning: Callable[[Mapping[str, str]], Meaning | None]
    """None for what can't be told: a count without its outcome is neither success nor failure."""
    own: tuple[str, ...]
    """Beginnings of the names of labels that the mesh itself gives."""
    outcome: frozenset[str]
    """Labels that part what is one series here."""
    arms: Resolver
    unseen: str
    """Why another teller may have seen more than the believed one."""


@dataclass(slots=True)
class _Series:
    """One proxy's counts for one arm, by time and then by outcome."""

    looks: dict[float, dict[tuple[str, ...], tuple[Meaning, float]]] = field(default_factory=dict)
    born: float | None = math.inf
    """First time of a sample, where its target was scraped before without it; None where it may be older."""
    _kept: dict[tuple[str, ...], tuple[tuple[float, float], Meaning, float]] = field(default_factory=dict)
    """By outcome: the newest (time, value), and by how much it rose within the answer."""

    def put(self, at: float, outcome: tuple[str, ...], meaning: Meaning, value: float) -> None:
        """Takes one sample of many; who is scraped twice at once counts what is more."""
        look = self.looks.setdefault(at, {})
        if outcome not in look or look[outcome][1] < value:
            look[outcome] = (meaning, value)

    def keep(self, outcome: tuple[str, ...], meaning: Meaning, last: tuple[float, float], rise: float) -> None:
        """Takes the newest sample of one Prometheus series."""
        if outcome not in self._kept or self._kept[outcome][0] < last:
            self._kept[outcome] = (last, meaning, rise)

    def bear(self, first: float, scraped: float) -> None:
        """Takes the first sample of one Prometheus series, and the first scrape of its target."""
        self.born = min(self.born, first) if self.born is not None and scraped < first else None

    def settle(self) -> None:
        """Makes one look of the newest samples."""
        at = max(last[0] for last, _, _ in self._kept.values())
        self.looks = {at: {outcome: (meaning, last[1]) for outcome, (last, meaning, _) in self._kept.items()}}

    @property
    def rise(self) -> float:
        """Requests that ended within the answer."""
        ended = (rise for _, meaning, rise in self._kept.values() if meaning.bound is None and not meaning.begun)
        return sum(rise for rise in ended if math.isfinite(rise))

    def sample(self, name: str, arm: str, teller: str, at: float) -> SeriesSample:
        requests = errors = client = aborts = 0.0
        begun: float | None = None
        buckets: defaultdict[float, float] = defaultdict(float)
        for meaning, value in self.looks[at].values():
            if meaning.bound is not None:
                buckets[meaning.bound] += value
            elif meaning.begun:
                begun = (begun or 0.0) + value
            else:
                requests += value
                errors += value if meaning.failed else 0.0
                client += value if meaning.client else 0.0
                aborts += value if meaning.aborted else 0.0
        counters = Counters(
            requests=requests,
            errors=errors,
            timed=max(buckets.values(), default=0.0),
            buckets=tuple(sorted((bound, count) for bound, count in buckets.items() if math.isfinite(bound))),
            client_errors=client,
            aborts=aborts,
        )
        return SeriesSample(
            series=name,
            arm=arm,
            time=at,
            started=self.born,
            attempt=counters,
            user=counters,
            active=0.0 if begun is None else max(0.0, begun - requests),
            begun=begun,
            took=TOOK,
            told_by=teller,
        )

    def counts(self, at: float) -> bool:
        return any(meaning.bound is None for meaning, _ in self.looks[at].values())


@dataclass(slots=True)
class _Arm:
    """Everything told of one arm: by teller and by series."""

    series: dict[str, dict[str, _Series]] = field(default_factory=dict)

    def teller(self, order: Iterable[str]) -> str | None:
        """Who is believed: the first that counts requests."""
        for teller in order:
            if any(one.counts(at) for one in self.series.get(teller, {}).values() for at in one.looks):
                return teller
        return None


def newest(language: Language, result: Matrix, subjects: Sequence[Subject]) -> list[Reading]:
    """See `Dialect.newest`."""
    found, owners = _gather(language, result, subjects, all_of_them=False)
    readings = []
    for index, subject in enumerate(subjects):
        samples: list[SeriesSample] = []
        missing = {
            f"series that match {' and '.join(arms)}": "their labels match several arms, so they are counted for none"
            for arms in sorted(owners.torn.get(index, ()))
        }
        for name in subject.arms:
            arm = found.get((index, name), _Arm())
            for one in (one for told in arm.series.values() for one in told.values()):
                one.settle()
            if (teller := arm.teller(language.tellers)) is None:
                continue
            told = sorted(arm.series[teller].items())
            samples += [
                one.sample(series, name, teller, at) for series, one in told for at in one.looks if one.counts(at)
            ]
            if more := _more(arm, teller):
                missing[f"a part of {name}"] = f"{more}; only the latter are judged ({language.unseen})"
        readings.append(Reading(tuple(samples), missing))
    return readings


def _more(arm: _Arm, believed: str) -> str:
    """Says that another teller saw many more requests than the one who is believed; empty where none did."""
    rise = {teller: sum(one.rise for one in told.values()) for teller, told in arm.series.items()}
    most = max(sorted(rise), key=lambda teller: rise[teller])
    if rise[most] <= _MUCH * rise[believed] + _FEW:
        return ""
    return f"{most} counts more requests than {believed}"


def history(language: Language, result: Matrix, subject: Subject) -> dict[str, list[SeriesSample]]:
    """See `Dialect.history`; of each arm one teller is believed throughout."""
    found, _ = _gather(language, result, [subject], all_of_them=True)
    return {
        series: [one.sample(series, name, teller, at) for at in sorted(one.looks) if one.counts(at)]
        for (_, name), arm in found.items()
        if (teller := arm.teller(language.tellers)) is not None
        for series, one in sorted(arm.series[teller].items())
    }


def _gather(
    language: Language, result: Matrix, subjects: Sequence[Subject], *, all_of_them: bool
) -> tuple[dict[tuple[int, str], _Arm], Owners]:
    """Sorts an answer by (subject, arm); of each Prometheus series all samples, or the newest under one time."""
    owners = Owners([language.arms(subject) for subject in subjects])
    found: defaultdict[tuple[int, str], _Arm] = defaultdict(_Arm)
    parting = frozenset({"__name__", "le", *language.outcome})
    order = sorted(parting)
    known: dict[_Labels, tuple[_Labels, str]] = {}
    scraped: dict[_Labels, float] = {}
    rows: list[tuple[Any, _Labels, str]] = []
    for entry in result:
        kept = tuple(item for item in sorted(entry["metric"].items()) if item[0] not in parting)
        if kept not in known:
            known[kept] = (tuple(item for item in kept if item[0] in _TARGET), _identity(kept, language))
        target, series = known[kept]
        scraped[target] = min(scraped.get(target, math.inf), *(float(at) for at, _ in entry["values"]))
        rows.append((entry, target, series))
    for entry, target, series in rows:
        labels, values = entry["metric"], sorted((float(at), float(text)) for at, text in entry["values"])
        first, last = values[0], values[-1]
        outcome = (labels["__name__"], *(labels.get(name, "") for name in order))
        if (meaning := language.meaning(labels)) is None:
            continue
        for claim in owners.of(labels):
            one = found[claim].series.setdefault(meaning.teller, {}).setdefault(series, _Series())
            one.bear(first[0], scraped[target] if target else first[0])
            for at, value in values if all_of_them else ():
                one.put(at, outcome, meaning, value)
            if not all_of_them:
                one.keep(outcome, meaning, last, max(0.0, last[1] - first[1]))
    return dict(found), owners


def _identity(labels: _Labels, language: Language) -> str:
    """What makes it one series; see the module's text for what is left out."""
    if any(name in _POD for name, _ in labels):
        lasting = (*_POD, *_PLACE)
        labels = tuple(item for item in labels if item[0] in lasting or item[0].startswith(language.own))
    return ",".join(f"{name}={value}" for name, value in labels)


def written(matchers: Mapping[str, str], window: float, name: str = "") -> str:
    """A range selector of label patterns (RE2) over so many seconds.

    Args:
        matchers: patterns by label.
        window: seconds.
        name: of the one metric that is asked for; it replaces the pattern for metric names.
    """
    text = ",".join(
        f'{label}=~"{_quoted(pattern)}"' for label, pattern in matchers.items() if not name or label != "__name__"
    )
    return f"{name}{{{text}}}[{max(1, math.ceil(window))}s]"


def _quoted(pattern: str) -> str:
    return pattern.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
