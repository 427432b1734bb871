"""The guard of an equal baseline arm: a test that no clustering of failures within a tick can mislead.

A baseline gets stable's version and the canary's weight. If the canary is no different, whatever happens in a tick is
as likely to happen with the two arms swapped, so the sign of ``xc - xb`` is positive as often as negative, however
many failures one event makes. ``E = mean over lambda of prod (1 + lambda s_t)`` with ``s_t = sign(xc - xb)`` and
lambda in {.1, .2, .35, .5, .7, .9} is a nonnegative martingale then (betting: Waudby-Smith & Ramdas 2023, "Estimating
means of bounded random variables by betting", here on a fair coin; the project's notes on canary statistics, 5 (h)).

What it takes for granted: equal weights (the split check, `autopilot.evidence.sample_ratio`, looks after that), and
that events end with their tick. What it does not know: margins. A canary that is slightly worse, but within them, makes
the coin unfair, and is protected by the ratio test alone. One tick is worth ``ln 1.9 = 0.64`` at most, so even a hard
failure takes some 16 ticks at alpha 0.1 % with two metrics.

Ticks without a baseline (there is no room for one from 50 % upwards) multiply the same wealth by the likelihood ratios
of the ratio test instead. A product of factors that are each fair, given the past, is fair: so nothing restarts, and
alpha is spent once. In those ticks the guard is no better than phi.
"""

from __future__ import annotations

import numpy as np

from autopilot.evidence.statistics.arrays import Counts
from autopilot.evidence.statistics.eprocess import log_mean

STAKES: Counts = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
"""The lambdas."""

BETS = len(STAKES)


def sign_increment(canary_bad: Counts, baseline_bad: Counts) -> Counts:
    """What one tick adds to the logarithm of each bet: shape ``batch + (BETS,)`` from ``batch``."""
    return np.asarray(np.log1p(STAKES * np.sign(canary_bad - baseline_bad)[..., None]))


def guard(sign: Counts, apart: Counts) -> Counts:
    """Evidence of the guard: bets on signs ``batch + (BETS,)`` times likelihood ratios ``batch + (POINTS,)``."""
    return np.asarray(log_mean(sign) + log_mean(apart))
