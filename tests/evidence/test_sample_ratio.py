"""The measured split against the one that was set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.evidence.sample_ratio import ALPHA, TOLERANCE, Mismatch, SplitState, increment, update

SET = {"v1": 90.0, "v2": 10.0}


def noticed(
    rng: np.random.Generator, share: float, *, seconds: int, rate: float = 100, state: SplitState | None = None
) -> tuple[float, Mismatch | None, SplitState]:
    """The second of the first finding."""
    state = SplitState() if state is None else state
    for second in range(1, seconds + 1):
        requests = rng.poisson(rate)
        mine = rng.binomial(requests, share)
        state, found = update(state, SET, {"v1": float(requests - mine), "v2": float(mine)})
        if found is not None:
            return second, found, state
    return np.inf, None, state


@pytest.mark.parametrize("share", [0.05, 0.15, 0.0, 0.5, 1.0])
def test_noticed_within_half_a_minute(share: float):
    rng = np.random.default_rng(1)
    found = [noticed(rng, share, seconds=60)[0] for _ in range(30)]
    assert np.quantile(found, 0.9, method="higher") <= 30


@pytest.mark.parametrize("share", [0.1, 0.105, 0.095])
def test_no_false_alarm(share: float):
    """Half an hour each, of the split that was set, and of one within the tolerance."""
    rng = np.random.default_rng(2)
    assert not any(noticed(rng, share, seconds=1800)[1] for _ in range(3))


@pytest.mark.parametrize("rate", [10.0, 1000.0, 20000.0])
@pytest.mark.parametrize("share", [0.0, 0.0005, 0.001, 0.002, 0.01, 0.5, 0.99, 0.999, 1.0])
def test_no_false_alarm_at_any_weight(share: float, rate: float):
    """Ten minutes; also of weights at which an arm gets next to nothing, or all but that."""
    rng, state = np.random.default_rng(4), SplitState()
    for _ in range(600):
        requests = rng.poisson(rate)
        mine = rng.binomial(requests, share)
        weights = {"v1": 100 * (1 - share), "v2": 100 * share}
        state, found = update(state, weights, {"v1": float(requests - mine), "v2": float(mine)})
        assert found is None, found.reason


@pytest.mark.parametrize(("late", "wrong"), [(0.001, False), (0.01, True)])
def test_an_arm_that_is_set_to_nothing_may_get_what_is_under_way(late: float, wrong: bool):
    rng, state, found = np.random.default_rng(5), SplitState(), None
    for _ in range(60):
        mine = rng.binomial(1000, late)
        state, found = update(state, {"v1": 0.0, "v2": 100.0}, {"v1": float(mine), "v2": 1000.0 - mine})
    assert (found is not None) is wrong


def test_how_sure_it_is():
    """With alpha 20 % and no tolerance to hide behind: rolled out at its very edge, in batches of a minute."""
    rng, hits = np.random.default_rng(3), 0
    odds = TOLERANCE * 10 / 90
    for _ in range(60):
        state = SplitState()
        for _ in range(20):
            mine = rng.binomial(6000, odds / (1 + odds))
            state, found = update(state, SET, {"v1": 6000.0 - mine, "v2": float(mine)}, seconds=60, alpha=0.2)
            if found:
                hits += 1
                break
    assert hits <= 18  # 12 expected at most


def test_it_says_who_and_what():
    state, found = update(SplitState(), SET, {"v1": 2864.0, "v2": 148.0})
    assert found is not None
    assert found.reason == "v2 gets 4.9 % of 3,012 requests where 10 % is set"
    assert (found.arm, found.requests) == ("v2", 3012)
    assert found.evidence >= found.needed == pytest.approx(-np.log(ALPHA))
    assert SplitState.model_validate_json(state.model_dump_json()) == state
    assert len(state.model_dump_json()) < 3000


def test_one_of_three_arms_is_named():
    weights = {"v1": 80.0, "v2": 10.0, "baseline": 10.0}
    _, found = update(SplitState(), weights, {"v1": 8000.0, "v2": 1600.0, "baseline": 400.0})
    assert found is not None
    assert found.arm in {"v2", "baseline"}
    _, found = update(SplitState(), weights, {"v1": 8600.0, "v2": 1000.0, "baseline": 400.0})
    assert found is not None
    assert found.arm == "baseline"


def test_late_and_after_a_change_of_weights():
    """Ten minutes of peace, then a proxy that goes its own way; and a weight that was never applied."""
    rng = np.random.default_rng(4)
    _, nothing, state = noticed(rng, 0.1, seconds=600)
    assert nothing is None
    assert noticed(rng, 0.04, seconds=60, state=state)[0] <= 40
    second = 0
    for second in range(60):  # noqa: B007
        state, found = update(state, {"v1": 75, "v2": 25}, {"v1": 90.0, "v2": 10.0})
        if found:
            break
    assert found is not None
    assert second < 20
    assert found.reason.startswith(f"v2 gets 10.0 % of {100 * (second + 1):,} requests where 25 % is set")


def test_nothing_is_no_finding():
    state, found = update(SplitState(), SET, {})
    assert found is None
    assert update(state, {"v1": 0.0}, {"v1": 5.0}) == (state, None)
    assert update(SplitState(), {"v1": 100, "v2": 0}, {"v1": 1000.0, "v2": 1.0})[1] is None
    assert update(SplitState(), {"v1": 100, "v2": 0}, {"v1": 1000.0, "v2": 50.0})[1] is not None


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=5), st.floats(0, 1))
def test_scalar_is_batch(pairs: list[tuple[int, int]], weight: float):
    counts = np.array([float(mine) for mine, _ in pairs])
    total = counts + np.array([float(others) for _, others in pairs])
    wide = increment(counts, total, weight)
    assert np.isfinite(wide).all()
    for at in range(len(pairs)):
        assert increment(np.asarray(counts[at]), np.asarray(total[at]), weight) == pytest.approx(wide[at])


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.99])
def test_expectation_at_most_one(weight: float):
    """Exactly, over a binomial count at both edges of the tolerance."""
    from scipy.stats import binom  # noqa: PLC0415

    for side, factor in enumerate((TOLERANCE, 1 / TOLERANCE)):
        odds = factor * weight / (1 - weight)
        count = np.arange(31.0)
        grown = np.exp(increment(count, np.full_like(count, 30.0), weight))[:, side]
        assert (binom.pmf(count, 30, odds / (1 + odds)) @ grown) == pytest.approx(1)
