"""Latency boundaries that follow a service."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from autopilot.telemetry import quantiles
from autopilot.telemetry.model import Counters, Observation, SeriesSample, Subject

BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, math.inf)
SUBJECT = Subject("local", "shop", "reviews", ("v1", "v2"))


def counted(numbers: list[float]) -> Counters:
    """Cumulative counts of requests that fell into each bucket."""
    within = [sum(numbers[: index + 1]) for index in range(len(numbers))]
    return Counters(requests=within[-1], timed=within[-1], buckets=tuple(zip(BOUNDS, within, strict=True)))


def look(time: float, **series: Counters) -> Observation:
    samples = tuple(
        SeriesSample(series=name, arm=name.split("_")[0], time=time, started=None, attempt=seen, user=seen)
        for name, seen in series.items()
    )
    return Observation(subject=SUBJECT, time=time, samples=samples)


@given(st.lists(st.integers(0, 5000).map(float), min_size=len(BOUNDS), max_size=len(BOUNDS)))
def test_each_boundary_is_the_first_bucket_that_holds_so_many(numbers: list[float]) -> None:
    total = sum(numbers)
    found = quantiles.ever(look(1, v1=counted(numbers)), "v1").boundaries()
    assert list(found) == sorted(set(found))
    assert set(found) <= set(BOUNDS) - {math.inf}
    if total < quantiles.LEAST:
        assert found == ()
        return
    for share in quantiles.QUANTILES:
        holding = [bound for bound, seen in counted(numbers).buckets if seen >= share * total and bound < math.inf]
        assert not holding or min(holding) in found
    assert all(total * 0.5 <= dict(counted(numbers).buckets)[bound] for bound in found)


def test_a_service_of_milliseconds_and_one_of_seconds_are_seen_where_they_are() -> None:
    fast = counted([0, 600, 350, 40, 10, 0, 0, 0])
    assert quantiles.ever(look(1, v1=fast), "v1").boundaries() == (0.005, 0.01, 0.05, 0.1)
    slow = counted([0, 0, 0, 0, 0, 20, 970, 10])
    assert quantiles.ever(look(1, v1=slow), "v1").boundaries() == (1.0,)


def test_what_was_seen_lately_counts_alone_and_series_that_begin_anew_count_from_nought() -> None:
    before = counted([1e6, 0, 0, 0, 0, 0, 0, 0])
    after = counted([1e6, 0, 0, 0, 200, 0, 0, 0])
    other = counted([0, 0, 0, 50, 0, 0, 0, 0])
    anew = counted([0, 0, 0, 400, 0, 0, 0, 0])
    sick = counted([0, 0, 0, 0, 0, 0, 0, 9e9])
    looks = [look(1, v1_a=before, v1_b=sick, v2=sick), look(2, v1_a=after, v1_b=other, v2=sick)]
    spread = quantiles.lately(looks, "v1")
    assert (spread.timed, spread.within[0.05], spread.within[0.1]) == (250, 50, 250)
    assert quantiles.lately([*looks, look(3, v1_b=anew)], "v1").timed == 600
    assert quantiles.lately(looks[:1], "v1").boundaries() == ()
