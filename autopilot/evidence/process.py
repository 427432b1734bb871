"""The evidence of one metric: what it gathers tick by tick, for one rollout or for many at once.

Harm has to exceed *both* margins: the claim to be refuted is ``p_canary <= max(ratio * p_stable, p_stable +
absolute)``. An intersection-union test: the ratio process and the excess process run side by side, and the smaller of
the two is the evidence. Whichever of the two bounds is the larger, one of the processes is an e-process against it,
and what is never more than an e-process is one. So it takes no share of alpha, and averages over latency boundaries
stay valid.

Good evidence claims the reverse at every boundary, so there the least of all counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from autopilot.evidence.eprocess import (
    BETTER,
    POINTS,
    excess_evidence,
    log_mean,
    objective_evidence,
    ratio_increment,
)
from autopilot.evidence.model import BatchArm, Counts, Judge, JudgeMetric

RELATIVE = frozenset({"errors", "latency"})
"""Kinds that compare with stable."""


@dataclass(frozen=True, slots=True)
class Process:
    """What one metric has gathered, for any leading `batch` shape and B boundaries (1 unless the kind is `latency`)."""

    worse: Counts
    """Log-likelihood ratios of harm, shape ``batch + (B, POINTS)``; last axis empty for absolute kinds."""
    better: Counts
    """The same of the good side, since the step began."""
    canary_bad: Counts
    """Bad requests of the canary since the process began, shape ``batch + (B,)``."""
    canary_all: Counts
    """All its requests since then, shape ``batch + (1,)``."""
    stable_bad: Counts
    stable_all: Counts


def fresh(metric: JudgeMetric, batch: tuple[int, ...] = ()) -> Process:
    """A process that has seen nothing: evidence 0."""
    wide = max(1, len(metric.boundaries)) if metric.kind == "latency" else 1
    points = POINTS if metric.kind in RELATIVE else 0
    return Process(
        worse=np.zeros((*batch, wide, points)),
        better=np.zeros((*batch, wide, points)),
        canary_bad=np.zeros((*batch, wide)),
        canary_all=np.zeros((*batch, 1)),
        stable_bad=np.zeros((*batch, wide)),
        stable_all=np.zeros((*batch, 1)),
    )


def begin_step(process: Process) -> Process:
    """Good evidence starts afresh; harm evidence goes on."""
    return replace(process, better=np.zeros_like(process.better))


def begin_harm(process: Process) -> Process:
    """Harm evidence starts afresh; good evidence goes on."""
    none = np.zeros_like
    return Process(
        worse=none(process.worse),
        better=process.better,
        canary_bad=none(process.canary_bad),
        canary_all=none(process.canary_all),
        stable_bad=none(process.stable_bad),
        stable_all=none(process.stable_all),
    )


def counts(metric: JudgeMetric, arm: BatchArm) -> tuple[Counts, Counts]:
    """What a metric counts of an arm's tick: bad requests ``batch + (B,)`` and all ``batch + (1,)``.

    Latency is conditioned on the histogram's own count, for histograms may trail counters. Bad is cut at all: the two
    may have been read a moment apart.

    Raises:
        ValueError: the tick lacks one of the metric's boundaries.
    """
    if metric.kind in {"errors", "success"}:
        total, bad = arm.requests[..., None], arm.errors[..., None]
    elif arm.slow.shape[-1] == 0 and not arm.timed.any():
        total = arm.timed[..., None]
        bad = np.zeros((*arm.timed.shape, len(metric.boundaries)))
    else:
        if metric.boundaries and max(metric.boundaries) >= arm.slow.shape[-1]:
            raise ValueError(
                f"metric {metric.name!r} needs boundary {max(metric.boundaries)}, but the tick has {arm.slow.shape[-1]}"
            )
        total, bad = arm.timed[..., None], arm.slow[..., list(metric.boundaries)]
    total = np.maximum(total, 0.0)
    return np.clip(bad, 0.0, total), total


def fold(
    judge: Judge, metric: JudgeMetric, process: Process, canary: BatchArm, stable: BatchArm, *, harm: bool = True
) -> Process:
    """Adds one tick; with ``harm`` false only to the good side."""
    canary_bad, canary_all = counts(metric, canary)
    stable_bad, stable_all = counts(metric, stable)
    tick = (canary_bad, canary_all, stable_bad, stable_all)
    if metric.kind in RELATIVE:
        better = process.better + ratio_increment(*np.broadcast_arrays(*tick), ratio=judge.good_ratio, grid=BETTER)
        process = replace(process, better=better)
    if not harm:
        return process
    if metric.kind in RELATIVE:
        worse = process.worse + ratio_increment(*np.broadcast_arrays(*tick), ratio=judge.ratio)
        process = replace(process, worse=worse)
    return replace(
        process,
        canary_bad=process.canary_bad + canary_bad,
        canary_all=process.canary_all + canary_all,
        stable_bad=process.stable_bad + stable_bad,
        stable_all=process.stable_all + stable_all,
    )


def harm_by_boundary(judge: Judge, metric: JudgeMetric, process: Process) -> Counts:
    """Evidence of harm at each boundary, shape ``batch + (B,)``; minus infinity where it speaks against harm."""
    if metric.kind not in RELATIVE:
        allowed = 1 - (metric.objective if metric.objective is not None else 0.99)
        total = np.broadcast_to(process.canary_all, process.canary_bad.shape)
        return objective_evidence(process.canary_bad, total, allowed=allowed)
    ratio = log_mean(process.worse)
    if judge.absolute <= 0:
        return ratio
    tallies = np.broadcast_arrays(process.canary_bad, process.canary_all, process.stable_bad, process.stable_all)
    return np.minimum(ratio, excess_evidence(*tallies, margin=judge.absolute))


def harm(judge: Judge, metric: JudgeMetric, process: Process) -> Counts:
    """Evidence of harm, averaged over boundaries (an average of e-values is one), shape ``batch``."""
    return log_mean(harm_by_boundary(judge, metric, process))


def good(process: Process) -> Counts:
    """Evidence of this step that the canary is not `good_ratio` times worse at any boundary, shape ``batch``."""
    return np.asarray(log_mean(process.better).min(axis=-1))
