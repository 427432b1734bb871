"""Reads counters that a Prometheus has scraped from the Envoys, and evaluates users' own queries.

Raw samples, never `rate()`: a rate blurs the moment of change over its window, and has no counts to weigh. A range
selector in an instant query gives every series' newest sample with the time it was scraped at; one query serves all
subjects.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autopilot.spec.units import format_seconds
from autopilot.telemetry import envoy_names as names
from autopilot.telemetry.model import Observation, SeriesSample, Subject, TelemetryError
from autopilot.telemetry.past import observations

if TYPE_CHECKING:
    from prometheus_api_client import PrometheusConnect

_METRICS = {
    "envoy_cluster_upstream_rq_completed": names.COMPLETED,
    "envoy_cluster_upstream_rq_xx": names.FAILED,
    "envoy_cluster_upstream_rq_retry": names.RETRIED,
    "envoy_cluster_retry_upstream_rq_completed": names.RETRY_COMPLETED,
    "envoy_cluster_retry_upstream_rq_xx": names.RETRY_FAILED,
    "envoy_cluster_upstream_rq_active": names.ACTIVE,
    "envoy_cluster_upstream_rq_total": names.TOTAL,
    "envoy_cluster_upstream_rq_pending_active": names.WAITING,
    **{f"envoy_cluster_{name}": name for name in names.NEVER_CONNECTED},
}
_BUCKET = "envoy_cluster_upstream_rq_time_bucket"
_CLUSTER, _CLASS, _BOUND = "envoy_cluster_name", "envoy_response_code_class", "le"
_TOOK = 0.5
"""Seconds: a scrape is stamped when it is sent, and read when it arrives."""
_NOT_IDENTITY = frozenset({"__name__", _CLUSTER, _CLASS, _BOUND})


class PrometheusSource:
    """A `TelemetrySource` and `QuerySource` over one Prometheus.

    Args:
        url: its address, for instance `http://127.0.0.1:9090`.
        window: seconds to look back for samples; at least two scrape intervals.
        lookback: seconds after which the value of a user's query is stale (where Prometheus lets a query say so).
        timeout: seconds that it has to answer.
        headers: sent with each query, for instance authorization.
        verify: whether to check the certificate of an `https` address.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        url: str,
        *,
        window: float = 15.0,
        lookback: float = 120.0,
        timeout: float = 5.0,
        headers: dict[str, str] | None = None,
        verify: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url.rstrip("/")
        self._window = window
        self._lookback = lookback
        self._timeout = timeout
        self._headers = headers
        self._verify = verify
        self._clock = clock
        self._client: PrometheusConnect | None = None

    @property
    def name(self) -> str:
        """What people call this source."""
        return f"Prometheus at {self._url}"

    async def observe(self, subjects: Sequence[Subject]) -> list[Observation]:
        """Asks once for the counters of all subjects.

        Raises:
            TelemetryError: Prometheus did not answer, or refused the query.
        """
        result = await self._ask(selector(subjects, self._window))
        try:
            series = parse_matrix(result)
        except (ValueError, KeyError, TypeError, IndexError) as failure:
            raise TelemetryError(f"{self.name} gave an answer that is not Prometheus': {failure!r}") from failure
        now = self._clock()
        return [
            Observation(
                subject=subject,
                time=now,
                samples=tuple(
                    stats.sample(identity, cluster, arm)
                    for arm in subject.arms
                    for (identity, cluster), stats in series.items()
                    if cluster == names.cluster_of(subject, arm) and names.COMPLETED in stats.values
                ),
            )
            for subject in subjects
        ]

    async def history(self, subject: Subject, seconds: float, *, latency: bool = True) -> list[Observation]:
        """What it has kept of one subject's arms; see `HistorySource.history`.

        Raises:
            TelemetryError: Prometheus did not answer, or refused the query.
        """
        wanted = names.arms_pattern(subject)
        result = await self._ask(selector([subject], seconds, clusters=wanted, latency=latency))
        try:
            return await asyncio.to_thread(self._observations, subject, result)
        except (ValueError, KeyError, TypeError, IndexError) as failure:
            raise TelemetryError(f"{self.name} gave an answer that is not Prometheus': {failure!r}") from failure

    def _observations(self, subject: Subject, result: Sequence[Any]) -> list[Observation]:
        arms = {names.cluster_of(subject, arm): arm for arm in subject.arms}
        return observations(
            subject,
            {
                identity + "|" + cluster: [
                    stats.sample(identity, cluster, arms[cluster])
                    for _, stats in sorted(looks.items())
                    if names.COMPLETED in stats.values
                ]
                for (identity, cluster), looks in parse_history(result).items()
                if cluster in arms
            },
        )

    async def query(self, expression: str) -> float | None:
        """Evaluates a user's own query; see `QuerySource.query`.

        Raises:
            TelemetryError: no answer, a refused expression, or more than one series.
        """
        result = await self._ask(expression, lookback=self._lookback)
        try:
            value = _one(result)
        except (ValueError, KeyError, TypeError, IndexError) as failure:
            raise TelemetryError(
                f"{self.name} did not give one number for {expression!r} ({failure}); "
                "aggregate it, for instance with sum(...), and leave out range selectors on the outside"
            ) from failure
        return value if value is not None and math.isfinite(value) else None

    async def close(self) -> None:
        """Closes all connections."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)

    async def _ask(self, expression: str, *, lookback: float | None = None) -> list[Any]:
        """The `result` of one instant query."""
        params = {"timeout": f"{self._timeout:g}s"}
        if lookback is not None:
            params["lookback_delta"] = f"{lookback:g}s"
        try:
            async with asyncio.timeout(self._timeout + 1):
                return await asyncio.to_thread(self._ask_blocking, expression, params)
        except TimeoutError as failure:
            raise TelemetryError(
                f"{self.name} did not answer within {format_seconds(self._timeout)}; check its load"
            ) from failure

    def _ask_blocking(self, expression: str, params: dict[str, str]) -> list[Any]:
        from prometheus_api_client.exceptions import PrometheusApiClientException  # noqa: PLC0415 - slow to load
        from prometheus_api_client.prometheus_connect import PrometheusConnect  # noqa: PLC0415
        from requests import JSONDecodeError, RequestException  # noqa: PLC0415
        from urllib3.util.retry import Retry  # noqa: PLC0415

        client = self._client
        if client is None:
            # The hub asks again at the next tick: retries of the client's own would only make an answer late.
            client = self._client = PrometheusConnect(
                self._url,
                headers=self._headers or {},
                disable_ssl=not self._verify,
                retry=Retry(total=0),
                timeout=math.ceil(self._timeout),
            )
        try:
            result = client.custom_query(expression, params=params)
        except PrometheusApiClientException as failure:
            raise TelemetryError(f"{self.name} refused {expression!r}: {failure}; check the query") from failure
        except (JSONDecodeError, KeyError, TypeError) as failure:
            raise TelemetryError(f"{self.name} gave no answer to a query; is that a Prometheus?") from failure
        except RequestException as failure:
            raise TelemetryError(
                f"{self.name} can't be read: {failure}; check that it runs, and the address"
            ) from failure
        if not isinstance(result, list):
            raise TelemetryError(f"{self.name} gave {type(result).__name__} as a result; is that a Prometheus?")
        return result


@dataclass(slots=True)
class PrometheusSeries:
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


def selector(subjects: Sequence[Subject], window: float, *, clusters: str = "", latency: bool = True) -> str:
    """The one query for all subjects: every counter needed of all their clusters, raw, over the last `window`.

    Args:
        subjects: whose counters are asked for.
        window: seconds to look back.
        clusters: a pattern (RE2) for fewer clusters than all of theirs.
        latency: whether histograms are asked for: two thirds of the answer are theirs.
    """
    metrics = "|".join((*_METRICS, _BUCKET) if latency else _METRICS)
    clusters = (clusters or names.cluster_pattern(subjects)).replace("\\", "\\\\")
    # Only classes 5xx, and counters without a class: an absent label matches the empty alternative.
    return f'{{__name__=~"{metrics}",{_CLUSTER}=~"{clusters}",{_CLASS}=~"5|"}}[{math.ceil(window)}s]'


def parse_matrix(result: Sequence[Any]) -> dict[tuple[str, str], PrometheusSeries]:
    """Gathers the newest sample of each series by (instance, cluster).

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is no matrix.
    """
    found: defaultdict[tuple[str, str], PrometheusSeries] = defaultdict(PrometheusSeries)
    for entry in result:
        labels = entry["metric"]
        at, text = entry["values"][-1]
        if (counter := _counter(labels)) is not None:
            found[_series(labels)].put(counter, float(at), float(text))
    return dict(found)


def parse_history(result: Sequence[Any]) -> dict[tuple[str, str], dict[float, PrometheusSeries]]:
    """Gathers all samples of each series by (instance, cluster), then by the time they were scraped at.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is no matrix.
    """
    found: defaultdict[tuple[str, str], defaultdict[float, PrometheusSeries]] = defaultdict(
        lambda: defaultdict(PrometheusSeries)
    )
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
    return _METRICS.get(labels["__name__"])


def _series(labels: Mapping[str, str]) -> tuple[str, str]:
    """Whose counter it is: (instance, cluster)."""
    identity = ",".join(f"{key}={value}" for key, value in sorted(labels.items()) if key not in _NOT_IDENTITY)
    return identity, labels[_CLUSTER]


def _one(result: Sequence[Any]) -> float | None:
    """The number in the result of an instant query: a scalar, or a vector of at most one series."""
    if not result:
        return None
    if not isinstance(result[0], dict):
        return float(result[1])
    if len(result) > 1:
        raise ValueError(f"{len(result)} series")
    return float(result[0]["value"][1])
