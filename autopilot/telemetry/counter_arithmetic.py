"""Counters of one series: whether they fell, what was added, and sums over series."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from autopilot.telemetry.model import Counters, SeriesSample


def numbers(sample: SeriesSample) -> list[float]:
    """Every number of a sample."""
    found = [sample.time, sample.took, sample.active, 0.0 if sample.begun is None else sample.begun]
    for view in (sample.attempt, sample.user):
        found += [view.requests, view.errors, view.timed, *(count for _, count in view.buckets)]
        found += [view.client_errors or 0.0, view.aborts]
    return found


def fell(now: Counters, before: Counters) -> bool:
    """Whether any counter is lower than before: the process that counts began anew."""
    earlier = dict(before.buckets)
    return (
        now.requests < before.requests
        or now.errors < before.errors
        or now.timed < before.timed
        or (now.client_errors or 0.0) < (before.client_errors or 0.0)
        or now.aborts < before.aborts
        or any(count < earlier.get(bound, 0.0) for bound, count in now.buckets)
    )


def carried(sample: SeriesSample, before: SeriesSample) -> SeriesSample:
    """The sample with the histogram of the one before, where it has lost its own: else it would return as all new."""
    if sample.attempt.buckets or not before.attempt.buckets:
        return sample
    return replace(
        sample,
        attempt=replace(sample.attempt, timed=before.attempt.timed, buckets=before.attempt.buckets),
        user=replace(sample.user, timed=before.user.timed, buckets=before.user.buckets),
    )


def minus(now: Counters, before: Counters) -> Counters:
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


def summed(found: Iterable[Counters]) -> Counters:
    """The sum over several series."""
    parts = list(found)
    told = [counters.client_errors for counters in parts if counters.client_errors is not None]
    return Counters(
        requests=sum(counters.requests for counters in parts),
        errors=sum(counters.errors for counters in parts),
        client_errors=sum(told) if told else None,
        aborts=sum(counters.aborts for counters in parts),
    )


def nearest(wanted: float, bounds: set[float]) -> float:
    """The bound of a histogram that is nearest to a boundary, by ratio."""
    return min(sorted(bounds), key=lambda bound: abs(math.log(bound / max(wanted, 1e-9))))
