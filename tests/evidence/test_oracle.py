"""The kernel against figures that others have published.

`savvi` 0.3.1 documents a stream of two kinds of events, expected 4 : 1, that it stops after 210 events with p =
0.0455796. Its test has a closed form, (a) in our notes: a Beta prior of strength 100 around the share expected.
(`confseq` does not build without C++ and Boost, `expectation` wants Python 3.12: no oracles in this house.)
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta

from autopilot.evidence.statistics.eprocess import ratio_increment

SHARE, STRENGTH, EVENTS, OF_THE_FIRST = 0.2, 100, 210, 62
SAVVI = 0.0455796


def test_the_closed_form_is_savvi_s():
    a, b = STRENGTH * SHARE, STRENGTH * (1 - SHARE)
    x, y = OF_THE_FIRST, EVENTS - OF_THE_FIRST

    def lbeta(first: float, second: float) -> float:
        return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)

    evidence = lbeta(a + x, b + y) - lbeta(a, b) - x * math.log(SHARE) - y * math.log(1 - SHARE)
    assert math.exp(-evidence) == pytest.approx(SAVVI, abs=5e-8)


def test_the_kernel_with_savvi_s_prior_is_savvi_s():
    """Ours mixes over log rate ratios; with the same prior on a fine grid, event by event, it is the same."""
    theta = np.linspace(0.001, 0.999, 20_001)
    grid = np.log(theta / (1 - theta)) - math.log(SHARE / (1 - SHARE))
    prior = beta.pdf(theta, STRENGTH * SHARE, STRENGTH * (1 - SHARE)) * (theta[1] - theta[0])
    canary, stable = np.asarray(100.0), np.asarray(400.0)
    gathered = np.zeros_like(grid)
    for event in range(EVENTS):
        ours = float(event < OF_THE_FIRST)
        gathered += ratio_increment(np.asarray(ours), canary, np.asarray(1 - ours), stable, ratio=1.0, grid=grid)
    assert 1 / float(prior @ np.exp(gathered)) == pytest.approx(SAVVI, rel=1e-4)
