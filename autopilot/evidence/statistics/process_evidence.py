"""What a process has gathered, as evidence: of harm, against harm, and that a canary is good."""

from __future__ import annotations

import numpy as np

from autopilot.evidence.model import Judge, JudgeMetric
from autopilot.evidence.statistics import exclusion
from autopilot.evidence.statistics.arrays import Counts
from autopilot.evidence.statistics.eprocess import (
    excess_evidence,
    log_mean,
    objective_evidence,
)
from autopilot.evidence.statistics.metric_process import BESIDE, RELATIVE, SINGLE, WHOLE, Process
from autopilot.evidence.statistics.sign_test import guard


def harm_by_stake(judge: Judge, metric: JudgeMetric, process: Process, *, phi: Counts = SINGLE) -> Counts:
    """Evidence of harm with its stakes, shape ``batch + (2, 2, B)``; ``phi`` has shape ``batch + (B,)``.

    The first axis of two holds the comparison side by side and that with the past (the latter minus infinity for
    absolute kinds, which compare with an objective), the second the whole process and the epoch.
    """
    judge = judge.of(metric)
    epoch = process.epoch * (process.epoch + 1)
    rows = np.log(np.stack([np.full_like(epoch, WHOLE), (1 - WHOLE) / epoch], axis=-1))[..., None]
    if metric.kind not in RELATIVE:
        found = _absolute(metric, process, phi[..., None, :]) + rows
        return np.stack([found, np.full_like(found, -np.inf)], axis=-3)
    beside = _beside(judge, process, phi[..., None, :]) + rows + np.log(BESIDE)
    return np.stack([beside, _past(judge, process, phi[..., None, :]) + rows + np.log1p(-BESIDE)], axis=-3)


def harm_by_boundary(judge: Judge, metric: JudgeMetric, process: Process, *, phi: Counts = SINGLE) -> Counts:
    """Evidence of harm at each boundary, shape ``batch + (B,)``; minus infinity where it speaks against harm."""
    return np.asarray(np.logaddexp.reduce(harm_by_stake(judge, metric, process, phi=phi), axis=(-3, -2)))


def _absolute(metric: JudgeMetric, process: Process, phi: Counts) -> Counts:
    """Evidence against the objective, without stakes, shape ``batch + (2, B)``."""
    allowed = 1 - (metric.objective if metric.objective is not None else 0.99)
    total = np.broadcast_to(process.canary_all, process.canary_bad.shape)
    return objective_evidence(process.canary_bad / phi, total / phi, allowed=allowed)


def _beside(judge: Judge, process: Process, phi: Counts) -> Counts:
    """Evidence of the comparison side by side, without stakes, shape ``batch + (2, B)``."""
    found = log_mean(process.worse / phi[..., None])
    if judge.absolute > 0:
        found = np.minimum(found, log_mean(process.above / phi[..., None]))
    return np.minimum(found, guard(process.sign, process.apart / phi[..., None])) if judge.baseline else found


def _past(judge: Judge, process: Process, phi: Counts) -> Counts:
    """Evidence of the comparison with the past, without stakes, shape ``batch + (2, B)``; see the module's words."""
    if not process.alone_all.any() or not process.past_all.any():
        return np.full_like(process.alone_bad, -np.inf)
    past = process.past_bad[..., None, :], process.past_all[..., None, :]
    tallies = np.broadcast_arrays(*(each / phi for each in (process.alone_bad, process.alone_all, *past)))
    margin, ratio = judge.past_margin * judge.absolute, judge.past_margin * judge.ratio
    return excess_evidence(*tallies, margin=margin, ratio=ratio)


def harm(judge: Judge, metric: JudgeMetric, process: Process, *, phi: Counts = SINGLE) -> Counts:
    """Evidence of harm, averaged over boundaries (an average of e-values is one), shape ``batch``."""
    return log_mean(harm_by_boundary(judge, metric, process, phi=phi))


def excluded(process: Process, *, phi: Counts = SINGLE) -> Counts:
    """Evidence of this step that harm of `detect` size is excluded, at each boundary, shape ``batch + (B,)``."""
    scale = np.broadcast_to(phi, process.step_bad.shape[:-2] + process.step_bad.shape[-1:])
    return exclusion.evidence(process.excluding, scale)


def good(process: Process, *, phi: Counts = SINGLE) -> Counts:
    """Evidence of this step that the canary is not `good_ratio` times worse at any boundary, shape ``batch``."""
    return np.asarray(log_mean(process.better / phi[..., None]).min(axis=-1))
