"""The evidence of one metric: what it gathers tick by tick, for one rollout or for many at once.

Harm has to exceed *both* margins: the claim to be refuted is ``p_canary <= max(ratio * p_stable, p_stable +
absolute)``. An intersection-union test: a process for either margin runs beside the other, and the smaller of the two
is the evidence. Whichever of the two bounds is the larger, one of the processes is an e-process against it,
and what is never more than an e-process is one. So it takes no share of alpha, and averages over latency boundaries
stay valid. (Where stable's share moves to and fro across the one at which the bounds are equal, 0.5 % at the defaults,
neither is an e-process all the time. For a canary that is at the larger bound in every tick, with stable between 0.1
and 5 % every minute, 0.3 % alarms at alpha 1 % were measured in half an hour at 100 and at 1,000 requests/s, and 7 % at
10,000.)

Good evidence claims the reverse at every boundary, so there the least of all counts: where a boundary sees no slow
request at all, none is shown. A step does not need it; it ends by what it excludes.

Harm that begins late must not drown in a healthy past, so two wealths stand side by side: 0.8 is staked on the *whole*
process, and the rest on *epochs*, each of which begins with nothing (at every step, and every two minutes within one):
``E = 0.8 E_whole + 0.2/(k(k+1)) E_k`` in the k-th epoch. The stakes add up to at most 1 and those of past epochs are
given up, so E stays an e-process. It costs 0.1 in the first epoch, and finds an outage after half an hour of peace in
seconds rather than half a minute.

Where stable has no requests, as in the last step of every rollout, there is nothing to compare with tick by tick, and
the ratio process stands still. So each wealth is divided once more: 0.9 of it rests on the comparison *side by side*
described above, and 0.1 on one *with the past*, which in ticks where the canary is alone holds its counts against all
that stable did in company, since the rollout began: again universal inference, against ``p_alone <= past_margin *
(ratio * p_stable + absolute)``. With a `past_margin` of 2 that is wider than twice either margin, for the past can't
cancel what time does to both arms alike; a change of both within it is no harm, one beyond it would be taken for harm.

Why they may share alpha: they look at different ticks of the canary but at the same ones of stable, and stable's luck
in the one comparison is its luck in the other. So the two must not be multiplied; but their weighted *average* starts
at 1 or below and stays an e-process whatever their dependence, as long as both claims hold, and takes no further alpha.
It costs the one 0.1, and the other 2.3, which at full load are a few failures. Which tick belongs to which is settled
by request counts alone, on which the ratio process conditions too, never by failures. The past's likelihood ratio
begins with stable's first tick, so it is a bet in the same filtration, and a stake on it can be fixed beforehand; in an
epoch, the canary's counts alone start afresh. Without any past the best explanation is at least as likely as any
mixture, so it says nothing. How sure it may become is bounded by how many requests the past has.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from autopilot.evidence.model import Judge, JudgeMetric
from autopilot.evidence.statistics import exclusion
from autopilot.evidence.statistics.arrays import BatchArm, Counts, Flags, joined, over_all
from autopilot.evidence.statistics.coalescing import ALONE
from autopilot.evidence.statistics.eprocess import (
    ABOVE,
    BETTER,
    POINTS,
    ratio_increment,
)
from autopilot.evidence.statistics.sign_test import BETS, sign_increment

EPOCH = 120.0
"""Seconds after which an epoch is over."""

WHOLE = 0.8
"""Share of the wealth that is staked on the whole process."""

BESIDE = 0.9
"""Share of each wealth that rests on the comparison side by side; the rest is on that with the past."""

SINGLE: Counts = np.ones(1)
"""phi of failures that come one by one; see `autopilot.evidence.statistics.dispersion`."""

FAILURES = frozenset({"errors", "success", "clientErrors"})
"""Kinds that count answers that were no good: the only ones that can be gross."""

RELATIVE = frozenset({"errors", "latency", "clientErrors"})
"""Kinds that compare with stable."""

EXCLUDING = (2, exclusion.BETS.shape[0])
"""Bets against harm of `detect` size."""

Tick4 = tuple[Counts, Counts, Counts, Counts]
"""Bad and all requests of the canary, and of stable: ``batch + (B,)`` and ``batch + (1,)``."""


@dataclass(frozen=True, slots=True)
class Process:
    """What one metric has gathered, for any leading `batch` shape and B boundaries (1 unless the kind is `latency`).

    The axis of two holds the whole process and the present epoch.
    """

    worse: Counts
    """Log-likelihood ratios of harm, shape ``batch + (2, B, POINTS)``; last axis empty for absolute kinds."""
    above: Counts
    """The same of the absolute margin, shape ``batch + (2, B, POINTS // 2)``; noughts where it is nought."""
    better: Counts
    """The same of the good side, since the step began, shape ``batch + (B, POINTS)``."""
    sign: Counts
    """Logarithms of the guard's bets, shape ``batch + (2, B, BETS)``; noughts without a baseline arm."""
    apart: Counts
    """`worse` of the ticks that had no baseline, of judges that want one; else noughts."""
    canary_bad: Counts
    """Bad requests of the canary, shape ``batch + (2, B)``."""
    canary_all: Counts
    """All its requests, shape ``batch + (2, 1)``."""
    stable_bad: Counts
    stable_all: Counts
    alone_bad: Counts
    """Bad requests of the canary in ticks where it was alone, shape ``batch + (2, B)``."""
    alone_all: Counts
    """All its requests in such ticks, shape ``batch + (2, 1)``."""
    past_bad: Counts
    """Bad requests of stable in all other ticks since the rollout began, shape ``batch + (B,)``."""
    past_all: Counts
    """All its requests in those, shape ``batch + (1,)``."""
    excluding: Counts
    """Log-likelihood ratios against harm of `detect` size, since the step began and since it settled
    (`autopilot.evidence.statistics.exclusion`), shape ``batch + (B, 2, 2)``."""
    step_bad: Counts
    """Bad requests of this step, canary and stable, shape ``batch + (2, B)``; of stable only in company."""
    step_all: Counts
    """All of them, shape ``batch + (2, 1)``."""
    epoch: Counts
    """The present epoch's number, from 1, shape ``batch``."""
    seconds: Counts
    """How long it has lasted, shape ``batch``."""


def width(metric: JudgeMetric) -> int:
    """B: the boundaries of a latency metric, else 1."""
    return max(1, len(metric.boundaries)) if metric.kind == "latency" else 1


def fresh(metric: JudgeMetric, batch: tuple[int, ...] = ()) -> Process:
    """A process that has seen nothing: evidence 0."""
    wide = width(metric)
    points = POINTS if metric.kind in RELATIVE else 0
    return Process(
        worse=np.zeros((*batch, 2, wide, points)),
        above=np.zeros((*batch, 2, wide, points // 2)),
        better=np.zeros((*batch, wide, points)),
        sign=np.zeros((*batch, 2, wide, BETS if points else 0)),
        apart=np.zeros((*batch, 2, wide, points)),
        canary_bad=np.zeros((*batch, 2, wide)),
        canary_all=np.zeros((*batch, 2, 1)),
        stable_bad=np.zeros((*batch, 2, wide)),
        stable_all=np.zeros((*batch, 2, 1)),
        alone_bad=np.zeros((*batch, 2, wide)),
        alone_all=np.zeros((*batch, 2, 1)),
        past_bad=np.zeros((*batch, wide)),
        past_all=np.zeros((*batch, 1)),
        excluding=np.zeros((*batch, wide, *EXCLUDING)),
        step_bad=np.zeros((*batch, 2, wide)),
        step_all=np.zeros((*batch, 2, 1)),
        epoch=np.ones(batch),
        seconds=np.zeros(batch),
    )


def begin_step(process: Process, rows: Flags | bool = True) -> Process:
    """Good evidence starts afresh, and an epoch begins; harm evidence of the whole process goes on.

    Args:
        process: what was gathered before.
        rows: of a batch those to which it happens, shape ``batch``, as booleans.
    """
    begun = begin_epoch(process, rows)
    step = ("better", "excluding", "step_bad", "step_all")
    return replace(begun, **{name: _where(rows, 0.0, getattr(begun, name)) for name in step})


def begin_epoch(process: Process, rows: Flags | bool = True) -> Process:
    """What was staked on the epoch before is given up; nothing happens to an epoch that has seen nothing yet."""
    over: Flags = np.asarray(rows) & (process.seconds > 0)
    if not over.any():
        return process
    names = ("worse", "above", "sign", "apart", "canary_bad", "canary_all", "stable_bad", "stable_all")
    kept = {}
    for name in (*names, "alone_bad", "alone_all"):
        values = getattr(process, name)
        second = np.arange(2).reshape(2, *[1] * (values.ndim - 1 - over.ndim)) == 1
        kept[name] = np.where(over_all(over, values) & second, 0.0, values)
    return replace(
        process, **kept, epoch=process.epoch + np.where(over, 1, 0), seconds=np.where(over, 0.0, process.seconds)
    )


def _where(rows: Flags | bool, value: float, values: Counts) -> Counts:
    """The values with those of some rows replaced."""
    mask = np.asarray(rows)
    return np.where(over_all(mask, values), value, values)


_STAYS = frozenset({"better", "past_bad", "past_all", "excluding", "step_bad", "step_all", "epoch"})


def begin_harm(process: Process, rows: Flags | bool = True) -> Process:
    """Harm evidence starts afresh; what speaks for the canary goes on, and what stable did stays known."""
    names = [field.name for field in fields(process) if field.name not in _STAYS]
    found = {name: _where(rows, 0.0, getattr(process, name)) for name in names}
    return replace(process, **found, epoch=_where(rows, 1.0, process.epoch))


def counts(metric: JudgeMetric, arm: BatchArm) -> tuple[Counts, Counts]:
    """What a metric counts of an arm's tick: bad requests ``batch + (B,)`` and all ``batch + (1,)``.

    Latency is conditioned on the histogram's own count, for histograms may trail counters. Bad is cut at all: the two
    may have been read a moment apart.

    Raises:
        ValueError: the tick lacks one of the metric's boundaries.
    """
    if metric.kind in {"errors", "success"}:
        total, bad = arm.requests[..., None], arm.errors[..., None]
        if not metric.aborts and arm.aborts is not None:
            total, bad = total - arm.aborts[..., None], bad - arm.aborts[..., None]
    elif metric.kind == "clientErrors":
        told = arm.client_errors is not None
        total = arm.requests[..., None] if told else np.zeros_like(arm.requests[..., None])
        bad = np.zeros_like(total) if arm.client_errors is None else arm.client_errors[..., None]
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
    judge: Judge,
    metric: JudgeMetric,
    process: Process,
    canary: BatchArm,
    stable: BatchArm,
    *,
    seconds: Counts | float,
    harm: Flags | bool = True,
    baseline: BatchArm | None = None,
) -> Process:
    """Adds one tick that covers so many seconds; with ``harm`` false only to the good side and to stable's past.

    Both may differ by row, shape ``batch``. A row whose arms had no requests in no time stays as it is.

    A baseline arm is stable's version: it guards (`autopilot.evidence.statistics.sign_test`), and is counted with
    stable elsewhere: the more requests there are to compare with, the surer the comparison.
    """
    judge = judge.of(metric)
    stable = joined(stable, baseline)
    canary_bad, canary_all = counts(metric, canary)
    stable_bad, stable_all = counts(metric, stable)
    tick = (canary_bad, canary_all, stable_bad, stable_all)
    alone = (stable_all < ALONE * canary_all) & (metric.kind in RELATIVE)
    judged = np.asarray(harm)
    process = _exclude(judge, metric, process, tick, alone, judged)
    process = replace(
        process,
        past_bad=process.past_bad + np.where(alone, 0.0, stable_bad),
        past_all=process.past_all + np.where(alone, 0.0, stable_all),
    )
    if metric.kind in RELATIVE:
        better = process.better + ratio_increment(*np.broadcast_arrays(*tick), ratio=judge.good_ratio, grid=BETTER)
        process = replace(process, better=better)
    if not judged.any():
        return process
    if not judged.all():
        return _joined_rows(judged, _gathered(judge, metric, process, tick, alone, seconds, baseline), process)
    return _gathered(judge, metric, process, tick, alone, seconds, baseline)


def _exclude(  # noqa: PLR0917 - what `fold` was given
    judge: Judge, metric: JudgeMetric, process: Process, tick: Tick4, alone: Flags, settled: Flags
) -> Process:
    """Adds one tick to what the step has excluded; the past is still that of the ticks before."""
    canary_bad, canary_all, stable_bad, stable_all = np.broadcast_arrays(*tick)
    if metric.kind not in RELATIVE:
        allowed = np.full_like(canary_bad, 1 - (metric.objective if metric.objective is not None else 0.99))
        more = exclusion.below(canary_bad, canary_all, allowed, exclusion.harmful(judge, allowed))
        none = np.zeros_like(canary_bad), np.zeros_like(tick[1])
        return _step(process, more, settled, tick[:2], none)
    past_all = np.broadcast_to(process.past_all, process.past_bad.shape)
    usual = exclusion.usual(process.past_bad, past_all)
    alike = exclusion.below(canary_bad, canary_all, usual, exclusion.harmful(judge, usual))
    alike = np.where(exclusion.impossible(judge, usual)[..., None], canary_all[..., None], alike)
    known = past_all > 0
    compared = exclusion.beside(judge, (canary_bad, canary_all, stable_bad, stable_all), usual)
    more = np.where(alone[..., None], np.where(known[..., None], alike, 0.0), compared)
    return _step(process, more, settled, tick[:2], (np.where(alone, 0.0, tick[2]), np.where(alone, 0.0, tick[3])))


def _step(
    process: Process, more: Counts, settled: Flags, canary: tuple[Counts, Counts], stable: tuple[Counts, Counts]
) -> Process:
    """Adds evidence, and the counts that it rests on, to those of the step."""
    later = np.where(over_all(settled, more), more, 0.0)
    return replace(
        process,
        excluding=process.excluding + np.stack([more, later], axis=-2),
        step_bad=process.step_bad + np.stack([canary[0], stable[0]], axis=-2),
        step_all=process.step_all + np.stack([canary[1], stable[1]], axis=-2),
    )


def _joined_rows(rows: Flags, first: Process, second: Process) -> Process:
    """Some rows of one, the others of another."""
    found = {}
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        found[field.name] = np.where(over_all(rows, one), one, other)
    return Process(**found)


def _gathered(  # noqa: PLR0917 - what `fold` was given
    judge: Judge,
    metric: JudgeMetric,
    process: Process,
    tick: Tick4,
    alone: Flags,
    seconds: Counts | float,
    baseline: BatchArm | None,
) -> Process:
    """Adds one tick to the evidence of harm."""
    canary_bad, canary_all, stable_bad, stable_all = tick
    process = begin_epoch(process, process.seconds >= EPOCH)
    if metric.kind in RELATIVE:
        wide = np.broadcast_arrays(*tick)
        more = ratio_increment(*wide, ratio=judge.ratio)[..., None, :, :]
        worse = process.worse + more
        if judge.baseline and baseline is not None:
            signs = sign_increment(canary_bad, counts(metric, baseline)[0])
            process = replace(process, sign=process.sign + signs[..., None, :, :])
        elif judge.baseline:
            process = replace(process, apart=process.apart + more)
        above = process.above
        if judge.absolute > 0:
            above = above + ratio_increment(*wide, ratio=1.0, margin=judge.absolute, grid=ABOVE)[..., None, :, :]
        process = replace(process, worse=worse, above=above)
    return replace(
        process,
        canary_bad=process.canary_bad + canary_bad[..., None, :],
        canary_all=process.canary_all + canary_all[..., None, :],
        stable_bad=process.stable_bad + stable_bad[..., None, :],
        stable_all=process.stable_all + stable_all[..., None, :],
        alone_bad=process.alone_bad + np.where(alone, canary_bad, 0.0)[..., None, :],
        alone_all=process.alone_all + np.where(alone, canary_all, 0.0)[..., None, :],
        seconds=process.seconds + seconds,
    )
