"""How many requests are needed to find harm of a given size, and to show that a good canary is good.

Evidence against a margin grows with each canary request by ``g`` on average, with variance ``v``, both from
`autopilot.evidence.statistics.eprocess.ratio_increment` for the alternative that grows fastest. Taken as a random walk
with drift, it has passed the bound a with the chance ``1 - miss`` after n requests where ``n g - z sqrt(n v) = a``, z
the normal quantile of ``1 - miss`` (a mixture over alternatives costs a little more, in a). Failures in clusters make n
larger by phi. An estimate to plan with, within a fifth or so: nothing that is promised rests on it.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from autopilot.evidence.model import Judge
from autopilot.evidence.statistics import exclusion
from autopilot.evidence.statistics.arrays import Counts
from autopilot.evidence.statistics.eprocess import ABOVE, BETTER, WORSE
from autopilot.evidence.statistics.metric_process import BESIDE, WHOLE

_MIXING = 1.5
"""What a mixture pays for not knowing the alternative."""

_NO_FAILURES = 1e-5
"""The share taken for stable's where it has not failed yet."""


def detectable(judge: Judge, stable: float) -> float:
    """The share of bad requests of the smallest harm to be found: `detect` times stable's, at least so much more."""
    return min(1.0, max(judge.detect * stable, stable + judge.detect_absolute))


def requests_needed(judge: Judge, *, stable: float, weight: float, needed: float, phi: float = 1.0) -> float | None:
    """Canary requests after which the smallest harm to be found would have been, but for the miss budget.

    Args:
        judge: has the margins, what to `detect` and the `miss_budget`.
        stable: stable's share of bad requests.
        weight: the canary's share of the requests, between 0 and 1 (exclusive).
        needed: the evidence to be reached (`autopilot.evidence.canary.harm_needed`).
        phi: how many failures count as one.

    Returns:
        None where no number of requests is enough: harm of that size is within a margin.
    """
    if not 0 < weight < 1:
        return None
    stable = max(stable, _NO_FAILURES)
    canary = detectable(judge, stable)
    bound = needed + _MIXING - math.log(WHOLE * BESIDE)
    found = [_steps(canary, stable, weight, bound, judge.miss_budget, ratio=judge.ratio, margin=0.0, grid=WORSE)]
    if judge.absolute > 0:
        found.append(
            _steps(canary, stable, weight, bound, judge.miss_budget, ratio=1.0, margin=judge.absolute, grid=ABOVE)
        )
    return None if any(each is None for each in found) else phi * max(each or 0.0 for each in found)


def requests_to_good(judge: Judge, *, stable: float, weight: float, lacking: float, phi: float = 1.0) -> float | None:
    """Canary requests after which a canary as good as stable would have been shown to be, but for the miss budget."""
    if not 0 < weight < 1 or stable <= 0:
        return None
    found = _steps(
        stable, stable, weight, lacking + _MIXING, judge.miss_budget, ratio=judge.good_ratio, margin=0.0, grid=BETTER
    )
    return None if found is None else phi * found


def requests_to_exclude(
    judge: Judge, *, stable: float, weight: float, lacking: float | None = None, phi: float = 1.0
) -> float | None:
    """Canary requests after which a canary like stable has excluded harm of `detect` size in nine steps of ten.

    Args:
        judge: has what to `detect` and the `miss_budget`.
        stable: stable's share of bad requests.
        weight: the canary's share of the requests.
        lacking: the evidence that is still needed; None where a step begins.
        phi: how many failures count as one.

    Returns:
        None where the canary is alone: then it is compared with the past, and the formula does not say how long.
    """
    if not 0 < weight < 1:
        return None
    rest = math.log(1 / judge.miss_budget) if lacking is None else lacking
    stable = max(stable, _NO_FAILURES)
    by_ratio = judge.detect * stable > stable + judge.detect_absolute
    ratio, margin = (judge.detect, 0.0) if by_ratio else (1.0, judge.detect_absolute)
    bet = np.array([math.log(stable / (ratio * stable + margin))])
    paid = math.log(exclusion.BETS.size) if lacking is None else 0.0
    found = _steps(stable, stable, weight, rest + paid, 0.1, ratio=ratio, margin=margin, grid=bet)
    return None if found is None else phi * found


def _steps(
    canary: float, stable: float, weight: float, bound: float, miss: float, *, ratio: float, margin: float, grid: Counts
) -> float | None:
    """The fewest requests over all alternatives."""
    others = (1 - weight) / weight
    share = ratio / (ratio + others)
    grown = np.expm1(grid)
    both = np.log1p(share * grown)
    drift = canary * (grid - both) - others * stable * both - margin * (1 - share) * grown / (1 + share * grown)
    spread = canary * (grid - both) ** 2 + others * stable * both**2
    rising = drift > 0
    if not rising.any():
        return None
    drift, spread = drift[rising], spread[rising]
    z = float(ndtri(1 - miss))
    root = (z * np.sqrt(spread) + np.sqrt(z * z * spread + 4 * drift * bound)) / (2 * drift)
    return float((root**2).min())
