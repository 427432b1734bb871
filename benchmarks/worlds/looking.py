"""What the judge asks of many rollouts at once; and first an upper bound that costs little, so that few are asked.

The average of e-values is at most their largest, and the stakes add up to at most 1, so evidence of harm is at most the
largest over views, stakes and boundaries. Side by side each is at most its best alternative's. With the past it is at
most the likelihood ratio of the canary's observed share against the bound at stable's observed share: one pair within
the margins, so no more likely than the best one.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.special import rel_entr

from autopilot.evidence.model import Judge
from autopilot.evidence.statistics import process_evidence
from autopilot.evidence.statistics.arrays import Counts, Flags
from autopilot.evidence.statistics.metric_process import FAILURES, Process
from worlds.rows import Watched

_SLACK = 1e-9


def nearby(judge: Judge, gathered: Process, *, phi: Counts, needed: float) -> Flags:
    """Rollouts whose evidence of harm may be `needed` or more, shape (n,); all others have less for sure.

    Args:
        judge: how all are judged; it has no baseline, and the metric compares with stable.
        gathered: of shape (n,).
        phi: shape (n, B).
        needed: evidence.
    """
    most = gathered.worse.max(axis=-1)
    if judge.absolute > 0:
        most = np.minimum(most, gathered.above.max(axis=-1))
    if gathered.alone_all.any():
        most = np.maximum(most, _past(judge, gathered))
    return np.asarray((most / phi[:, None, :] >= needed - _SLACK).any(axis=(1, 2)))


def _past(judge: Judge, gathered: Process) -> Counts:
    """The bound of the comparison with the past, before it is divided by phi, shape (n, 2, B)."""
    canary_all, past_all = gathered.alone_all, gathered.past_all[:, None, :]
    canary = gathered.alone_bad / np.maximum(canary_all, 1.0)
    past = gathered.past_bad[:, None, :] / np.maximum(past_all, 1.0)
    allowed = np.minimum(judge.past_margin * (judge.ratio * past + judge.absolute), 1.0)
    apart = rel_entr(canary, allowed) + rel_entr(1 - canary, 1 - allowed)
    return np.where((canary > allowed) & (past_all > 0), np.maximum(canary_all, 1.0) * apart, -np.inf)


def gross(judge: Judge, one: Watched) -> Flags:
    """Whose failures are gross, shape (n,)."""
    if one.metric.kind not in FAILURES:
        return np.zeros(one.failing.shape[0], dtype=bool)
    canary, stable = _shares(one.gathered, 0)
    return (
        (one.gathered.canary_all[:, 0, 0] > 0) & (canary >= judge.gross_share) & (canary >= judge.gross_ratio * stable)
    )


def guarded(judge: Judge, one: Watched) -> Flags:
    """Where the absolute guard finds harm, shape (n,)."""
    if judge.guard_share is None or one.metric.kind not in FAILURES:
        return np.zeros(one.failing.shape[0], dtype=bool)
    found = np.zeros(one.failing.shape[0], dtype=bool)
    for row in (0, 1):
        canary, stable = _shares(one.gathered, row)
        enough = (one.gathered.canary_all[:, row, 0] >= judge.guard_requests) & (one.gathered.stable_all[:, row, 0] > 0)
        often = one.failing[:, row] >= judge.guard_failing
        found |= enough & often & (canary >= judge.guard_share) & (canary >= judge.gross_ratio * stable)
    return found


def passes(judge: Judge, one: Watched, phi: Counts, held: Flags) -> tuple[Flags, Flags]:
    """Of those whose step has been held: which exclude harm of `detect` size, and which show the canary to be good."""
    enough, shown = np.zeros(held.size, dtype=bool), np.zeros(held.size, dtype=bool)
    (rows,) = np.nonzero(held)
    some = {name: getattr(one.gathered, name)[rows] for name in ("excluding", "step_bad", "better")}
    gathered = replace(one.gathered, **some)
    compared = one.gathered.step_all[rows, 0, 0] > 0
    least = process_evidence.excluded(gathered, phi=phi[rows]).min(axis=-1)
    enough[rows] = (least >= math.log(1 / judge.miss_budget)) | ~compared
    shown[rows] = process_evidence.good(gathered, phi=phi[rows]) >= math.log(1 / judge.beta)
    return enough, shown


def _shares(gathered: Process, row: int) -> tuple[Counts, Counts]:
    canary = gathered.canary_bad[:, row, 0] / np.maximum(gathered.canary_all[:, row, 0], 1)
    return canary, gathered.stable_bad[:, row, 0] / np.maximum(gathered.stable_all[:, row, 0], 1)
