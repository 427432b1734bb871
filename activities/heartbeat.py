"""Heartbeats during an effect, so that Temporal starts it elsewhere soon after this worker dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from temporalio import activity

_BEAT = 0.5
"""Seconds."""


@contextlib.asynccontextmanager
async def heartbeating() -> AsyncIterator[None]:
    """Heartbeats for as long as the context lasts."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(_BEAT)

    task = asyncio.create_task(beat(), name="heartbeat of an effect")
    try:
        yield
    finally:
        task.cancel()
