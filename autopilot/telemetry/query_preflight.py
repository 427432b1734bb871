"""What a rollout's metrics find before its first shift.

No step advances without data, so a query that never has a value, and a histogram that the store does not keep, hold a
rollout up at its first step. They can be seen before, and are said before: as notes, for a query about the canary may
well have no value until the canary gets requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from autopilot.evidence.configuration import boundaries_of
from autopilot.evidence.explanations import shortened
from autopilot.spec.canary import Analysis, Latency, LatencyObjective, PromQL
from autopilot.telemetry.model import SeriesSample


async def without_value(analysis: Analysis, ask: Callable[[PromQL], Awaitable[float | None]]) -> list[str]:
    """Asks every custom query once; one sentence for each that has no value now.

    Raises:
        TelemetryError: a query was refused, or not answered.
    """
    return [
        f"{metric.name} has no value now, and no step advances without one: {shortened(metric.query)}"
        for metric in analysis.metrics
        if isinstance(metric, PromQL) and await ask(metric) is None
    ]


def without_histogram(analysis: Analysis, samples: Iterable[SeriesSample], arm: str) -> list[str]:
    """One sentence where an arm has counted requests and no latency histogram, and a metric needs one."""
    if not boundaries_of(analysis):
        return []
    mine = [sample.attempt for sample in samples if sample.arm == arm]
    requests = sum(counted.requests for counted in mine)
    if requests <= 0 or any(counted.buckets for counted in mine):
        return []
    names = [metric.name for metric in analysis.metrics if isinstance(metric, Latency | LatencyObjective)]
    found = f"{arm} has {requests:,.0f} requests and no latency histogram (in Prometheus, series that end in _bucket)"
    return [f"{found}, so {', '.join(names)} cannot be judged, and no step advances without data"]
