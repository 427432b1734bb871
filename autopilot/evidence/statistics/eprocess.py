"""The kernels of judgement: anytime-valid evidence from counts, as logarithms, for many rollouts at once.

Evidence is the logarithm of an *e-process*: something whose expectation stays at or below 1, at every look, for as
long as the canary is within its margin. So the chance that it ever reaches ``1/alpha`` is at most ``alpha`` (Ville's
inequality), no matter how often, when and why one looks. It is no probability, and is never shown as one.

All functions take counts with any leading batch axes (shape ``batch``; a single case has shape ``()``), allow
fractional counts and none at all, and stay finite. Letters refer to the formulas of the project's notes on canary
statistics.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaln, logsumexp, xlog1py, xlogy

from autopilot.evidence.statistics.arrays import Counts

POINTS = 48
"""Points of every grid; the answer hardly changes beyond, for neighbours are closer than what counts can tell apart."""

WORSE: Counts = np.linspace(np.log(1.25), np.log(1000.0), POINTS)
"""Log rate ratios of the alternatives "worse", shape ``(POINTS,)``."""

BETTER: Counts = -WORSE
"""Log rate ratios of the alternatives "better", shape ``(POINTS,)``."""

ABOVE: Counts = np.linspace(np.log(1.25), np.log(1000.0), POINTS // 2)
"""The same for the absolute margin, which decides where failures are few: half the points do, and halve its state."""

_TIMES: Counts = np.geomspace(1.2, 60.0, POINTS)
_BISECTIONS = 32
"""Enough: near its top the log likelihood is flat, so an error of 1e-9 there is one of 1e-18 in its value."""


def log_mean(values: Counts, axis: int = -1) -> Counts:
    """Logarithm of the mean of e-values given as logarithms: an equal mixture, or an average over metrics.

    Args:
        values: shape ``batch + (n,)``; minus infinity stands for an e-value of nought.
        axis: the axis to average over.

    Returns:
        Shape ``batch``.
    """
    return np.asarray(logsumexp(values, axis=axis) - np.log(values.shape[axis]))


def ratio_increment(
    canary_bad: Counts,
    canary_all: Counts,
    stable_bad: Counts,
    stable_all: Counts,
    *,
    ratio: float,
    margin: float = 0.0,
    grid: Counts = WORSE,
) -> Counts:
    """What one tick adds to the log-likelihood ratios of "the canary's rate is ``ratio exp(d)`` times stable's" (b, c).

    Given the tick's request counts, the share of bad requests that fall to the canary is ``theta(g) = nc g / (nc g +
    nb)`` at the rate ratio g. With ``theta0 = theta(ratio)`` the increment of formula (b) is
    ``xc ln(theta/theta0) + xb ln((1-theta)/(1-theta0)) = xc d - (xc + xb) ln(1 + theta0 (exp(d) - 1))``,
    which needs no logarithm of nought. Conditioning tick by tick cancels whatever load or trouble both arms share, and
    keeps it valid when weights follow the evidence. It is valid for single requests that fail or not at *any* rate, not
    just at small ones: for independent requests ``E exp(increment) <= exp(nc pc (theta/theta0 - 1) + nb pb
    ((1-theta)/(1-theta0) - 1))`` (as ``1 + u <= exp(u)``), and at ``pc = ratio pb`` that exponent is nought; for d > 0
    it rises with pc, so every smaller ratio is covered; for d < 0 it falls, and every larger one is.

    A margin is paid for in advance: at ``pc = ratio pb + margin`` that exponent is ``nc margin (theta/theta0 - 1)``
    whatever pb, so taking that off each tick keeps the expectation at or below 1. Nothing need be known or assumed of
    stable's share, which may change from tick to tick; a likelihood ratio against the best pair of shares
    (`excess_evidence`) grows no faster and pays for learning them besides, 2 to 3 in units of evidence.

    Args:
        canary_bad: bad requests of the canary in this tick, shape ``batch``; at most ``canary_all``.
        canary_all: all of its requests in this tick, shape ``batch``.
        stable_bad: the same of stable.
        stable_all: the same of stable.
        ratio: the rate ratio that is still within the margin (harm), or already too much (good side).
        margin: what the canary's share may exceed ``ratio`` times stable's by (harm only).
        grid: log rate ratios d relative to ``ratio``: `WORSE` or `BETTER`.

    Returns:
        Shape ``batch + (POINTS,)``; noughts where there were no requests in stable, or in both arms.
    """
    weighted = np.asarray(canary_all * ratio)
    both = np.asarray(weighted + stable_all)
    share = np.divide(weighted, both, out=np.zeros_like(both), where=both > 0)
    canary_bad = np.asarray(canary_bad)
    bad = np.asarray(canary_bad + stable_bad)
    found = np.zeros((*bad.shape, grid.shape[0]))
    some = bad > 0  # Ticks without failures are most of all.
    odds = share[..., None] * np.expm1(grid) if margin > 0 else None
    if odds is not None:
        found = -margin * canary_all[..., None] * (np.expm1(grid) - odds) / (1 + odds)
    found[some] += canary_bad[some][..., None] * grid - bad[some][..., None] * np.log1p(
        share[some][..., None] * np.expm1(grid)
    )
    return found


def objective_evidence(bad: Counts, total: Counts, *, allowed: float) -> Counts:
    """Evidence that more than ``allowed`` of all requests are bad (d): a mixture over shares 1.2 to 60 times as large.

    ``ln mean over p1 of exp(x ln(p1/p0) + (n - x) ln((1-p1)/(1-p0)))``; alternatives that would reach 1 are set just
    below.

    Args:
        bad: bad requests since the process began, shape ``batch``.
        total: all requests since then, shape ``batch``.
        allowed: the share p0 that the objective allows, between 0 and 1 (exclusive).

    Returns:
        Shape ``batch``; 0 without requests.
    """
    shares = np.minimum(allowed * _TIMES, 1 - (1 - allowed) / 1000)
    good = total - bad
    return log_mean(
        bad[..., None] * np.log(shares / allowed) + good[..., None] * (np.log1p(-shares) - np.log1p(-allowed))
    )


def excess_evidence(
    canary_bad: Counts,
    canary_all: Counts,
    stable_bad: Counts,
    stable_all: Counts,
    *,
    margin: float,
    ratio: float = 1.0,
) -> Counts:
    """Evidence that the canary's share of bad requests is above ``ratio * stable's + margin`` (universal inference).

    ``E = [mixture likelihood of the canary x mixture likelihood of stable] / [largest likelihood with pc <= ratio ps +
    margin]`` from the totals since the process began: Wasserman, Ramdas & Balakrishnan 2020, "Universal inference",
    in its running form. Whatever the true pair within the margin, the denominator is at least its likelihood, so E is
    at most a likelihood ratio against the truth: valid at every look. Against a test of "pc <= upper bound of the right
    side" it spends no alpha on the bound, and uses stable's counts from the very first tick on: it is not held up
    by the missing history.

    Mixtures: canary, shares evenly spaced in log odds from the margin to 99.9 %; stable, Beta(1/2, 50) (services are
    mostly well) and Beta(1/2, 1/2) (some are not) in proportion 4 : 1.

    Totals take rates for constant over the process, and a trouble that both arms share while weights change can mislead
    it. So it serves only where there is no comparing tick by tick, with a wider bound
    (`autopilot.evidence.statistics.metric_process`).

    Args:
        canary_bad: bad requests of the canary since the process began, shape ``batch``; at most ``canary_all``.
        canary_all: all of its requests since then, shape ``batch``.
        stable_bad: the same of stable.
        stable_all: the same of stable.
        margin: the difference between shares that is tolerated, from 0 up.
        ratio: what stable's share is multiplied by first, at least 1. A bound of 1 or more says nothing.

    Returns:
        Shape ``batch``; 0 without requests, and minus infinity where the evidence is against harm: below 1 an e-value
        says nothing, and lowering it keeps it valid and lets evidence never fall when the canary fails more.
    """
    low = np.clip(margin, 1e-4, 0.5)
    odds = np.linspace(np.log(low / (1 - low)), np.log(999.0), POINTS)
    canary = log_mean(
        canary_bad[..., None] * -np.log1p(np.exp(-odds)) - (canary_all - canary_bad)[..., None] * np.log1p(np.exp(odds))
    )
    stable = np.logaddexp(
        np.log(0.8) + _log_beta_binomial(stable_bad, stable_all, 0.5, 50.0),
        np.log(0.2) + _log_beta_binomial(stable_bad, stable_all, 0.5, 0.5),
    )
    best = _best_within(canary_bad, canary_all, stable_bad, stable_all, margin=margin, ratio=ratio)
    value = canary + stable - best
    return np.asarray(np.where((value < 0) & (canary_all + stable_all > 0), -np.inf, value))


def _log_beta_binomial(bad: Counts, total: Counts, first: float, second: float) -> Counts:
    """Log likelihood of one sequence with so many bad ones, averaged over a Beta prior."""
    return np.asarray(betaln(bad + first, total - bad + second) - betaln(first, second))


def _best_within(
    canary_bad: Counts, canary_all: Counts, stable_bad: Counts, stable_all: Counts, *, margin: float, ratio: float
) -> Counts:
    """The largest log likelihood of both arms with ``pc <= ratio ps + margin``.

    Where the observed shares lie within the bound they are the best; else the best pair has ``pc = ratio ps +
    margin``, with ps between the observed share of stable and the one that would excuse the canary's: the log
    likelihood is concave there, and bisection finds where its slope is nought.
    """
    pc = np.divide(canary_bad, canary_all, out=np.zeros_like(canary_all), where=canary_all > 0)
    ps = np.divide(stable_bad, stable_all, out=np.ones_like(stable_all), where=stable_all > 0)
    outside = pc > ratio * ps + margin
    low, high = np.where(outside, ps, 0.0), np.where(outside, (pc - margin) / ratio, 0.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        shifted = ratio * middle + margin
        # The slope times p(1-p) of both arms: no division by nought at the ends.
        up = ratio * (canary_bad - canary_all * shifted) * middle * (1 - middle)
        slope = up + (stable_bad - stable_all * middle) * shifted * (1 - shifted)
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    bound = (low + high) / 2
    return _log_likelihood(canary_bad, canary_all, np.where(outside, ratio * bound + margin, pc)) + _log_likelihood(
        stable_bad, stable_all, np.where(outside, bound, ps)
    )


def _log_likelihood(bad: Counts, total: Counts, share: Counts) -> Counts:
    return np.asarray(xlogy(bad, share) + xlog1py(total - bad, -share))
