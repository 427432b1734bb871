"""Reads counters that a Prometheus has scraped from proxies, and evaluates users' own queries.

Raw samples, never `rate()`: a rate blurs the moment of change over its window, and has no counts to weigh. A range
selector in an instant query gives every series' newest sample with the time it was scraped at; one query serves all
subjects. What the counters are called is a dialect's part. Some stores (Google's) take no pattern for metric names:
they are asked for each metric, once they have refused the query for all.

A window that is shorter than the scrape interval sees nothing, and one far longer drags gone proxies along. So the
first answers are asked for over a long window, to see how far apart samples lie, and all later ones over a fitting one.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from autopilot.spec.values.units import format_seconds
from autopilot.telemetry.dialects.dialect import Dialect, Reading
from autopilot.telemetry.dialects.envoy import Envoy
from autopilot.telemetry.model import Observation, Subject, TelemetryError
from autopilot.telemetry.prometheus.answers import QueryRefused, Unauthorized
from autopilot.telemetry.prometheus.credentials import Sent, StoreAccess, tls_context
from autopilot.telemetry.prometheus.history import observations
from autopilot.telemetry.prometheus.native_histograms import expanded
from autopilot.telemetry.prometheus.scrape_interval import interval_of, since, span, window_for, within

if TYPE_CHECKING:
    from autopilot.telemetry.prometheus.client import StoreClient

_AT_ONCE = 4
"""Queries of one look under way at once: a store that hangs must not take all threads of a worker."""
_NATIVE_EVERY = 30
"""Looks without any histogram between two that look for native ones."""


class PrometheusSource:
    """A `TelemetrySource` and `QuerySource` over one Prometheus.

    Args:
        url: its address, for instance `http://127.0.0.1:9090`.
        dialect: what the counters are called; Envoy's own by default.
        access: credentials and certificates; None where it wants none.
        by_name: whether to ask for each metric by its name, for a store that takes no pattern there; one that refuses
            the pattern is asked so in any case.
        window: seconds to look back for samples at the least; more where scrapes are further apart.
        lookback: seconds after which the value of a user's query is stale (where Prometheus lets a query say so).
        timeout: seconds that it has to answer.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        url: str,
        *,
        dialect: Dialect | None = None,
        access: StoreAccess | None = None,
        by_name: bool = False,
        window: float = 15.0,
        lookback: float = 120.0,
        timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url.rstrip("/")
        self._dialect = Envoy() if dialect is None else dialect
        self._by_name = by_name
        self._natives = False
        self._bare = 0
        self._window = window
        self._interval: float | None = None
        self._settled = False
        self._lookback = lookback
        self._timeout = timeout
        self._access = access
        self._connecting = threading.Lock()
        self._certificates: tuple[bytes | None, bytes | None] | None = None
        self._clock = clock
        self._client: StoreClient | None = None

    @property
    def name(self) -> str:
        """Name of this source for messages."""
        return f"Prometheus at {self._url}"

    @property
    def interval(self) -> float | None:
        """Seconds between two scrapes; None until a proxy was seen to be scraped twice."""
        return self._interval

    @property
    def window(self) -> float:
        """Seconds that the next look goes back."""
        return window_for(self._interval if self._settled else None, self._window)

    async def observe(self, subjects: Sequence[Subject]) -> list[Observation]:
        """Asks once for the counters of all subjects.

        Raises:
            TelemetryError: Prometheus did not answer, or refused the query.
        """
        asked = self.window
        result = await self._select(subjects, asked)
        try:
            readings = await asyncio.to_thread(self._read, result, asked, subjects)
        except (ValueError, KeyError, TypeError, IndexError) as failure:
            raise self._no_matrix(failure) from failure
        now = self._clock()
        return [
            Observation(subject=subject, time=now, samples=reading.samples, missing=reading.missing)
            for subject, reading in zip(subjects, readings, strict=True)
        ]

    async def history(self, subject: Subject, seconds: float, *, latency: bool = True) -> list[Observation]:
        """What it has kept of one subject's arms; see `HistorySource.history`.

        Raises:
            TelemetryError: Prometheus did not answer, or refused the query.
        """
        result = await self._select([subject], seconds, latency=latency, strict=True)
        try:
            return await asyncio.to_thread(lambda: observations(subject, self._dialect.history(result, subject)))
        except (ValueError, KeyError, TypeError, IndexError) as failure:
            raise self._no_matrix(failure) from failure

    def _read(self, result: Sequence[Any], asked: float, subjects: Sequence[Subject]) -> list[Reading]:
        """What an answer over the `asked` seconds says; one over many is cut to what a later one would hold."""
        self._learn(result)
        if self.window < asked:
            result = within(result, self.window)
        return self._dialect.newest(result, subjects)

    def _learn(self, result: Sequence[Any]) -> None:
        """Takes the scrape interval from an answer, once; anew when a fitting window has become an empty one."""
        if self._settled and result:
            return
        found = interval_of(result)
        self._settled = found is not None
        self._interval = found or self._interval

    def _no_matrix(self, failure: Exception) -> TelemetryError:
        return TelemetryError(f"{self.name} gave an answer that is not in Prometheus' format: {failure!r}")

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
                f"{self.name} did not return one number for {expression!r} ({failure}); "
                "aggregate it, for instance with sum(...), and leave out range selectors on the outside"
            ) from failure
        return None if value is None or math.isnan(value) else value

    async def vector(self, expression: str) -> dict[str, float]:
        """The newest values of all series that an expression selects, by their labels.

        Raises:
            TelemetryError: it did not answer, or refused the expression.
        """
        result = await self._ask(expression)
        try:
            return {
                ",".join(f"{key}={value}" for key, value in sorted(one["metric"].items())): float(one["value"][1])
                for one in result
            }
        except (ValueError, KeyError, TypeError, IndexError) as failure:
            raise TelemetryError(f"{self.name} returned no vector for {expression!r}: {failure}") from failure

    async def close(self) -> None:
        """Closes all connections."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)

    async def _select(
        self, subjects: Sequence[Subject], window: float, *, latency: bool = True, strict: bool = False
    ) -> list[Any]:
        """Every counter of the subjects; native histograms too, where it has no classic ones."""

        def selector(name: str = "") -> str:
            return self._dialect.selector(subjects, window, latency=latency, strict=strict, name=name)

        found = await self._counters(selector, latency=latency)
        if latency and self._may_be_native(found):
            found += await self._native(selector, found)
        return found

    async def _counters(self, selector: Callable[..., str], *, latency: bool) -> list[Any]:
        """The result of one query for all metrics, or of one for each metric where the store wants that."""
        refused: QueryRefused | None = None
        if not self._by_name:
            try:
                return await self._ask(selector())
            except QueryRefused as failure:
                refused = failure
        names = self._dialect.metrics(latency=latency)
        try:
            found = await self._each([selector(name) for name in names])
        except TelemetryError:
            if refused is None:
                raise
            raise refused from None  # that was not the reason, or the next look tries again
        self._by_name = True
        return found

    def _may_be_native(self, found: Sequence[Any]) -> bool:
        """Whether to look for native histograms: there are counts, but no classic histogram.

        A service that nobody has called yet has neither; so where none are found, only some of the looks ask again.
        """
        try:
            classic = any(entry["metric"].get("__name__", "").endswith("_bucket") for entry in found)
        except (KeyError, TypeError, AttributeError) as failure:
            raise self._no_matrix(failure) from failure
        if classic or not found:
            return False
        self._bare = 0 if self._natives else (self._bare + 1) % _NATIVE_EVERY
        return self._natives or self._bare == 1

    async def _native(self, selector: Callable[..., str], found: Sequence[Any]) -> list[Any]:
        """Native histograms as classic series, as of the newest of the samples that were found."""
        oldest, newest = self._span(found)
        bounds = self._dialect.histograms
        histograms: list[Any] = []
        for name in bounds:
            try:
                histograms += await self._ask(selector(name), at=newest)
            except QueryRefused:
                if self._natives:
                    raise
                return []  # a store that has no such metric may say so by refusing it
        try:
            series = await asyncio.to_thread(expanded, since(histograms, oldest), bounds)
        except (ValueError, KeyError, TypeError, IndexError) as failure:
            raise self._no_matrix(failure) from failure
        self._natives = self._natives or bool(series)
        return series

    async def _each(self, selectors: Sequence[str]) -> list[Any]:
        """The results of several queries as of one moment.

        Each metric by itself would be as of its own: failures of a scrape whose requests were not there yet. So the
        later ones are asked as of the newest sample of the first that has any, and cut to its oldest.
        """
        found: list[Any] = []
        waiting = list(selectors)
        while waiting and not found:
            found = await self._ask(waiting.pop(0))
        oldest, newest = self._span(found)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def ask(selector: str) -> list[Any]:
            async with slots:
                return await self._ask(selector, at=newest)

        more = await asyncio.gather(*(ask(each) for each in waiting))
        try:
            return found + [entry for result in more for entry in since(result, oldest)]
        except (ValueError, KeyError, TypeError, IndexError) as failure:
            raise self._no_matrix(failure) from failure

    def _span(self, found: Sequence[Any]) -> tuple[float | None, float | None]:
        try:
            return span(found)
        except (ValueError, KeyError, TypeError, IndexError) as failure:
            raise self._no_matrix(failure) from failure

    async def _ask(self, expression: str, *, lookback: float | None = None, at: float | None = None) -> list[Any]:
        """The `result` of one instant query, now or as of a time."""
        # Thanos answers without the stores that fail, unless it is asked not to; others do not know the parameter.
        params = {"timeout": f"{self._timeout:g}s", "partial_response": "false"}
        if lookback is not None:
            params["lookback_delta"] = f"{lookback:g}s"
        if at is not None:
            params["time"] = f"{at:.3f}"
        try:
            async with asyncio.timeout(self._timeout + 1):
                return await asyncio.to_thread(self._ask_blocking, expression, params)
        except TimeoutError as failure:
            raise TelemetryError(
                f"{self.name} did not answer within {format_seconds(self._timeout)}; check its load"
            ) from failure

    def _ask_blocking(self, expression: str, params: dict[str, str]) -> list[Any]:
        if self._access is None:
            return self._connected(None).ask(expression, params, Sent())
        self._access.check(self._url)
        client = self._connected(self._access.certificates())
        try:
            return client.ask(expression, params, self._access.sent())
        except Unauthorized:
            if not self._access.refused():
                raise
            return client.ask(expression, params, self._access.sent())

    def _connected(self, certificates: tuple[bytes | None, bytes | None] | None) -> StoreClient:
        """The client; a new one where the certificates are others than before."""
        from autopilot.telemetry.prometheus.client import StoreClient, usual_authorities  # noqa: PLC0415 - slow to load

        with self._connecting:
            if self._client is None or self._certificates != certificates:
                tls = tls_context(*certificates, usual=usual_authorities()) if certificates else None
                if self._client is not None:
                    self._client.close()  # what is under way on it goes on
                self._client = StoreClient(self._url, name=self.name, timeout=self._timeout, tls=tls)
                self._certificates = certificates
            return self._client


def _one(result: Sequence[Any]) -> float | None:
    """The number in the result of an instant query: a scalar, or a vector of at most one series."""
    if not result:
        return None
    if not isinstance(result[0], dict):
        return float(result[1])
    if len(result) > 1:
        raise ValueError(f"{len(result)} series")
    if "histogram" in result[0]:
        raise ValueError("a histogram; take histogram_quantile or histogram_count of it")
    return float(result[0]["value"][1])
