"""Differences: what happened, no more and no less, whatever the series do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.telemetry.counter_deltas import FORGET, Differencer
from autopilot.telemetry.model import Counters
from autopilot.telemetry.ticks import Gap, HubTick, merge
from tests.telemetry.fakes import counters, sample, seen

GROWTH = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20
)


def differencer(*boundaries: float) -> Differencer:
    return Differencer(canary="v2", stable="v1", wanted=boundaries)


def ticks(*found: HubTick | Gap) -> list[HubTick]:
    return [item for item in found if isinstance(item, HubTick)]


@given(GROWTH, st.booleans())
def test_ticks_add_up_to_the_increase(growth: list[tuple[int, int, int, int]], merged: bool):
    """Two proxies, both arms; without resets nothing is lost and nothing made up, merged or not."""
    hub, totals, found = differencer(), [100.0, 7.0, 2000.0, 30.0], []
    hub.fold(seen(0, *_pair(0, totals)))
    for second, more in enumerate(growth, 1):
        totals = [total + step for total, step in zip(totals, more, strict=True)]
        found += ticks(hub.fold(seen(second, *_pair(second, totals))))
    if merged:
        while len(found) > 1:
            found[:2] = [merge(found[0], found[1])]
    assert len(found) == (1 if merged else len(growth))
    increase = [total - begin for total, begin in zip(totals, (100, 7, 2000, 30), strict=True)]
    assert sum(item.tick.canary.requests for item in found) == increase[0] + increase[1]
    assert sum(item.tick.stable.requests for item in found) == increase[2] + increase[3]
    assert sum(item.exposure.requests for item in found) == increase[0] + increase[1]
    assert sum(item.tick.seconds for item in found) == len(growth)


def _pair(time: float, totals: list[float]) -> tuple:
    return (
        sample("v2", time, Counters(requests=totals[0]), proxy="a"),
        sample("v2", time, Counters(requests=totals[1]), proxy="b"),
        sample("v1", time, Counters(requests=totals[2]), proxy="a"),
        sample("v1", time, Counters(requests=totals[3]), proxy="b"),
    )


WILD = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.floats(0, 1000) | st.just(math.nan) | st.just(math.inf),
            st.floats(0, 100) | st.just(math.nan),
            st.none() | st.floats(0, 40),
            st.integers(-2, 2),
        ),
        max_size=3,
    ),
    max_size=15,
)


@given(WILD)
def test_wild_series_give_no_negative_and_no_nan(polls: list[list[tuple[str, float, float, float | None, int]]]):
    """Resets, series that come and go, NaN, infinity, clocks that go back: never a negative count, never a NaN."""
    hub = differencer(0.1)
    for second, poll in enumerate(polls):
        samples = [
            sample(
                "v2", second + late, counters(requests, errors, fast=min(requests, errors)), proxy=proxy, started=began
            )
            for proxy, requests, errors, began, late in poll
        ]
        item = hub.fold(seen(second, *samples))
        if isinstance(item, HubTick):
            arm = item.tick.canary
            numbers = [arm.requests, arm.errors, arm.timed, *arm.slow, item.exposure.requests, item.exposure.failures]
            assert all(number >= 0 and math.isfinite(number) for number in numbers)
            assert item.tick.seconds > 0
            assert item.measured is None or 0 <= item.measured <= 1
        else:
            assert item.silent_seconds >= 0
            assert item.reason


def test_the_first_reading_is_a_gap():
    gap = differencer().fold(seen(5, sample("v1", 5, counters(10)), sample("v2", 5, counters(1))))
    assert gap == Gap(time=5, silent_seconds=0, reason="this is the first reading, so there is no difference yet")


def test_a_series_that_leaves_is_no_reset():
    hub = differencer()
    stays, leaves = sample("v2", 1, counters(100)), sample("v2", 1, counters(5000), proxy="other")
    hub.fold(seen(1, stays, leaves))
    item = hub.fold(seen(2, replace(stays, time=2, attempt=counters(103), user=counters(103)), other="gone"))
    assert isinstance(item, HubTick)
    assert item.tick.canary.requests == 3
    assert item.notes == ("other is missing: gone",)
    # And when it is back, what it counted meanwhile is not lost.
    back = hub.fold(seen(3, sample("v2", 3, counters(5010), proxy="other")))
    assert isinstance(back, HubTick)
    assert back.tick.canary.requests == 10


def test_a_known_restart_counts_from_nought():
    hub = differencer()
    hub.fold(seen(10, sample("v2", 10, counters(500, 5), started=0)))
    item = hub.fold(seen(20, sample("v2", 20, counters(7, 1), started=15)))
    assert isinstance(item, HubTick)
    assert (item.tick.canary.requests, item.tick.canary.errors) == (7, 1)


def test_a_restart_takes_no_old_histogram_along():
    hub = differencer(0.1)
    hub.fold(seen(10, sample("v2", 10, counters(500, fast=400), started=0)))
    item = hub.fold(seen(20, sample("v2", 20, counters(2), started=15)))
    assert isinstance(item, HubTick)
    assert (item.tick.canary.requests, item.tick.canary.timed, item.tick.canary.slow) == (2, 0, (0,))


def test_a_known_restart_is_seen_though_counters_rose():
    hub = differencer()
    hub.fold(seen(10, sample("v2", 10, counters(5), started=0)))
    item = hub.fold(seen(20, sample("v2", 20, counters(9), started=15)))
    assert isinstance(item, HubTick)
    assert item.tick.canary.requests == 9


@pytest.mark.parametrize("started", [None, 0.0])
def test_a_fall_without_a_known_start_is_left_out(started: float | None):
    hub = differencer()
    hub.fold(seen(10, sample("v2", 10, counters(500), started=started)))
    gap = hub.fold(seen(11, sample("v2", 11, counters(7), started=started)))
    assert isinstance(gap, Gap)
    assert "web|v2 was reset" in gap.reason
    item = hub.fold(seen(12, sample("v2", 12, counters(9), started=started)))
    assert isinstance(item, HubTick)
    assert item.tick.canary.requests == 2


def test_a_start_time_that_wavers_is_no_restart():
    hub = differencer()
    hub.fold(seen(10, sample("v2", 10, counters(500), started=3.1)))
    item = hub.fold(seen(11, sample("v2", 11, counters(502), started=4.0)))
    assert isinstance(item, HubTick)
    assert item.tick.canary.requests == 2


def test_a_new_series_counts_only_if_born_since():
    hub = differencer()
    hub.fold(seen(10, sample("v2", 10, counters(1))))
    born = sample("v2", 11, counters(4), proxy="born", started=10.5)
    old = sample("v2", 11, counters(999), proxy="old", started=2)
    item = hub.fold(seen(11, sample("v2", 11, counters(2)), born, old))
    assert isinstance(item, HubTick)
    assert item.tick.canary.requests == 1 + 4


def test_a_sample_that_does_not_advance_is_stale():
    hub = differencer()
    hub.fold(seen(10, sample("v2", 10, counters(1))))
    gap = hub.fold(seen(14, sample("v2", 10, counters(1))))
    assert gap == Gap(time=14, silent_seconds=4, reason="no new sample")
    item = hub.fold(seen(15, sample("v2", 15, counters(3))))
    assert isinstance(item, HubTick)
    assert (item.tick.seconds, item.tick.canary.requests) == (5, 2)


def test_a_late_series_is_not_lost():
    """One that advances without being the newest waits for the next tick."""
    hub = differencer()
    hub.fold(seen(10, sample("v2", 10, counters(1), proxy="a"), sample("v2", 8, counters(1), proxy="b")))
    assert isinstance(hub.fold(seen(11, sample("v2", 9, counters(6), proxy="b"))), Gap)
    item = hub.fold(seen(12, sample("v2", 12, counters(2), proxy="a")))
    assert isinstance(item, HubTick)
    assert item.tick.canary.requests == 6


def test_numbers_that_are_none_are_said():
    hub = differencer()
    hub.fold(seen(1, sample("v2", 1, counters(1))))
    gap = hub.fold(seen(2, sample("v2", 2, counters(math.nan))))
    assert isinstance(gap, Gap)
    assert "web|v2 has counters that are not numbers" in gap.reason


def test_no_counters_at_all_are_said():
    gap = differencer().fold(seen(1, web="refused"))
    assert isinstance(gap, Gap)
    assert gap.reason == "no counters of shop/reviews; web is missing: refused"


def test_boundaries_move_to_the_nearest_bound():
    hub = differencer(0.05, 0.9, 0.25)
    assert hub.boundaries == ()
    hub.fold(seen(1, sample("v2", 1, counters(10, fast=9)), sample("v1", 1, counters(10, fast=10))))
    assert hub.boundaries == (0.1, 1.0, 0.1)
    later = (sample("v2", 2, counters(20, fast=12)), sample("v1", 2, counters(110, fast=110)))
    item = hub.fold(seen(2, *later))
    assert isinstance(item, HubTick)
    assert item.boundaries == (0.1, 1.0, 0.1)
    assert (item.tick.canary.timed, item.tick.canary.slow) == (10, (7, 0, 7))
    assert (item.tick.stable.timed, item.tick.stable.slow) == (100, (0, 0, 0))


def test_a_histogram_that_vanishes_and_returns_adds_nothing_old():
    hub = differencer(0.1)
    hub.fold(seen(1, sample("v2", 1, counters(100, fast=50))))
    hub.fold(seen(2, sample("v2", 2, counters(101))))
    back = hub.fold(seen(3, sample("v2", 3, counters(102, fast=51))))
    assert isinstance(back, HubTick)
    assert (back.tick.canary.requests, back.tick.canary.timed, back.tick.canary.slow) == (1, 2, (1,))


def test_a_histogram_that_appears_began_since():
    """Envoy lists no histogram before a first request: all it holds then is new."""
    hub = differencer(0.1)
    hub.fold(seen(1, sample("v2", 1, counters(0))))
    item = hub.fold(seen(2, sample("v2", 2, counters(4, fast=3))))
    assert isinstance(item, HubTick)
    assert (item.tick.canary.requests, item.tick.canary.timed, item.tick.canary.slow) == (4, 4, (1,))


def test_the_two_views_do_not_mix():
    hub = differencer()
    hub.fold(seen(1, sample("v2", 1, counters(0)), sample("v1", 1, counters(0))))
    canary = sample("v2", 2, counters(8, 4), user=counters(4, 1), active=3)
    item = hub.fold(seen(2, canary, sample("v1", 2, counters(20), user=counters(16), active=9)))
    assert isinstance(item, HubTick)
    assert (item.tick.canary.requests, item.tick.canary.errors) == (8, 4)
    assert (item.exposure.requests, item.exposure.failures, item.exposure.seconds) == (4, 1, 1)
    assert (item.measured, item.active) == (0.2, 3)


def test_totals_of_the_long_gone_are_forgotten():
    hub = differencer()
    hub.fold(seen(0, sample("v2", 0, counters(1)), sample("v2", 0, counters(50), proxy="gone")))
    hub.fold(seen(FORGET + 1, sample("v2", FORGET + 1, counters(2))))
    item = hub.fold(
        seen(FORGET + 2, sample("v2", FORGET + 2, counters(3)), sample("v2", FORGET + 2, counters(90), proxy="gone"))
    )
    assert isinstance(item, HubTick)
    assert item.tick.canary.requests == 1


def test_a_try_that_waits_for_its_retry_is_not_given_back():
    """Between the failure of a first try and the begin of the second, Envoy has counted the retry alone."""
    hub = differencer()
    quiet = replace(sample("v2", 0, counters(0)), begun=0.0)
    hub.fold(seen(0, quiet))
    exposure = []
    for second, (tries, completed, begun) in enumerate([(0, 0, 1), (1, 0, 1), (1, 0, 2), (2, 1, 2)], 1):
        look = replace(
            sample("v2", second, counters(tries), user=counters(completed)), begun=float(begun), active=begun - tries
        )
        item = hub.fold(seen(second, look))
        assert isinstance(item, HubTick)
        exposure.append(item.exposure.requests)
    assert exposure == [1, 0, 0, 0]
