"""What is known before a rollout begins: how the failures of the stable version cluster, from what Prometheus has kept.

A help and no condition: where there is nothing to learn from, the rollout begins at once and its timeline says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from activities.signatures import Learned, LearnRequest
from activities.watching import subject_of
from autopilot.evidence import canary
from autopilot.evidence.model import Judge
from autopilot.evidence.setup import boundaries_of, judge_from
from autopilot.spec.canary import CanaryArms
from autopilot.spec.units import format_seconds
from autopilot.telemetry.difference import Differencer
from autopilot.telemetry.model import HistorySource, Observation, TelemetryError
from autopilot.telemetry.past import ticks

HISTORY = 1800.0
"""Seconds before the rollout that are learned from."""

PATIENCE = 5.0
"""Seconds that a rollout waits for it."""

_NOTHING = "nothing was learned from before the rollout: "


async def learn(source: HistorySource | None, request: LearnRequest) -> Learned:
    """Learns within `PATIENCE`, or says why not."""
    if source is None:
        return Learned(note=f"{_NOTHING}this worker knows no Prometheus")
    boundaries = boundaries_of(request.analysis)
    subject = subject_of(request.target, request.arms)
    try:
        async with asyncio.timeout(PATIENCE):
            looks = await source.history(subject, HISTORY, latency=bool(boundaries))
            return await asyncio.to_thread(_fold, judge_from(request.analysis), request.arms, boundaries, looks)
    except TelemetryError as failure:
        return Learned(note=f"{_NOTHING}{failure}")
    except TimeoutError:
        return Learned(note=f"{_NOTHING}reading it took longer than {format_seconds(PATIENCE)}")


def _fold(judge: Judge, arms: CanaryArms, boundaries: tuple[float, ...], looks: Sequence[Observation]) -> Learned:
    found = list(ticks(Differencer(arms.canary, arms.stable, boundaries), looks))
    seconds = sum(tick.seconds for tick in found if tick.stable.requests > 0)
    if not seconds:
        return Learned(note=f"{_NOTHING}Prometheus has no requests to {arms.stable}")
    state = canary.observe(judge, canary.start(judge), found)
    note = f"learned from {format_seconds(round(seconds))} of {arms.stable} before: {canary.learned(judge, state)}"
    return Learned(state=state.model_dump_json(), note=note)
