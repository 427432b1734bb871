"""How far failures cluster: the index of dispersion phi of stable's counts, by which all evidence is divided.

The e-processes take requests for independent, given the tick. Failures that come in clusters, each wholly in one arm
(one pod's broken connection, one client's retries), break that: at clusters of 5 on average, up to half of all healthy
rollouts would be rolled back at alpha 1 %. So every log-likelihood is divided by phi: five failures that are one event
count as about one. Simulation says which phi: not the mean cluster size (4 to 5 % false rollbacks are left) but the
*index of dispersion*, for clusters of size S ``E[S^2]/E[S]``, with geometric sizes of mean m ``2m - 1`` (the project's
notes on canary statistics, 5 (h)). This is quasi-likelihood (Wedderburn 1974, "Quasi-likelihood functions"): a model of
what one sees of clusters, and no theorem.

Over windows of w seconds with x bad of n requests the index is Pearson's ``sum (x - p n)^2 / (p n) / (k - 1)``, with
``p = sum x / sum n``: with equal n the variance over the mean, yet blind to changes of load and weight. Its relative
variance is about ``2/(k-1) + (I - 1/I)/N``, k windows and N failures: the first part is Poisson's, the second that of
few clusters (the delta method; within a tenth for geometric sizes of mean 2 and 5). A chi-squared distribution of that
variance (Satterthwaite 1946) gives the bounds.

phi is the largest of: the upper 90 % bound of the *shortest* window, known best; the index of each longer one; and the
upper bound of a longer one whose lower bound is above the former: clusters that last. Upper bounds of all windows
alike would make it 1.5 for independent failures too (30 windows of a minute know little), and detection that much
slower; this way it is 1.15, and above the truth in 9 cases of 10 all the same.

Why a phi that moves is allowed: evidence is ``mean over hypotheses of exp(l/phi)``, and by Jensen's inequality it
reaches ``1/alpha`` with some phi only if it does with every smaller one. So as long as what is used is never below the
true one, no look is worse than one with the true one, whatever phi depends on. Yet at each tick we use the phi of the
ticks before: a tick does not judge itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaincinv

from autopilot.evidence.statistics.arrays import Counts

WINDOWS = (1.0, 5.0, 15.0, 60.0)
"""Seconds; a tick that is longer is a window by itself."""

FLOOR = 1.15
"""The lowest phi: no service's failures are known to be independent."""

PRIOR = 3.0
"""phi until stable has failed often enough to tell: the index of clusters of 2."""

GROSS = 1.5
"""The same where harm is gross: seconds count there. Measured without any history, at the defaults, 1,000 healthy
rollouts each: 0.1 to 0.5 % false rollbacks at clusters of 2 and up to 5 % at clusters of 5, and 20 % errors found in 4
seconds; 2 would give about 0.1 and 3 %, but take 6 seconds; `PRIOR` none and 1 %, and 8 seconds."""

ENOUGH_ERRORS = 20.0
ENOUGH_WINDOWS = 20.0
"""What it takes to tell; a longer window speaks only when so many of its kind are over."""

_SURE = 0.9
_SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Gauge:
    """Sums over closed windows, and the open window of each length; W lengths, B boundaries, any leading batch."""

    open_bad: Counts
    """Shape ``batch + (W, B)``."""
    open_all: Counts
    """Shape ``batch + (W, 1)``."""
    squares: Counts
    """Sum of ``x^2/n`` over closed windows, shape ``batch + (W, B)``."""
    bad: Counts
    """Sum of x over them, shape ``batch + (W, B)``."""
    all: Counts
    """Sum of n over them, shape ``batch + (W, 1)``."""
    closed: Counts
    """How many had requests, shape ``batch + (W, 1)``."""
    seconds: tuple[float, ...] = (0.0,) * len(WINDOWS)
    """How long each open window has been so."""


