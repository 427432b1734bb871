"""What a step has excluded: evidence *against* harm of the size to be detected, anytime-valid like that for harm.

A step may end when harm of `detect` size is excluded in it: not when a clock says so. The claim to be refuted is
``p_canary >= max(detect * p_stable, p_stable + detect_absolute)``. It implies ``p_canary >= ratio * p_stable + margin``
both for ``(detect, 0)`` and for ``(1, detect_absolute)``, so an e-process against either is one against it, and at each
tick the one is used that grows faster at stable's share of the ticks before: a bet that was fixed beforehand.

The bet is that the canary is like stable. Given that ``xc + xb`` requests failed in the tick, of which ``theta0 = nc
ratio/(nc ratio + nb)`` fall to the canary at the claim's rate ratio and ``theta`` at one that is ``exp(d)`` times as
large, it is worth ``xc d - (xc + xb) ln(1 + theta0 (exp(d) - 1)) + margin nc (1 - theta/theta0)``. Its exponential has
an expectation of at most ``exp(nc pc (theta/theta0 - 1) + nb pb ((1-theta)/(1-theta0) - 1) + margin nc (1 -
theta/theta0))``, which is 1 at ``pc = ratio pb + margin`` and less for any larger pc, as d is negative: the mirror
image of `autopilot.evidence.statistics.eprocess.ratio_increment`. What both arms share in a tick cancels. Two bets
stand side by side, on the canary being like stable and on half of that in the logarithm.

Both run twice: since the step began, with most of the stake, and since it has settled, with the rest. A canary that was
slow at first has evidence against it that would take long to make up for; from the second it takes ln 10 more.

By Ville's inequality a canary that is harmful by that much passes a step with a chance of `miss_budget` at most,
however long the step, and whenever and why one looks; and it passes the rollout only if it passes every step. A healthy
canary needs far fewer requests for it than it would take to be sure that harm *would have been* found: about 430
instead of 2,400 at 0.1 % failures and the defaults.

Where the canary is alone, stable's share is the one it had in company (that of the past), taken for known and unmoved.
Where that is almost all of them, as of requests slower than a boundary far below the service's latency, there is no
such harm, and each request says so.
An absolute objective has no stable at all: there the claim is about what the objective allows.
"""

from __future__ import annotations

import math

import numpy as np

from autopilot.evidence.model import Judge
from autopilot.evidence.statistics.arrays import Counts, Flags
from autopilot.evidence.statistics.eprocess import log_mean

BETS: Counts = np.array([1.0, 0.5])
"""Parts of the log rate ratio between a canary like stable and the claim, shape ``(2,)``."""

WHOLE = 0.9
"""The stake on all of the step; the rest is on what came after it had settled."""

_PRIOR_BAD, _PRIOR_ALL = 0.5, 50.0
"""Stable's share before it had a request is 1 %: a bet, which costs a little where it is wrong."""
_LOWEST, _HIGHEST = -6.9, -0.05
"""Limits of a bet's log rate ratio: a share of nought would be refuted by one failure."""
_SURE_SHARE = 0.999
"""A claim that more than so many fail is one that so many do."""


def usual(bad: Counts, total: Counts) -> Counts:
    """The share to bet on after so many bad requests of so many, shape as given."""
    return np.asarray((bad + _PRIOR_BAD) / (total + _PRIOR_ALL))


def harmful(judge: Judge, share: Counts) -> Counts:
    """The smallest harm to be detected beside this share of stable's, itself a share: shape as given."""
    return np.minimum(np.maximum(judge.detect * share, share + judge.detect_absolute), _SURE_SHARE)


def impossible(judge: Judge, share: Counts) -> Flags:
    """Where so many of stable's requests are bad already that no canary can be worse by the size to be detected."""
    return np.asarray(share + judge.detect_absolute >= _SURE_SHARE)


def beside(judge: Judge, tick: tuple[Counts, Counts, Counts, Counts], share: Counts) -> Counts:
    """What one tick adds against the claim, shape ``batch + (2,)``.

    Args:
        judge: has what to detect.
        tick: bad and all requests of the canary, and of stable, each of shape ``batch``.
        share: stable's before this tick (`usual`), shape ``batch``.
    """
    canary_bad, canary_all, stable_bad, stable_all = tick
    by_ratio = judge.detect * share > share + judge.detect_absolute
    ratio = np.where(by_ratio, judge.detect, 1.0)
    margin = np.where(by_ratio, 0.0, judge.detect_absolute)
    bet = _bets(share, ratio * share + margin)
    weighted = canary_all * ratio
    both = weighted + stable_all
    theta = np.divide(weighted, both, out=np.zeros_like(both), where=both > 0)[..., None]
    grown = np.expm1(bet)
    odds = 1 + theta * grown
    paid = -(margin * canary_all)[..., None] * grown * (1 - theta) / odds
    failures = (canary_bad + stable_bad)[..., None] * np.log(odds)
    return np.asarray(np.where(both[..., None] > 0, canary_bad[..., None] * bet - failures + paid, 0.0))


def below(bad: Counts, total: Counts, share: Counts, claimed: Counts) -> Counts:
    """What requests add against the claim that such a share fails, betting on another: ``batch + (2,)``."""
    claimed = np.clip(claimed, 1e-9, _SURE_SHARE)
    bet = _bets(share, claimed)
    claimed = claimed[..., None]
    fewer = np.log1p(-claimed * np.exp(bet)) - np.log1p(-claimed)
    return np.asarray(bad[..., None] * bet + (total - bad)[..., None] * fewer)


def _bets(share: Counts, claimed: Counts) -> Counts:
    apart = np.log(np.maximum(share, 1e-12)) - np.log(np.maximum(claimed, 1e-12))
    return np.asarray(np.clip(apart[..., None] * BETS, _LOWEST, _HIGHEST))


def evidence(gathered: Counts, phi: Counts) -> Counts:
    """Evidence that harm of `detect` size is excluded, shape ``batch``, of ``batch + (2, 2)``; phi ``batch``.

    The first axis of two has what the whole step gathered, and what it did since it had settled; the second the bets.
    """
    both = log_mean(gathered / phi[..., None, None])
    return np.asarray(np.logaddexp(math.log(WHOLE) + both[..., 0], math.log1p(-WHOLE) + both[..., 1]))


def upper(bad: Counts, total: Counts, *, sure: float) -> Counts:
    """The smallest share that such counts exclude: less likely than ``exp(-sure)`` against what was seen.

    Poisson deviance ``n (p - q + q ln(q/p)) = sure``, q the share seen; found by bisection. For sentences, not for
    verdicts.
    """
    seen = np.divide(bad, total, out=np.zeros_like(bad), where=total > 0)
    low, high = seen, np.ones_like(seen)
    for _ in range(50):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = np.where(seen > 0, seen * np.log(seen / middle), 0.0)
        inside = total * (middle - seen + apart) < sure
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return high
