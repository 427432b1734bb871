"""What was scraped before a rollout: rounds of scrapes, nothing counted twice, and nothing made up for holes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.model import SeriesSample
from autopilot.telemetry.prometheus.history import observations, ticks
from tests.telemetry.fakes import REVIEWS, counters, sample


def scraped(
    proxy: str, times: list[float], arm: str = "v1", *, rate: float = 10.0, failing: float = 0.0
) -> dict[str, list[SeriesSample]]:
    """One proxy's counters at those times: so many requests a second, a share of them failing."""
    taken = [sample(arm, at, counters(rate * at, failing * rate * at), proxy=proxy, started=None) for at in times]
    return {taken[0].series: taken}


def told(series: dict[str, list[SeriesSample]]) -> list[tuple[float, float]]:
    """(seconds, stable's requests) of every tick."""
    looks = observations(REVIEWS, series)
    return [(tick.seconds, tick.stable.requests) for tick in ticks(Differencer("v2", "v1"), looks)]


def test_a_round_holds_every_proxy_once():
    every = [float(at) for at in range(20)]
    found = told(
        scraped("a", every) | scraped("b", [at + 0.4 for at in every]) | scraped("c", [at + 0.97 for at in every])
    )
    assert all(tick == pytest.approx((1.0, 30.0)) for tick in found[1:-1])
    assert len(found) == 20


@pytest.mark.parametrize("interval", [5.0, 15.0, 60.0])
def test_ticks_are_as_long_as_scrapes(interval: float):
    times = [interval * at for at in range(10)]
    found = told(scraped("a", times) | scraped("b", [at + interval / 3 for at in times]))
    assert all(seconds == pytest.approx(interval) for seconds, _ in found)


def test_whoever_is_scraped_most_seldom_gives_the_length():
    found = told(scraped("a", [float(at) for at in range(61)]) | scraped("b", [15.0 * at for at in range(5)]))
    assert [seconds for seconds, _ in found[:-1]] == [15.0] * 3


def test_a_hole_is_no_window():
    times = [*range(10), *range(300, 310)]
    found = told(scraped("a", [float(at) for at in times]))
    assert {seconds for seconds, _ in found} == {1.0}
    assert len(found) == 18


def test_a_proxy_that_began_anew_counts_nothing_twice():
    times = [float(at) for at in range(10)]
    before, after = scraped("a", times)["a|v1"], scraped("a", times)["a|v1"]
    again = [sample("v1", 10 + one.time, one.attempt, proxy="a", started=None) for one in after]
    found = told({"a|v1": [*before, *again]})
    assert sum(requests for _, requests in found) == 9 * 10 + 9 * 10


def test_nothing_kept_is_nothing_told():
    assert observations(REVIEWS, {}) == []
    assert told(scraped("a", [3.0])) == []


@given(
    gaps=st.lists(st.lists(st.floats(0.97, 1.03), min_size=5, max_size=40), min_size=1, max_size=4),
    phases=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_whatever_the_scrapes_all_is_counted_once(gaps: list[list[float]], phases: list[float]):
    """From each proxy's first scrape to its last."""
    series: dict[str, list[SeriesSample]] = {}
    requests = 0.0
    for number, (each, phase) in enumerate(zip(gaps, phases, strict=False)):
        times = [phase]
        for gap in each:
            times.append(times[-1] + gap)
        series |= scraped(str(number), times)
        requests += 10 * (times[-1] - times[0])
    looks = observations(REVIEWS, series)
    differencer = Differencer("v2", "v1")
    folded = [item.tick.stable.requests for look in looks if hasattr(item := differencer.fold(look), "tick")]
    assert sum(folded) <= requests + 1e-6
    assert sum(folded) >= requests - 10 * 1.1 * 4 * 2  # a proxy's first scrape, and what comes with no tick any more
