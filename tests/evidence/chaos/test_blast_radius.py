"""How far an experiment has gone: never said too early, always said in the end, and no data is no word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.evidence.chaos.blast_radius import (
    Count,
    beyond_failures,
    beyond_share,
    burn,
    excess,
    share_evidence,
    trimmed,
)

SHARES = st.floats(0.5, 99)


@given(st.floats(0, 1e6), st.floats(0, 1e6), SHARES)
def test_a_share_below_its_cap_is_never_beyond_it(met: float, rest: float, cap: float) -> None:
    of = met + rest
    if of and met / of <= cap / 100:
        assert not beyond_share(met, of, cap)


def test_evidence_is_an_e_process() -> None:
    """At the cap itself, looked at after every request, hardly one run in a thousand is ever said to be beyond."""
    dice = np.random.default_rng(1)
    alarms = 0
    runs = 300
    for _ in range(runs):
        met = np.cumsum(dice.random(2000) < 0.1)
        looks = range(10, 2000, 5)
        alarms += any(beyond_share(float(met[index]), float(index + 1), 10.0) for index in looks)
    assert alarms <= 2


@pytest.mark.parametrize(("share", "within"), [(0.15, 1500), (0.2, 600), (0.5, 60), (1.0, 20)])
def test_a_share_beyond_its_cap_is_found(share: float, within: int) -> None:
    assert beyond_share(share * within, within, 10.0)


def test_a_few_requests_say_nothing() -> None:
    assert not beyond_share(1, 2, 10)
    assert not beyond_share(0, 0, 10)
    assert share_evidence(0, 100, 0.1) == 0


@given(st.floats(0, 1e5), st.floats(0, 1), st.floats(0, 1e5))
def test_excess_is_what_would_not_have_failed_anyway(requests: float, before: float, failures: float) -> None:
    more = excess(Count(time=0, requests=requests, failures=failures), before)
    assert more == max(0.0, failures - before * requests)


def test_failures_that_were_usual_before_are_no_excess() -> None:
    assert not beyond_failures(Count(time=0, requests=1000, failures=100), 0.1, 5)
    assert "10 are allowed" in beyond_failures(Count(time=0, requests=1000, failures=120), 0.1, 10)


def test_a_budget_burns_over_its_window_alone() -> None:
    counts = [
        Count(time=0, requests=0, failures=0),
        Count(time=10, requests=1000, failures=500),
        Count(time=40, requests=2000, failures=500),
        Count(time=70, requests=3000, failures=510),
    ]
    assert burn(counts, 0.99, 30) == pytest.approx(1.0)
    assert burn(counts[:2], 0.99, 30) == pytest.approx(50.0)
    assert burn(counts[:1], 0.99, 30) is None
    assert burn([], 0.99, 30) is None


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=30), st.floats(1, 100))
def test_what_is_forgotten_changes_no_burn(times: list[float], window: float) -> None:
    ordered = sorted(times)
    counts = [Count(time=time, requests=100 * number, failures=number) for number, time in enumerate(ordered)]
    kept = trimmed(counts, window)
    assert burn(kept, 0.99, window) == burn(counts, 0.99, window)
