"""Envoy's own cluster counters, as its `/stats/prometheus` names them: the dialect of meshes that we render ourselves.

On Kubernetes whoever drives the mesh says what its clusters are called; all else is the same.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from autopilot.telemetry.arms import named
from autopilot.telemetry.dialects import envoy_names as names
from autopilot.telemetry.dialects.dialect import Matrix, Reading
from autopilot.telemetry.model import SeriesSample, Subject

_CLASSES = {
    "envoy_cluster_upstream_rq_xx": {"4": names.CLIENT, "5": names.FAILED},
    "envoy_cluster_retry_upstream_rq_xx": {"4": names.RETRY_CLIENT, "5": names.RETRY_FAILED},
}
_METRICS = {
    "envoy_cluster_upstream_rq_completed": names.COMPLETED,
    "envoy_cluster_upstream_rq_retry": names.RETRIED,
    "envoy_cluster_retry_upstream_rq_completed": names.RETRY_COMPLETED,
    "envoy_cluster_upstream_rq_active": names.ACTIVE,
    "envoy_cluster_upstream_rq_total": names.TOTAL,
    "envoy_cluster_upstream_rq_pending_active": names.WAITING,
    **{f"envoy_cluster_{name}": name for name in names.NEVER_CONNECTED},
}
_BUCKET = "envoy_cluster_upstream_rq_time_bucket"
BOUNDS = (
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0, 300000.0,
)  # fmt: skip
"""Milliseconds: the bounds of Envoy's histograms, but those above five minutes."""
_CLUSTER, _CLASS, _BOUND = "envoy_cluster_name", "envoy_response_code_class", "le"
_TOOK = 0.5
"""Seconds: a scrape is stamped when it is sent, and read when it arrives."""
_NOT_IDENTITY = frozenset({"__name__", _CLUSTER, _CLASS, _BOUND})


class Envoy:
    """The dialect.

    Args:
        clusters: what the caller-side cluster of a subject's arm is called, as a scrape shows it; None for the names
            that our own renderer gives.
    """

    def __init__(self, clusters: Callable[[Subject, str], str] | None = None) -> None:
        self._clusters = clusters

    @property
    def histograms(self) -> Mapping[str, Sequence[float]]:
        """See `Dialect.histograms`."""
        return {_BUCKET.removesuffix("_bucket"): BOUNDS}

    def metrics(self, *, latency: bool = True) -> tuple[str, ...]:
        """See `Dialect.metrics`."""
        counters = (*_METRICS, *_CLASSES)
        return (*counters, _BUCKET) if latency else counters

    def selector(
        self, subjects: Sequence[Subject], window: float, *, latency: bool = True, strict: bool = False, name: str = ""
    ) -> str:
        """See `Dialect.selector`."""
        clusters = ""
        if self._clusters is not None:
            clusters = named(self._clusters(subject, arm) for subject in subjects for arm in subject.arms)
        elif strict:
            clusters = "|".join(names.arms_pattern(subject) for subject in subjects)
        return selector(subjects, window, clusters=clusters, latency=latency, name=name)

    def newest(self, result: Matrix, subjects: Sequence[Subject]) -> list[Reading]:
        """See `Dialect.newest`."""
        by_cluster: defaultdict[str, list[tuple[str, EnvoySeries]]] = defaultdict(list)
        for (identity, cluster), stats in parse_matrix(result).items():
            if names.COMPLETED in stats.values:
                by_cluster[cluster].append((identity, stats))
        return [
            Reading(
                samples=tuple(
                    stats.sample(identity, cluster, arm)
                    for cluster, arm in self._arms(subject).items()
                    for identity, stats in by_cluster.get(cluster, ())
                )
            )
            for subject in subjects
        ]

    def history(self, result: Matrix, subject: Subject) -> dict[str, list[SeriesSample]]:
        """See `Dialect.history`."""
        arms = self._arms(subject)
        return {
            f"{identity}|{cluster}": [
                stats.sample(identity, cluster, arms[cluster])
                for _, stats in sorted(looks.items())
                if names.COMPLETED in stats.values
            ]
            for (identity, cluster), looks in parse_history(result).items()
            if cluster in arms
        }

    def _arms(self, subject: Subject) -> dict[str, str]:
        return {(self._clusters or names.cluster_of)(subject, arm): arm for arm in subject.arms}


