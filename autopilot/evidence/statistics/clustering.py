"""How far stable's failures cluster: an index of dispersion that neither drift nor incidents can raise.

Failures that come in clusters, each wholly in one arm, break the independence that the e-processes take for granted, so
every log-likelihood is divided by phi: five failures that are one event count as about one (quasi-likelihood,
Wedderburn 1974; `autopilot.evidence.statistics.dispersion` has the measurements). Which phi: the index of dispersion of
what one arm fails
*within a window*, beyond what the window's own rate explains. Rates move: outages, releases of others, load, the time
of day; all of that meets both arms alike and cancels in the comparison, so it is no clustering. A variance over the
whole history takes it for clustering, without a bound: ten seconds of outage gave phi 1,393.

So each window is compared with its neighbour alone. Given that two windows in a row had ``m`` failures between them,
and ``theta`` of their requests fell to the second, the second has ``m theta`` of them on average, and a variance of
``phi m theta (1 - theta)``: for single failures phi is 1, for clusters of size S that lie within a window
``E[S^2]/E[S]``. phi is the sum of the squared deviations over the sum of ``m theta (1 - theta)`` (von Neumann's
successive differences, 1941, for counts). A rate that moves slower than a window adds next to nothing.

Where the rate jumps, one pair is far outside: its square is more than `_FAR` times what phi explains. That pair is left
out, and so is what follows until failures are back at what they were, or for `_LONGEST` seconds, after which they count
as the new rate: an incident is no clustering. A cluster as large as that would be left out, too, but smaller ones raise
phi, and with it the bound.

phi is the upper 90 % bound of the shortest window's index, or a longer window's index where that is larger. It lies
between `FLOOR` and `MOST`: one series of counts cannot tell clusters that last from trouble that all share, so beyond
`MOST` nothing is believed. Degrees of freedom: the relative variance of the index is about ``2 sum m (m-1) / (sum
m)^2`` for single failures (each pair is binomial), and ``(I - 1/I)/N`` more for few clusters of N failures; by
Satterthwaite's rule (1946) a chi-squared distribution with that variance gives the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.special import gammaincinv

from autopilot.evidence.statistics.arrays import Counts, Flags
from autopilot.evidence.statistics.dispersion import ENOUGH_ERRORS, ENOUGH_WINDOWS, FLOOR, PRIOR, Dispersion

WINDOWS = (1.0, 5.0)
"""Seconds; a tick that is longer is a window by itself. Longer windows would take drift for clusters."""

MOST = 12.0
"""The highest phi: clusters of five and a half on average, and 100 % errors are still found in seconds."""

_FAR, _LEAST_FAR = 12.0, 15.0
"""A pair whose squared deviation is so many times what phi explains, and at least so many, is a jump of the rate."""

_LONGEST = 360.0
"""Seconds after which the failures of an incident are the new rate."""

_SURE = 0.9
_BACK = 4.0
"""Standard deviations above the rate before it within which an incident is over."""
_SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Gauge:
    """Sums over pairs of windows, for W lengths, B boundaries and any leading batch; "narrow" has 1 instead of B."""

    open_bad: Counts
    """Of the window that is open, shape ``batch + (W, B)``."""
    open_all: Counts
    """Shape ``batch + (W, 1)``."""
    open_seconds: Counts
    """How long it has been open, shape ``batch + (W, 1)``."""
    last_bad: Counts
    """Of the window before it, shape ``batch + (W, B)``."""
    last_all: Counts
    """Shape ``batch + (W, 1)``; 0 where there is none, or it had no requests."""
    squares: Counts
    """Sum of the squared deviations of the pairs that count, shape ``batch + (W, B)``."""
    expected: Counts
    """Sum of ``m theta (1 - theta)`` over them, shape ``batch + (W, B)``."""
    failures: Counts
    """Sum of m over them, shape ``batch + (W, B)``: every failure is in two pairs."""
    doubles: Counts
    """Sum of ``m (m - 1)`` over them, shape ``batch + (W, B)``."""
    requests: Counts
    """All requests of their second windows, shape ``batch + (W, B)``."""
    bad: Counts
    """Failures of those, shape ``batch + (W, B)``."""
    pairs: Counts
    """How many pairs of windows with requests there were, shape ``batch + (W, 1)``."""
    incident: Counts
    """Seconds for which an incident has lasted, shape ``batch + (W, B)``; 0 where there is none."""
    left_out: Counts
    """Seconds of incidents, shape ``batch + (W, B)``."""


def fresh(boundaries: int, batch: tuple[int, ...] = ()) -> Gauge:
    """A gauge that has seen nothing."""
    wide, narrow = np.zeros((*batch, len(WINDOWS), boundaries)), np.zeros((*batch, len(WINDOWS), 1))
    thin = {"open_all", "open_seconds", "last_all", "pairs"}
    return Gauge(**{field.name: narrow if field.name in thin else wide for field in fields(Gauge)})


def fold(gauge: Gauge, bad: Counts, total: Counts, *, seconds: Counts | float) -> Gauge:
    """Adds stable's tick.

    Args:
        gauge: what was known before it.
        bad: bad requests, shape ``batch + (B,)``.
        total: all requests, shape ``batch + (1,)``.
        seconds: how long the tick lasted, a number or shape ``batch``.
    """
    lasted = np.asarray(seconds, dtype=np.float64)[..., None, None]
    now_bad, now_all = gauge.open_bad + bad[..., None, :], gauge.open_all + total[..., None, :]
    passed = gauge.open_seconds + lasted
    ends = passed >= np.asarray(WINDOWS)[:, None] - _SLACK
    if not ends.any():
        return replace(gauge, open_bad=now_bad, open_all=now_all, open_seconds=passed)
    closed = _closed(gauge, now_bad, now_all, passed, ends)
    return replace(
        closed,
        open_bad=np.where(ends, 0.0, now_bad),
        open_all=np.where(ends, 0.0, now_all),
        open_seconds=np.where(ends, 0.0, passed),
    )


def _closed(gauge: Gauge, bad: Counts, total: Counts, passed: Counts, ends: Flags) -> Gauge:
    """The gauge with the windows that are over: each is the second of a pair, and the first of the next."""
    pair = ends & (gauge.last_all > 0) & (total > 0)
    both = gauge.last_bad + bad
    share = np.divide(total, gauge.last_all + total, out=np.zeros_like(total), where=pair)
    squared = (bad - both * share) ** 2
    expected = both * share * (1 - share)
    phi = _index(gauge)
    far = squared > np.maximum(_LEAST_FAR, _FAR * phi) * expected
    rises = bad * gauge.last_all > gauge.last_bad * total
    # What the rate was before the incident, and what it may be after it.
    usual = np.divide(gauge.bad, gauge.requests, out=np.zeros_like(gauge.bad), where=gauge.requests > 0) * total
    back = bad <= usual + _BACK * np.sqrt(phi * (usual + 1))
    during = gauge.incident > 0
    lasts = during & ~back & (gauge.incident < _LONGEST)
    begins = ~during & far & rises
    counts = pair & ~far & ~during
    incident = np.where(pair, np.where(lasts | begins, gauge.incident + passed, 0.0), gauge.incident)
    known = ends & (total > 0)
    return replace(
        gauge,
        last_bad=np.where(known, bad, gauge.last_bad),
        last_all=np.where(known, total, gauge.last_all),
        squares=gauge.squares + np.where(counts, squared, 0.0),
        expected=gauge.expected + np.where(counts, expected, 0.0),
        failures=gauge.failures + np.where(counts, both, 0.0),
        doubles=gauge.doubles + np.where(counts, np.maximum(both * (both - 1), 0.0), 0.0),
        requests=gauge.requests + np.where(counts, total, 0.0),
        bad=gauge.bad + np.where(counts, bad, 0.0),
        pairs=gauge.pairs + pair,
        incident=incident,
        left_out=gauge.left_out + np.where(pair & (lasts | begins), passed, 0.0),
    )


def _index(gauge: Gauge) -> Counts:
    """The index of each window length, shape ``batch + (W, B)``; at least 1."""
    found = np.divide(gauge.squares, gauge.expected, out=np.ones_like(gauge.squares), where=gauge.expected > 0)
    return np.maximum(found, 1.0)


def dispersion(gauge: Gauge) -> Dispersion:
    """phi as the module's words have it, between `FLOOR` and `MOST`; `PRIOR` where not enough is known."""
    index = _index(gauge)
    errors = gauge.failures / 2
    plain = 2 * gauge.doubles / np.maximum(gauge.failures, 1.0) ** 2
    degrees = 2 / np.maximum(plain + (index - 1 / index) / np.maximum(errors, 1.0), 1e-9)
    upper = index * degrees / (2 * gammaincinv(degrees / 2, 1 - _SURE))
    enough = (errors >= ENOUGH_ERRORS) & (gauge.pairs >= ENOUGH_WINDOWS)
    longer = np.where(enough, index, 0.0)[..., 1:, :].max(axis=-2)
    known = enough[..., 0, :]
    phi = np.clip(np.maximum(upper[..., 0, :], longer), FLOOR, MOST)
    return Dispersion(phi=np.where(known, phi, PRIOR), known=known.astype(np.float64), errors=errors[..., 0, :])
