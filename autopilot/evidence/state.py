"""What a judge remembers between ticks: small, plain, and the same after a trip through JSON."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from autopilot.evidence.model import ArmTick, Judge, JudgeMetric, Tick
from autopilot.evidence.statistics import clustering, dispersion
from autopilot.evidence.statistics.arrays import BatchArm, Counts
from autopilot.evidence.statistics.dispersion import Gauge
from autopilot.evidence.statistics.eprocess import POINTS
from autopilot.evidence.statistics.metric_process import EXCLUDING, RELATIVE, Process, width
from autopilot.evidence.statistics.sign_test import BETS
from autopilot.wire import Wire

_DECIMALS = 6
"""Digits kept: what is dropped of a logarithm adds up to about 0.0003 in a million ticks, for it goes up and down."""


class Tally(Wire):
    """Requests of both arms, and how many were bad (at each boundary)."""

    canary: float = 0.0
    canary_bad: tuple[float, ...] = ()
    stable: float = 0.0
    stable_bad: tuple[float, ...] = ()


class GaugeState(Wire):
    """`autopilot.evidence.statistics.dispersion.Gauge`, of version 1, flat: window by window, boundary by boundary."""

    open_bad: tuple[float, ...] = ()
    open_all: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    bad: tuple[float, ...] = ()
    all: tuple[float, ...] = ()
    closed: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()


class ClusterState(Wire):
    """`autopilot.evidence.statistics.clustering.Gauge`, flat: window length by window length, boundary by boundary."""

    open_bad: tuple[float, ...] = ()
    open_all: tuple[float, ...] = ()
    open_seconds: tuple[float, ...] = ()
    last_bad: tuple[float, ...] = ()
    last_all: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    expected: tuple[float, ...] = ()
    failures: tuple[float, ...] = ()
    doubles: tuple[float, ...] = ()
    requests: tuple[float, ...] = ()
    bad: tuple[float, ...] = ()
    pairs: tuple[float, ...] = ()
    incident: tuple[float, ...] = ()
    left_out: tuple[float, ...] = ()


class MetricState(Wire):
    """What one metric has gathered."""

    worse: tuple[float, ...] = ()
    """Harm: log-likelihood ratios of the whole process, then of the epoch; boundary by boundary, `POINTS` each."""
    above: tuple[float, ...] = ()
    """The same against the absolute margin; none in states from before there was one: it begins with nothing."""
    sign: tuple[float, ...] = ()
    apart: tuple[float, ...] = ()
    """The guard of a baseline arm: its bets, and the likelihood ratios of ticks without one."""
    better: tuple[float, ...] = ()
    """Good side: the same, since the step began."""
    since: Tally = Tally()
    """Since harm evidence began: at the start, and again when the warm-up ended."""
    recent: Tally = Tally()
    """Since the present epoch began."""
    alone: Tally | None = None
    """`since` of the comparison with the past: the canary where it was alone, and all that stable did in company.

    None in states from before there was one: stable's past is then that of `total`.
    """
    alone_recent: Tally | None = None
    """`recent` of it: the canary's counts of the epoch, and the same of stable."""
    epoch: int = 1
    seconds: float = 0.0
    """How long the epoch has lasted."""
    total: Tally = Tally()
    """Since the rollout began."""
    excluded: tuple[float, ...] = ()
    """Against harm of `detect` size, since the step began: bet by bet at each boundary."""
    step: Tally | None = None
    """Since the step began; of stable only what it did in company."""
    gauge: GaugeState | None = None
    """How stable's failures cluster, of all its ticks so far, as version 1 has it; None where the judge is told."""
    clusters: ClusterState | None = None
    """The same of version 2."""
    phi: tuple[float, ...] = ()
    """What the gauge said before the last tick, at each boundary; 0 or none where it could not tell."""
    failing: tuple[int, int] = (0, 0)
    """Comparisons in which the canary failed: since harm evidence began, and in the epoch."""
    aborts: tuple[float, float] = (0.0, 0.0)
    """Since the rollout began: failures of the canary, and of these the callers that left before an answer began."""
    failures: int = 0
    """Readings out of bounds in a row."""
    reading: float | None = None
    """The last reading of a threshold that had data."""
    readings: float = 0.0
    """Since the step began: judged readings of a threshold, or canary requests that the metric could count."""


