"""Learns from Prometheus' history, before a rollout begins, how failures of the stable version cluster.

A help and no condition: where there is nothing to learn from, the rollout begins at once and its timeline says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from activities.disturbed import Span, undisturbed
from activities.signatures import Learned, LearnRequest
from activities.watching import subject_of
from autopilot.evidence import canary
from autopilot.evidence.setup import boundaries_of, judge_from
from autopilot.spec.units import format_seconds
from autopilot.telemetry.cost import scrape_cost
from autopilot.telemetry.difference import Differencer
from autopilot.telemetry.model import HistorySource, Observation, TelemetryError
from autopilot.telemetry.past import ticks

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
) -> Learned:
    """Learns within `PATIENCE`, or says why not.

    Args:
        source: knows what happened before.
        request: whose failures.
        interval: seconds between samples of what will be watched.
        disturbed: when experiments were laid: what failed then is not learned from.
    """
    if source is None:
        return Learned(note=f"{_NOTHING}this worker has no Prometheus (start it with --prometheus URL)")
    boundaries = boundaries_of(request.analysis)
    subject = subject_of(request.target, request.arms)
    try:
        async with asyncio.timeout(PATIENCE):
            looks = await source.history(subject, HISTORY, latency=bool(boundaries))
            return await asyncio.to_thread(_fold, request, boundaries, looks, interval(), disturbed)
    except TelemetryError as failure:
        return Learned(note=f"{_NOTHING}{failure}")
    except TimeoutError:
        return Learned(note=f"{_NOTHING}reading it took longer than {format_seconds(PATIENCE)}")


def _fold(
    request: LearnRequest,
    boundaries: tuple[float, ...],
    looks: Sequence[Observation],
    interval: float | None,
    disturbed: Sequence[Span],
) -> Learned:
    judge, arms = judge_from(request.analysis), request.arms
    found = [
        tick
        for run in undisturbed(looks, disturbed)
        for tick in ticks(Differencer(arms.canary, arms.stable, boundaries), run)
    ]
    seconds = sum(tick.seconds for tick in found if tick.stable.requests > 0)
    if not seconds:
        return Learned(note=f"{_NOTHING}Prometheus has counted no requests to {arms.stable}")
    state = canary.observe(judge, canary.start(judge), found)
    note = f"learned from the last {format_seconds(round(seconds))} of {arms.stable}: {canary.learned(judge, state)}"
    if interval and request.weight:
        rate = round(sum(tick.stable.requests for tick in found) / seconds, 1)
        note += f". {scrape_cost(interval, rate=rate, weight=request.weight)}"
    return Learned(state=state.model_dump_json(), note=note)
