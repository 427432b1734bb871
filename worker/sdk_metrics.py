"""Metrics of Temporal's SDK, served beside our own: slots, pollers, latencies and failures of a worker.

The SDK can serve them itself, but then at a second address. Instead it keeps them in a buffer, which is emptied here
and shown by the registry that `--metrics` serves.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from temporalio.runtime import (
    BUFFERED_METRIC_KIND_COUNTER,
    BUFFERED_METRIC_KIND_GAUGE,
    BufferedMetric,
    BufferedMetricUpdate,
    MetricBuffer,
    MetricBufferDurationFormat,
    Runtime,
    TelemetryConfig,
)

from autopilot.observability.metrics import REGISTRY

_BUFFER: Final = 100_000
"""Updates that the SDK keeps between two looks; a busy worker has some thousand a second."""
_EVERY: Final = 1.0
"""Seconds between two looks, if nobody scrapes."""
_BOUNDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of histograms' buckets, in seconds."""

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))
    total: float = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(_BOUNDS, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        found, below = [], 0
        for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self.counts, strict=True):
            below += count
            found.append((bound, float(below)))
        return found


@dataclass(slots=True)
class _Known:
    """One metric, and its values by labels."""

    metric: BufferedMetric
    values: dict[Labels, float] = field(default_factory=dict)
    histograms: dict[Labels, _Histogram] = field(default_factory=dict)


class SdkMetrics(Collector):
    """Makes the runtime whose metrics are shown; the client must be connected with it.

    Counters end in `_total`, durations in `_seconds`, as Prometheus wants it.

    Args:
        registry: where they are shown.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._buffer = MetricBuffer(_BUFFER, MetricBufferDurationFormat.SECONDS)
        self.runtime = Runtime(telemetry=TelemetryConfig(metrics=self._buffer))
        self._registry = registry
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._empty, name="metrics of the SDK", daemon=True)
        registry.register(self)
        self._thread.start()

    def describe(self) -> Sequence[Metric]:
        """Nothing: names are known only once they were counted."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric as it is now."""
        with self._lock:
            self._take()
            families = [_family(name, known) for name, known in sorted(self._known.items())]
        yield from families

    def close(self) -> None:
        """Shows them no longer."""
        self._closed.set()
        self._thread.join()
        self._registry.unregister(self)

    def _empty(self) -> None:
        while not self._closed.wait(_EVERY):
            with self._lock:
                self._take()

    def _take(self) -> None:
        for update in self._buffer.retrieve_updates():
            self._count(update)

    def _count(self, update: BufferedMetricUpdate) -> None:
        metric = update.metric
        known = self._known.setdefault(metric.name, _Known(metric))
        labels = tuple(sorted((name, str(value)) for name, value in update.attributes.items()))
        if metric.kind == BUFFERED_METRIC_KIND_COUNTER:
            known.values[labels] = known.values.get(labels, 0.0) + update.value
        elif metric.kind == BUFFERED_METRIC_KIND_GAUGE:
            known.values[labels] = update.value
        else:
            known.histograms.setdefault(labels, _Histogram()).observe(update.value)


def _family(name: str, known: _Known) -> Metric:
    said = known.metric.description or name
    names = sorted({label for labels in (*known.values, *known.histograms) for label, _ in labels})
    if known.metric.kind == BUFFERED_METRIC_KIND_COUNTER:
        counter = CounterMetricFamily(name, said, labels=names)
        for labels, value in known.values.items():
            counter.add_metric(_values(names, labels), value)
        return counter
    if known.metric.kind == BUFFERED_METRIC_KIND_GAUGE:
        gauge = GaugeMetricFamily(name, said, labels=names)
        for labels, value in known.values.items():
            gauge.add_metric(_values(names, labels), value)
        return gauge
    histogram = HistogramMetricFamily(f"{name}_seconds" if known.metric.unit == "s" else name, said, labels=names)
    for labels, counted in known.histograms.items():
        histogram.add_metric(_values(names, labels), counted.buckets(), counted.total)
    return histogram


def _values(names: Sequence[str], labels: Labels) -> list[str]:
    """Of all labels in their order; empty where a series has no such label."""
    given = dict(labels)
    return [given.get(name, "") for name in names]
