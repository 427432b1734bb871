"""What a scrape interval costs, in numbers and in one sentence."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.telemetry.scrape_cost import scrape_cost


def test_in_words():
    assert str(scrape_cost(30, rate=100, weight=10)) == (
        "Prometheus scrapes every 30s, so harm is seen 15s later on average, 30s at worst: "
        "about 150 requests reach the canary before that (300 at worst), at 100 requests/s and a weight of 10 %."
    )
    assert "every 15s, so harm is seen 7.5s later on average, 15s at worst" in str(
        scrape_cost(15.004, rate=2000, weight=5)
    )
    assert "about 750 requests reach the canary before that (1,500 at worst)" in str(
        scrape_cost(15, rate=2000, weight=5)
    )


@pytest.mark.parametrize(("rate", "weight"), [(0, 10), (100, 0)])
def test_without_traffic_nothing_is_said_of_requests(rate: float, weight: float):
    assert str(scrape_cost(1, rate=rate, weight=weight)) == (
        "Prometheus scrapes every 1s, so harm is seen 500ms later on average, 1s at worst."
    )


@given(st.floats(0.1, 300), st.floats(0, 1e5), st.floats(0, 100))
def test_it_is_the_mean_over_all_moments_at_which_harm_may_begin(interval: float, rate: float, weight: float):
    cost = scrape_cost(interval, rate=rate, weight=weight)
    moments = [(n + 0.5) / 1000 * interval for n in range(1000)]
    waits = [interval - moment for moment in moments]
    assert cost.seconds == pytest.approx(sum(waits) / len(waits))
    assert max(waits) <= cost.most_seconds
    assert cost.requests == pytest.approx(cost.seconds * rate * weight / 100)
    assert cost.most_requests == pytest.approx(2 * cost.requests)


@pytest.mark.parametrize(
    ("interval", "rate", "weight"),
    [(0, 1, 1), (-1, 1, 1), (math.nan, 1, 1), (math.inf, 1, 1), (1, -1, 1), (1, math.nan, 1), (1, 1, 101), (1, 1, -1)],
)
def test_numbers_that_are_none_are_refused(interval: float, rate: float, weight: float):
    with pytest.raises(ValueError, match=r"is n"):
        scrape_cost(interval, rate=rate, weight=weight)