@dataclass(slots=True)
class EnvoySeries:
    """The newest samples of one proxy's counters for one cluster."""

    time: float = 0.0
    values: dict[str, float] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)
    """Upper bound in seconds (infinity for the last) to requests at most so slow."""

    def put(self, counter: str | float, at: float, value: float) -> None:
        """Takes one counter: by its name, or by its upper bound in seconds."""
        self.time = max(self.time, at)
        if isinstance(counter, str):
            self.values[counter] = value
        else:
            self.buckets[counter] = value

    def sample(self, identity: str, cluster: str, arm: str) -> SeriesSample:
        """As the hub takes it; Prometheus does not know when a process began to count."""
        bounds = sorted((bound, count) for bound, count in self.buckets.items() if math.isfinite(bound))
        attempt, user = names.views(self.values, bounds, max(self.buckets.values(), default=0.0))
        active, begun = names.under_way(self.values)
        return SeriesSample(
            series=f"{identity}|{cluster}",
            arm=arm,
            time=self.time,
            started=None,
            attempt=attempt,
            user=user,
            active=active,
            begun=begun,
            took=_TOOK,
        )


def selector(
    subjects: Sequence[Subject], window: float, *, clusters: str = "", latency: bool = True, name: str = ""
) -> str:
    """The one query for all subjects: every counter needed of all their clusters, raw, over the last `window`.

    Args:
        subjects: whose counters are asked for.
        window: seconds to look back.
        clusters: a pattern (RE2) for other clusters than all of theirs.
        latency: whether histograms are asked for: two thirds of the answer are theirs.
        name: the one metric that is asked for; all that are needed where it is empty.
    """
    counters = (*_METRICS, *_CLASSES)
    metrics = "|".join((*counters, _BUCKET) if latency else counters)
    clusters = (clusters or names.cluster_pattern(subjects)).replace("\\", "\\\\")
    which = "" if name else f'__name__=~"{metrics}",'
    # Only classes 4xx and 5xx, and counters without a class: an absent label matches the empty alternative.
    return f'{name}{{{which}{_CLUSTER}=~"{clusters}",{_CLASS}=~"4|5|"}}[{math.ceil(window)}s]'


def parse_matrix(result: Matrix) -> dict[tuple[str, str], EnvoySeries]:
    """Gathers the newest sample of each series by (instance, cluster).

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is no matrix.
    """
    found: defaultdict[tuple[str, str], EnvoySeries] = defaultdict(EnvoySeries)
    for entry in result:
        labels = entry["metric"]
        at, text = entry["values"][-1]
        if (counter := _counter(labels)) is not None:
            found[_series(labels)].put(counter, float(at), float(text))
    return dict(found)


def parse_history(result: Matrix) -> dict[tuple[str, str], dict[float, EnvoySeries]]:
    """Gathers all samples of each series by (instance, cluster), then by the time they were scraped at.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is no matrix.
    """
    found: defaultdict[tuple[str, str], defaultdict[float, EnvoySeries]] = defaultdict(lambda: defaultdict(EnvoySeries))
    for entry in result:
        labels = entry["metric"]
        if (counter := _counter(labels)) is not None:
            looks = found[_series(labels)]
            for at, text in entry["values"]:
                looks[at].put(counter, float(at), float(text))
    return {series: dict(looks) for series, looks in found.items()}


def _counter(labels: Mapping[str, str]) -> str | float | None:
    """What is counted: by Envoy's name, or by its upper bound in seconds; None for what is not read."""
    if labels["__name__"] == _BUCKET:
        return float(labels[_BOUND]) / 1000
    if (classes := _CLASSES.get(labels["__name__"])) is not None:
        return classes.get(labels.get(_CLASS, ""))
    return _METRICS.get(labels["__name__"])


def _series(labels: Mapping[str, str]) -> tuple[str, str]:
    """Whose counter it is: (instance, cluster)."""
    identity = ",".join(f"{key}={value}" for key, value in sorted(labels.items()) if key not in _NOT_IDENTITY)
    return identity, labels[_CLUSTER]
