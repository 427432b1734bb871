"""Checks whether Temporal answers and whether workflows run: an activity gets no other notice when they do not.

All of it is asked in tasks of its own: whoever wants to know reads what was found last, and waits for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import structlog
from temporalio.client import Client

from activities.server_answers import Answer, TemporalState, ask
from activities.workflow_checks import WorkflowCheck, WorkflowChecks
from autopilot.observability.metrics import TEMPORAL_SILENT

_log = structlog.get_logger()


class TemporalHealth:
    """Remembers when Temporal last answered. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answered = clock()
        self._state: TemporalState = "answers"
        self._client: Client | None = None
        self._checks = WorkflowChecks(clock)

    @property
    def silent(self) -> float:
        """Seconds since Temporal last answered."""
        return self._clock() - self._answered

    @property
    def state(self) -> TemporalState:
        """How Temporal's server took the last question."""
        return self._state

    def beat(self) -> None:
        """Temporal answered just now."""
        self._answered = self._clock()

    @contextlib.asynccontextmanager
    async def following(self, client: Client, every: float = 2.0) -> AsyncIterator[None]:
        """Asks the server for its health every `every` seconds while the context lasts."""

        def health() -> Awaitable[bool]:
            return client.service_client.check_health(timeout=timedelta(seconds=every))

        self._client = client
        task = asyncio.create_task(self._follow(health, every), name="health of Temporal")
        try:
            yield
        finally:
            self._client = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._checks.close()

    def workflow(self, workflow_id: str) -> WorkflowCheck:
        """What the last look at a workflow found; a look is started in the background where one is due.

        While Temporal does not answer no look is started.
        """
        return self._checks.of(workflow_id, self._client if self._state == "answers" else None)

    def parked(self, workflow_id: str) -> float:
        """Seconds for which a workflow has been failing or not polled; 0.0 while it runs, or where that is unknown."""
        return self.workflow(workflow_id).seconds

    async def settle(self) -> None:
        """Waits for the looks at workflows that are under way."""
        await self._checks.settle()

    async def _follow(self, health: Callable[[], Awaitable[bool]], every: float) -> None:
        while True:
            self._take(await ask(health(), every + 0.5))
            TEMPORAL_SILENT.set(self.silent)
            await asyncio.sleep(every)

    def _take(self, answer: Answer[bool]) -> None:
        state, error = answer.state, answer.error
        if answer.value is False:  # a server that says that it does not serve
            state, error = "refused", "the server reports that it does not serve"
        if state == "answers":
            self.beat()
        if state != self._state:
            if state == "answers":
                _log.info("Temporal answers again")
            else:
                _log.warning("Temporal does not answer", state=state, error=error, silent=round(self.silent, 1))
        self._state = state