@dataclass(frozen=True, slots=True)
class Dispersion:
    """What a gauge says, shapes ``batch + (B,)``."""

    phi: Counts
    """`PRIOR` where not enough is known."""
    known: Counts
    """1 where it rests on stable's failures, else 0."""
    errors: Counts
    """On how many."""


def fresh(boundaries: int, batch: tuple[int, ...] = ()) -> Gauge:
    """A gauge that has seen nothing."""
    wide, narrow = (*batch, len(WINDOWS), boundaries), (*batch, len(WINDOWS), 1)
    none = np.zeros(wide), np.zeros(narrow)
    return Gauge(none[0], none[1], squares=none[0], bad=none[0], all=none[1], closed=none[1])


def fold(gauge: Gauge, bad: Counts, total: Counts, *, seconds: float) -> Gauge:
    """Adds stable's tick: bad requests ``batch + (B,)`` of all ``batch + (1,)``, in so many seconds."""
    open_bad, open_all = gauge.open_bad + bad[..., None, :], gauge.open_all + total[..., None, :]
    passed = np.asarray(gauge.seconds) + seconds
    over = passed >= np.asarray(WINDOWS) - _SLACK
    if not over.any():
        return replace(gauge, open_bad=open_bad, open_all=open_all, seconds=tuple(passed.tolist()))
    ends = over[:, None]
    counted = ends & (open_all > 0)
    squares = np.divide(
        open_bad**2, open_all, out=np.zeros_like(open_bad), where=np.broadcast_to(counted, open_bad.shape)
    )
    return Gauge(
        open_bad=np.where(ends, 0.0, open_bad),
        open_all=np.where(ends, 0.0, open_all),
        squares=gauge.squares + squares,
        bad=gauge.bad + np.where(ends, open_bad, 0.0),
        all=gauge.all + np.where(ends, open_all, 0.0),
        closed=gauge.closed + counted,
        seconds=tuple(np.where(over, 0.0, passed).tolist()),
    )


def dispersion(gauge: Gauge) -> Dispersion:
    """phi as the module's words have it, at least `FLOOR`."""
    index = indices(gauge)
    freedom = np.maximum(gauge.closed - 1, 1.0)
    several = np.maximum(index, 1.0)
    degrees = 2 / (2 / freedom + (several - 1 / several) / np.maximum(gauge.bad, 1.0))
    upper = index * degrees / (2 * gammaincinv(degrees / 2, 1 - _SURE))
    lower = index * degrees / (2 * gammaincinv(degrees / 2, _SURE))
    shortest = upper[..., :1, :]
    clear = lower > np.maximum(shortest, FLOOR)
    longer = np.where(gauge.closed >= ENOUGH_WINDOWS, np.where(clear, upper, index), 0.0)
    longest = np.maximum(shortest[..., 0, :], longer.max(axis=-2))
    errors = gauge.bad[..., 0, :]
    known = (errors >= ENOUGH_ERRORS) & (gauge.closed[..., 0, :] >= ENOUGH_WINDOWS)
    return Dispersion(
        phi=np.where(known, np.maximum(longest, FLOOR), PRIOR), known=known.astype(np.float64), errors=errors
    )


def indices(gauge: Gauge) -> Counts:
    """The index of dispersion of each window length, shape ``batch + (W, B)``; 0 where nothing failed."""
    share = np.divide(gauge.bad, gauge.all, out=np.zeros_like(gauge.bad), where=gauge.all > 0)
    scaled = np.divide(gauge.squares, share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(np.maximum(scaled - gauge.bad, 0.0) / np.maximum(gauge.closed - 1, 1.0))


def phi_from(ticks: Sequence[tuple[float, float, float]]) -> Dispersion:
    """phi of one arm's recorded ticks, each ``(seconds, bad, all)``: shapes ``(1,)``."""
    gauge = fresh(1)
    for seconds, bad, total in ticks:
        gauge = fold(gauge, np.asarray([bad]), np.asarray([total]), seconds=seconds)
    return dispersion(gauge)
