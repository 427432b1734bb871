"""Learns, before a rollout begins, how failures of the stable version cluster, and how long its requests take.

Both from Prometheus' history; how long requests take also from what the proxies have counted since they began. A help
and no condition: where there is nothing to learn from, the rollout begins at once and its timeline says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from activities.canary.analysis_run import subject_of
from activities.canary.exclusion_windows import Span, undisturbed
from activities.contracts.operation import Learned, LearnRequest
from autopilot.evidence import canary
from autopilot.evidence.configuration import UNKNOWN, boundaries_of, judge_from, open_boundaries, with_boundaries
from autopilot.spec.values.units import format_seconds
from autopilot.telemetry import quantiles
from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.model import HistorySource, Observation, TelemetryError, TelemetrySource
from autopilot.telemetry.prometheus.history import ticks
from autopilot.telemetry.scrape_cost import scrape_cost

HISTORY = 1800.0
"""Length of the history that is learned from, in seconds before the rollout."""

PATIENCE = 5.0
"""Seconds that a rollout waits for the history."""

_NOTHING = "nothing was learned from the time before the rollout: "


async def learn(
    source: HistorySource | None,
    request: LearnRequest,
    interval: Callable[[], float | None] = lambda: None,
    disturbed: Sequence[Span] = (),
    now: TelemetrySource | None = None,
) -> Learned:
    """Learns within `PATIENCE`, or says why not.

    Args:
        source: knows what happened before.
        request: whose failures.
        interval: seconds between samples of what will be watched.
        disturbed: when experiments were laid: what failed then is not learned from.
        now: what will be watched. Its histograms tell how long requests took where no history does.
    """
    looks: Sequence[Observation] = ()
    why = ""
    if source is None:
        why = "this worker has no Prometheus (start it with --prometheus URL)"
    else:
        subject = subject_of(request.target, request.arms)
        try:
            async with asyncio.timeout(PATIENCE):
                looks = await source.history(subject, HISTORY, latency=bool(boundaries_of(request.analysis)))
        except TelemetryError as failure:
            why = str(failure)
        except TimeoutError:
            why = f"reading it took longer than {format_seconds(PATIENCE)}"
    boundaries = await _boundaries(request, looks, now) if open_boundaries(request.analysis) else ()
    analysis = with_boundaries(request.analysis, boundaries or UNKNOWN)
    told = _told(request, boundaries)
    if analysis.dispersion is not None:
        return Learned(boundaries=boundaries, note=told)
    request = request.model_copy(update={"analysis": analysis})
    found = None if why else await asyncio.to_thread(_fold, request, looks, interval(), disturbed)
    if found is None:
        why = why or f"Prometheus has counted no requests to {request.arms.stable}"
        found = Learned(note=f"{_NOTHING}{why}")
    return found.model_copy(update={"boundaries": boundaries, "note": f"{found.note}; {told}" if told else found.note})


async def _boundaries(
    request: LearnRequest, looks: Sequence[Observation], now: TelemetrySource | None
) -> tuple[float, ...]:
    """The boundaries that stable's latency asks for; none where nothing is known of it."""
    arm = request.arms.stable
    if found := quantiles.lately(looks, arm).boundaries():
        return found
    if now is None:
        return ()
    try:
        async with asyncio.timeout(PATIENCE):
            (look,) = await now.observe([subject_of(request.target, request.arms)])
    except (TelemetryError, TimeoutError):
        return ()
    return quantiles.ever(look, arm).boundaries()


def _told(request: LearnRequest, boundaries: tuple[float, ...]) -> str:
    """At which boundaries latency is compared and why; empty where the spec names them."""
    if not open_boundaries(request.analysis):
        return ""
    where = ", ".join(format_seconds(bound) for bound in boundaries or UNKNOWN)
    why = "the quantiles 50, 90, 99 and 99.9 % of its own" if boundaries else "for nothing is known of it"
    return f"latency of {request.arms.stable} is compared at {where}, {why}"


def _fold(
    request: LearnRequest, looks: Sequence[Observation], interval: float | None, disturbed: Sequence[Span]
) -> Learned | None:
    """What the looks tell of stable's clusters; None where it had no requests."""
    judge, arms = judge_from(request.analysis), request.arms
    boundaries = boundaries_of(request.analysis)
    found = [
        tick
        for run in undisturbed(looks, disturbed)
        for tick in ticks(Differencer(arms.canary, arms.stable, boundaries), run)
    ]
    seconds = sum(tick.seconds for tick in found if tick.stable.requests > 0)
    if not seconds:
        return None
    state = canary.observe(judge, canary.start(judge), found)
    note = f"learned from the last {format_seconds(round(seconds))} of {arms.stable}: {canary.learned(judge, state)}"
    if interval and request.weight:
        rate = round(sum(tick.stable.requests for tick in found) / seconds, 1)
        note += f". {scrape_cost(interval, rate=rate, weight=request.weight)}"
    return Learned(state=state.model_dump_json(), note=note)
