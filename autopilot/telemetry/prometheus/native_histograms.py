"""Native histograms as the classic ones that dialects read: cumulative counts at a mesh's usual bounds.

A Prometheus may keep a histogram as one series with all its buckets (converted when it was scraped, or by whoever
wrote it there), and has then no `…_bucket` series. Its answer lists the buckets of each sample that are not empty, so
bounds differ from one sample to the next; counts are compared at bounds that stay. Where a bound lies within a bucket,
its requests are divided as PromQL's `histogram_fraction` does: by logarithm in exponential buckets, evenly in others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_WIDEST = 2.0 * (1 + 1e-9)
"""Exponential buckets of schema 0 and finer double at most from one bound to the next."""


def expanded(result: Sequence[Any], bounds: Mapping[str, Sequence[float]]) -> list[Any]:
    """Classic series, as a range selector would have found them.

    Args:
        result: of a range selector over native histograms.
        bounds: by metric, upper bounds in the metric's own unit, rising.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is no matrix.
    """
    found: list[Any] = []
    for entry in result:
        name = entry["metric"]["__name__"]
        samples = entry.get("histograms", ())
        if not samples or name not in bounds:
            continue
        counted = [(at, _cumulative(sample, bounds[name])) for at, sample in samples]
        for index, bound in enumerate((*bounds[name], math.inf)):
            metric = {
                **entry["metric"],
                "__name__": f"{name}_bucket",
                "le": "+Inf" if bound == math.inf else f"{bound:g}",
            }
            found.append({"metric": metric, "values": [[at, repr(counts[index])] for at, counts in counted]})
    return found


def _cumulative(sample: Mapping[str, Any], bounds: Sequence[float]) -> list[float]:
    """Requests at most as slow as each bound, and all requests at the end."""
    counts = [0.0] * len(bounds)
    for _, left, right, number in sample.get("buckets", ()):
        low, high, count = float(left), float(right), float(number)
        for index, bound in enumerate(bounds):
            counts[index] += count * _share(low, high, bound)
    return [*counts, float(sample["count"])]


def _share(low: float, high: float, bound: float) -> float:
    """Which share of a bucket lies below a bound."""
    if high <= bound:
        return 1.0
    low = max(low, 0.0)  # no request takes less than no time; the first bucket may begin at minus infinity
    if bound <= low or math.isinf(high):
        return 0.0
    if low > 0 and high / low <= _WIDEST:
        return math.log(bound / low) / math.log(high / low)
    return (bound - low) / (high - low)
