"""Whether Temporal still answers: an activity is never told when its server dies, and would renew a lease for ever."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError


class Pulse:
    """Remembers when Temporal last answered. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answered = clock()

    @property
    def silent(self) -> float:
        """Seconds since Temporal last answered."""
        return self._clock() - self._answered

    def beat(self) -> None:
        """Temporal answered just now."""
        self._answered = self._clock()

    @contextlib.asynccontextmanager
    async def following(self, client: Client, every: float = 2.0) -> AsyncIterator[None]:
        """Asks the server for its health every `every` seconds while the context lasts."""

        async def ask() -> bool:
            return await client.service_client.check_health(timeout=timedelta(seconds=every))

        task = asyncio.create_task(self._follow(ask, every), name="pulse of Temporal")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, ask: Callable[[], Awaitable[bool]], every: float) -> None:
        while True:
            with contextlib.suppress(RPCError):
                if await ask():
                    self.beat()
            await asyncio.sleep(every)