VERSION = 2
"""Of the judge's rules; 1 measured clusters over the whole history, compared every tick, ended steps by the clock."""

SLACK = 1e-6
"""Seconds: what sums of sample times may be off."""


class JudgeState(Wire):
    """Everything a verdict rests on; its metrics are in the judge's order."""

    version: int = 1
    """Of the judge: one that began under an earlier version goes on by its rules, and is judged again by them."""
    ticks: int = 0
    first: float | None = None
    """When the first tick began, seconds since the epoch."""
    last: float | None = None
    """When the last one ended."""
    warm: bool = False
    """Still in the warm-up."""
    requests: float = 0.0
    """The canary's requests since the rollout began."""
    step_ticks: int = 0
    step_seconds: float = 0.0
    """Seconds covered by ticks since the step began: silence does not count."""
    step_requests: float = 0.0
    """The canary's requests since the step began."""
    step_waited: float = 0.0
    """Seconds for which the step could have ended, but for a metric without any reading in it."""
    company_requests: float = 0.0
    """Requests of all arms in ticks where stable kept the canary company, since the rollout began."""
    company_seconds: float = 0.0
    """Seconds of such ticks."""
    pending: Tick | None = None
    """Ticks that do not make a comparison yet (`autopilot.evidence.statistics.coalescing`)."""
    step_compared: tuple[float, float] = (0.0, 0.0)
    """Requests of the canary and of stable, since the step began, in those that did."""
    metrics: tuple[MetricState, ...] = ()


def arm_of(tick: ArmTick) -> BatchArm:
    """One arm's tick as arrays of shape ``()`` and ``(boundaries,)``."""
    return BatchArm(
        requests=np.asarray(tick.requests, dtype=np.float64),
        errors=np.asarray(tick.errors, dtype=np.float64),
        timed=np.asarray(tick.timed, dtype=np.float64),
        slow=np.asarray(tick.slow, dtype=np.float64),
        client_errors=None if tick.client_errors is None else np.asarray(tick.client_errors, dtype=np.float64),
        aborts=np.asarray(tick.aborts, dtype=np.float64) if tick.aborts else None,
    )


def fitting(judge: Judge, state: JudgeState) -> Judge:
    """The judge that a state is of: one that began without a metric that the spec does not name goes on without it."""
    if len(judge.metrics) <= len(state.metrics):
        return judge
    return judge.model_copy(update={"metrics": tuple(metric for metric in judge.metrics if not metric.implied)})


def pack(process: Process, total: Tally) -> MetricState:
    """A scalar process, and the tally of the whole rollout, as they are kept."""
    since, recent = (
        _tally(process.canary_bad[row], process.canary_all[row], process.stable_bad[row], process.stable_all[row])
        for row in (0, 1)
    )
    alone, alone_recent = (
        _tally(process.alone_bad[row], process.alone_all[row], process.past_bad, process.past_all) for row in (0, 1)
    )
    return MetricState(
        worse=_floats(process.worse),
        above=_unless_nought(process.above),
        sign=_unless_nought(process.sign),
        apart=_unless_nought(process.apart),
        better=_floats(process.better),
        since=since,
        recent=recent,
        excluded=_unless_nought(process.excluding),
        step=_tally(process.step_bad[0], process.step_all[0], process.step_bad[1], process.step_all[1]),
        alone=alone,
        alone_recent=alone_recent,
        epoch=int(process.epoch),
        seconds=round(float(process.seconds), _DECIMALS),
        total=total,
    )


