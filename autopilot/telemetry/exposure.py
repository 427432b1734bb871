"""What users met of one arm, all told: counted once before a rollout and once after it.

A request that hangs is no failure in any counter yet, but its user is already waiting in vain. So the count waits a
little for what is open to be answered, and takes what then still is for failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from autopilot.telemetry.model import SeriesSample, Subject, TelemetrySource

PATIENCE = 2.5
"""Seconds that open requests have to be answered in."""
_PAUSE, _LEAST = 0.25, 1.0


async def tally(
    source: TelemetrySource, subject: Subject, arm: str, *, patience: float = PATIENCE
) -> dict[str, tuple[float, float]]:
    """Totals of one arm since its counters began: series → (requests given, failures), user view.

    Open at the end of `patience` is failed, but for streams (their answer has begun). Callers who left before do not
    count as failures: nobody can tell how long they had waited. Returns at once where nothing is open.

    Raises:
        TelemetryError: the source did not answer.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + patience
    first: dict[str, SeriesSample] = {}
    while True:
        (observation,) = await source.observe([subject])
        now = {sample.series: sample for sample in observation.samples if sample.arm == arm}
        first = {series: first.get(series, sample) for series, sample in now.items()}
        waiting = {series: _open_since(first[series], sample) for series, sample in now.items()}
        if not any(waiting.values()) or clock() >= until:
            return {series: (sample.given, sample.user.errors + _hung(first, sample)) for series, sample in now.items()}
        await asyncio.sleep(_PAUSE)


def _open_since(before: SeriesSample, now: SeriesSample) -> float:
    """At least so many requests were open before and are open now, without a first word of an answer."""
    if before.begun is None or now.begun is None:
        return 0.0
    younger = max(0.0, now.begun - before.begun)
    return max(0.0, min(now.active - younger, now.given - now.user.requests))


def _hung(first: Mapping[str, SeriesSample], now: SeriesSample) -> float:
    """The same, where the two looks are far enough apart to mean something (a Prometheus may repeat itself)."""
    before = first[now.series]
    return _open_since(before, now) if now.time - before.time >= _LEAST else 0.0
