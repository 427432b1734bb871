"""Every wait of the crash suite has a limit, and says what it waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class WaitedInVain(Exception):
    """Something did not happen in time; the message says what."""


async def until(
    condition: Callable[[], object | Awaitable[object]], what: str, *, limit: float, every: float = 0.02
) -> None:
    """Waits until the condition holds.

    Raises:
        WaitedInVain: it did not within `limit` seconds.
    """
    end = time.monotonic() + limit
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return
        if time.monotonic() > end:
            raise WaitedInVain(f"waited {limit:g} s for {what}")
        await asyncio.sleep(every)