def unpack(metric: JudgeMetric, state: MetricState) -> Process:
    """The way back."""
    wide = len(state.since.canary_bad)
    points = POINTS if metric.kind in RELATIVE else 0
    rows = (state.since, state.recent)
    alone, alone_recent = past(state)
    none = Tally(canary_bad=(0.0,) * wide, stable_bad=(0.0,) * wide)
    step = state.step or none
    return Process(
        worse=np.asarray(state.worse).reshape(2, wide, points),
        above=_wide(state.above, wide, points // 2),
        better=np.asarray(state.better).reshape(wide, points),
        sign=_wide(state.sign, wide, BETS if points else 0),
        apart=_wide(state.apart, wide, points),
        canary_bad=np.asarray([row.canary_bad for row in rows]),
        canary_all=np.asarray([[row.canary] for row in rows]),
        stable_bad=np.asarray([row.stable_bad for row in rows]),
        stable_all=np.asarray([[row.stable] for row in rows]),
        alone_bad=np.asarray([alone.canary_bad, alone_recent.canary_bad]),
        alone_all=np.asarray([[alone.canary], [alone_recent.canary]]),
        past_bad=np.asarray(alone.stable_bad),
        past_all=np.asarray([alone.stable]),
        excluding=np.asarray(state.excluded or np.zeros((wide, *EXCLUDING))).reshape(wide, *EXCLUDING),
        step_bad=np.asarray([step.canary_bad, step.stable_bad]),
        step_all=np.asarray([[step.canary], [step.stable]]),
        epoch=np.asarray(float(state.epoch)),
        seconds=np.asarray(state.seconds),
    )


def pack_gauge(gauge: Gauge) -> GaugeState:
    """A scalar gauge as it is kept."""
    return GaugeState(
        open_bad=_floats(gauge.open_bad),
        open_all=_floats(gauge.open_all),
        squares=_floats(gauge.squares),
        bad=_floats(gauge.bad),
        all=_floats(gauge.all),
        closed=_floats(gauge.closed),
        seconds=_floats(np.asarray(gauge.seconds)),
    )


def unpack_gauge(metric: JudgeMetric, state: GaugeState | None) -> Gauge:
    """The way back; a fresh one where there is none."""
    if state is None:
        return dispersion.fresh(width(metric))
    wide, narrow = (len(dispersion.WINDOWS), width(metric)), (len(dispersion.WINDOWS), 1)
    return Gauge(
        open_bad=np.asarray(state.open_bad).reshape(wide),
        open_all=np.asarray(state.open_all).reshape(narrow),
        squares=np.asarray(state.squares).reshape(wide),
        bad=np.asarray(state.bad).reshape(wide),
        all=np.asarray(state.all).reshape(narrow),
        closed=np.asarray(state.closed).reshape(narrow),
        seconds=state.seconds,
    )


def pack_clusters(gauge: clustering.Gauge) -> ClusterState:
    """A scalar gauge of version 2 as it is kept."""
    return ClusterState(**{field.name: _floats(getattr(gauge, field.name)) for field in fields(gauge)})


def unpack_clusters(metric: JudgeMetric, state: ClusterState | None) -> clustering.Gauge:
    """The way back; a fresh one where there is none."""
    none = clustering.fresh(width(metric))
    if state is None:
        return none
    return clustering.Gauge(
        **{
            field.name: np.asarray(getattr(state, field.name)).reshape(getattr(none, field.name).shape)
            for field in fields(none)
        }
    )


def past(state: MetricState) -> tuple[Tally, Tally]:
    """What the comparison with the past rests on: the whole process and the epoch, also of states from before it."""
    none = (0.0,) * len(state.since.canary_bad)
    known = state.total.stable_bad or none
    began = Tally(canary_bad=none, stable=state.total.stable, stable_bad=known)
    return state.alone or began, state.alone_recent or began


def add(tally: Tally, canary: tuple[Counts, Counts], stable: tuple[Counts, Counts]) -> Tally:
    """A tally with one tick's (bad, all) of each arm added."""
    before = tally.canary_bad or (0.0,) * canary[0].shape[-1]
    stable_before = tally.stable_bad or (0.0,) * stable[0].shape[-1]
    return Tally(
        canary=tally.canary + float(canary[1][0]),
        canary_bad=_floats(np.asarray(before) + canary[0]),
        stable=tally.stable + float(stable[1][0]),
        stable_bad=_floats(np.asarray(stable_before) + stable[0]),
    )


def _tally(canary_bad: Counts, canary_all: Counts, stable_bad: Counts, stable_all: Counts) -> Tally:
    return Tally(
        canary=float(canary_all[0]),
        canary_bad=_floats(canary_bad),
        stable=float(stable_all[0]),
        stable_bad=_floats(stable_bad),
    )


def _unless_nought(values: Counts) -> tuple[float, ...]:
    return _floats(values) if values.any() else ()


def _wide(kept: tuple[float, ...], boundaries: int, points: int) -> Counts:
    return np.asarray(kept).reshape(2, boundaries, points) if kept else np.zeros((2, boundaries, points))


def _floats(values: Counts) -> tuple[float, ...]:
    return tuple(np.round(values, _DECIMALS).ravel().tolist())
