"""Total exposure of users to one arm: counted once before a rollout and once after it.

A request that hangs is no failure in any counter yet, but its user is already waiting in vain. So the count waits a
little for what is open to be answered, and takes what then still is for failed.

A Prometheus' newest sample is as old as its scrape interval. Counted from such a one, a rollout would answer for what
its canary did before it: so the count before a rollout waits for samples that are younger than its beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from autopilot.telemetry.model import SeriesSample, Subject, TelemetrySource

PATIENCE = 2.5
"""Seconds that open requests have to be answered in."""
PROMPTNESS = 35.0
"""Seconds that a count waits for fresh samples: a scrape interval of half a minute, and what a late scrape takes."""
_PAUSE, _LEAST = 0.25, 1.0


async def tally(
    source: TelemetrySource,
    subject: Subject,
    arm: str,
    *,
    patience: float = PATIENCE,
    since: float | None = None,
    promptness: float = PROMPTNESS,
) -> dict[str, tuple[float, float]]:
    """Totals of one arm since its counters began: series → (requests given, failures), user view.

    Args:
        source: where counters come from.
        subject: whose arm it is.
        arm: the arm that is counted.
        patience: seconds that open requests are given to be answered in.
        since: seconds since the epoch; samples taken earlier are waited out, for at most `promptness` seconds.
        promptness: see `since`; what is still old then is counted as it is (its proxy may have gone).

    Open at the end of `patience` is failed, but for streams (their answer has begun). Callers who left before do not
    count as failures: nobody can tell how long they had waited. Returns at once where nothing is open.

    Raises:
        TelemetryError: the source did not answer.
    """
    clock = asyncio.get_running_loop().time
    if since is not None:
        await _fresh(source, subject, arm, since, clock() + promptness)
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


async def _fresh(source: TelemetrySource, subject: Subject, arm: str, since: float, until: float) -> None:
    """Waits until each sample of the arm was taken after `since`, no longer than `until` (the loop's clock)."""
    while asyncio.get_running_loop().time() < until:
        (observation,) = await source.observe([subject])
        if all(sample.time - sample.took >= since for sample in observation.samples if sample.arm == arm):
            return
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
