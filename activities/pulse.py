"""Checks whether Temporal answers and whether workflows run: an activity gets no other notice when they do not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError

_LOOK = 15.0
_FORGET = 600.0
_ATTEMPTS = 3
"""Failed attempts of one workflow task from which the failure counts as lasting, not as a worker restart."""


class Pulse:
    """Remembers when Temporal last answered. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answered = clock()
        self._client: Client | None = None
        self._parked: dict[str, tuple[float, float]] = {}
        """Workflow id → when it was looked at, and for how long it had been parked then."""

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

        self._client = client
        task = asyncio.create_task(self._follow(ask, every), name="pulse of Temporal")
        try:
            yield
        finally:
            self._client = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def parked(self, workflow_id: str) -> float:
        """Seconds for which the workflow's own code has been failing; 0.0 while it runs, or where that is unknown.

        Temporal is asked at most every fifteen seconds a workflow.
        """
        if self._client is None:
            return 0.0
        looked, seconds = self._parked.get(workflow_id, (-_LOOK, 0.0))
        if self._clock() - looked < _LOOK:
            return seconds
        try:
            description = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=timedelta(seconds=2))
        except RPCError:
            return seconds
        pending = description.raw_description.pending_workflow_task
        failing = pending.attempt >= _ATTEMPTS
        seconds = max(0.0, time.time() - pending.original_scheduled_time.ToSeconds()) if failing else 0.0
        self._parked = {key: seen for key, seen in self._parked.items() if self._clock() - seen[0] < _FORGET}
        self._parked[workflow_id] = (self._clock(), seconds)
        return seconds

    async def _follow(self, ask: Callable[[], Awaitable[bool]], every: float) -> None:
        while True:
            with contextlib.suppress(RPCError):
                if await ask():
                    self.beat()
            await asyncio.sleep(every)
