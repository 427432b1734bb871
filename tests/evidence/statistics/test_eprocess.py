"""The kernels against hand calculation, and what must hold whatever the counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.evidence.statistics.eprocess import (
    BETTER,
    WORSE,
    excess_evidence,
    log_mean,
    objective_evidence,
    ratio_increment,
)

COUNT = st.integers(0, 400)


def array(*values: float) -> list[np.ndarray]:
    return [np.asarray(float(value)) for value in values]


def test_ratio_increment_by_hand():
    """Formula (b), spelt out with theta as the notes have it."""
    xc, nc, xb, nb, ratio = 3.0, 40.0, 2.0, 360.0, 1.2
    got = ratio_increment(*array(xc, nc, xb, nb), ratio=ratio)
    assert got.shape == (48,)
    for d, value in zip(WORSE, got, strict=True):
        rate = ratio * math.exp(d)
        theta, theta0 = nc * rate / (nc * rate + nb), nc * ratio / (nc * ratio + nb)
        expected = xc * math.log(theta / theta0) + xb * math.log((1 - theta) / (1 - theta0))
        assert value == pytest.approx(expected, rel=1e-12)


def test_grid_is_the_one_promised():
    assert math.exp(WORSE[0]) == pytest.approx(1.25)
    assert math.exp(WORSE[-1]) == pytest.approx(1000)
    assert np.array_equal(BETTER, -WORSE)


def test_objective_by_hand():
    """Formula (d): 3 of 20 bad where 10 % are allowed."""
    got = objective_evidence(*array(3, 20), allowed=0.1)
    terms = []
    for times in np.geomspace(1.2, 60, 48):
        p1 = min(0.1 * times, 1 - 0.9 / 1000)
        terms.append((p1 / 0.1) ** 3 * ((1 - p1) / 0.9) ** 17)
    assert float(got) == pytest.approx(math.log(sum(terms) / 48), rel=1e-12)


def test_excess_denominator_is_the_best_pair_within_the_margin():
    """Against a fine grid search of the largest likelihood with pc <= ps + margin."""
    margin = 0.02
    likely = []
    for ps in np.linspace(1e-6, 0.5, 20001):
        pc = min(max(8 / 40, 0.0), ps + margin)
        likely.append(8 * math.log(pc) + 32 * math.log1p(-pc) + 4 * math.log(ps) + 296 * math.log1p(-ps))
    wide = float(excess_evidence(*array(8, 40, 4, 300), margin=margin))
    none = float(excess_evidence(*array(8, 40, 4, 300), margin=1e-12))
    # Numerators depend on the margin's grid alone; recompute this one independently.
    odds = np.linspace(math.log(0.02 / 0.98), math.log(999), 48)
    p = 1 / (1 + np.exp(-odds))
    canary = math.log(np.mean(np.exp(8 * np.log(p) + 32 * np.log1p(-p))))
    lbeta = lambda a, b: math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)  # noqa: E731
    stable = math.log(
        0.8 * math.exp(lbeta(4.5, 346) - lbeta(0.5, 50)) + 0.2 * math.exp(lbeta(4.5, 296.5) - lbeta(0.5, 0.5))
    )
    assert wide == pytest.approx(canary + stable - max(likely), abs=1e-6)
    assert wide < none


@given(COUNT, COUNT, COUNT, COUNT)
def test_everything_is_finite_and_quiet(a: int, b: int, c: int, d: int):
    """Warnings are errors: no division by nought, no logarithm of nought, whatever the corner."""
    xc, nc, xb, nb = array(min(a, b), max(a, b), min(c, d), max(c, d))
    for ratio, grid in ((1.0, WORSE), (1.2, WORSE), (1.5, BETTER)):
        assert np.isfinite(ratio_increment(xc, nc, xb, nb, ratio=ratio, grid=grid)).all()
    for allowed in (1e-6, 0.01, 0.5, 0.99):
        assert np.isfinite(objective_evidence(xc, nc, allowed=allowed))
    for margin in (1e-9, 0.001, 0.5, 0.999):
        assert not np.isnan(excess_evidence(xc, nc, xb, nb, margin=margin))
        assert excess_evidence(xc, nc, xb, nb, margin=margin) < np.inf


def test_nothing_seen_says_nothing():
    none = array(0, 0, 0, 0)
    assert float(log_mean(ratio_increment(*none, ratio=1.2))) == 0
    assert float(excess_evidence(*none, margin=0.001)) == pytest.approx(0, abs=1e-12)
    assert float(objective_evidence(*array(0, 0), allowed=0.01)) == pytest.approx(0, abs=1e-12)


def test_one_arm_alone_says_nothing_of_a_ratio():
    """Failures of the canary without any request of stable compare with nothing, nor the other way round."""
    assert np.allclose(ratio_increment(*array(5, 5, 0, 0), ratio=1.2), 0)
    assert np.allclose(ratio_increment(*array(0, 0, 5, 5), ratio=1.2), 0)
    assert float(excess_evidence(*array(5, 5, 0, 0), margin=0.001)) <= 0


@given(st.integers(1, 300), st.integers(1, 3000), st.data())
def test_one_more_error_never_lowers_excess_evidence(nc: int, nb: int, data: st.DataObject):
    xc, xb = data.draw(st.integers(0, nc - 1)), data.draw(st.integers(0, nb))
    less = float(excess_evidence(*array(xc, nc, xb, nb), margin=0.001))
    more = float(excess_evidence(*array(xc + 1, nc, xb, nb), margin=0.001))
    assert more >= less - 1e-9


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_scalar_is_batch(rows: int, columns: int, seed: int):
    rng = np.random.default_rng(seed)
    nc, nb = rng.integers(0, 50, (rows, columns)) * 1.0, rng.integers(0, 500, (rows, columns)) * 1.0
    xc, xb = np.floor(nc * rng.random((rows, columns))), np.floor(nb * rng.random((rows, columns)))
    wide = ratio_increment(xc, nc, xb, nb, ratio=1.2)
    excess = excess_evidence(xc, nc, xb, nb, margin=0.01)
    objective = objective_evidence(xc, nc, allowed=0.02)
    assert wide.shape == (rows, columns, 48)
    for at in np.ndindex(rows, columns):
        one = (np.asarray(xc[at]), np.asarray(nc[at]), np.asarray(xb[at]), np.asarray(nb[at]))
        assert np.allclose(ratio_increment(*one, ratio=1.2), wide[at])
        assert np.allclose(excess_evidence(*one, margin=0.01), excess[at])
        assert np.allclose(objective_evidence(*one[:2], allowed=0.02), objective[at])


@pytest.mark.parametrize("stable", [0.001, 0.05, 0.6])
def test_the_ratio_process_has_expectation_at_most_one(stable: float):
    """Exact expectation over both arms' binomial counts at the edge of the margin, also at large shares."""
    from scipy.stats import binom  # noqa: PLC0415

    nc, nb, ratio = 6, 20, 1.2
    xc, xb = np.meshgrid(np.arange(nc + 1.0), np.arange(nb + 1.0), indexing="ij")
    weights = binom.pmf(xc, nc, min(1.0, ratio * stable)) * binom.pmf(xb, nb, stable)
    grown = np.exp(ratio_increment(xc, np.full_like(xc, nc), xb, np.full_like(xb, nb), ratio=ratio))
    expected = (weights[..., None] * grown).sum(axis=(0, 1))
    assert (expected <= 1 + 1e-12).all()
    assert expected.max() > 0.9 if stable < 0.01 else True
