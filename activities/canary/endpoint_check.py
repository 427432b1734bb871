"""Looks whether the canary still has a ready endpoint, beside the judge: requests that reach none count for no version.

A proxy that has no endpoint left answers by itself, and the metrics name no version for that answer. So the judge sees
only that the canary gets few requests, while a share of the users gets errors: the mesh is asked instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable

import structlog

from autopilot.mesh.errors import MeshError
from autopilot.mesh.model import Target
from autopilot.mesh.port import Mesh
from autopilot.spec.canary import CanaryArms

_log = structlog.get_logger()

_EVERY = 1.5
"""Seconds between two looks."""
_AGAIN = 1.0
"""Seconds from a look that found no endpoint to the next, which has to agree."""
_LIMIT = 20.0
"""Seconds after which a look without an answer is given up; its thread ends by itself."""
_LOOKS = 2
"""So many looks in succession must find no endpoint. A look without an answer is none."""


class EndpointCheck:
    """Watches over the endpoints of one rollout's canary.

    Args:
        mesh: keeps the endpoints.
        target: the service.
        arms: its canary, and stable, to which a roll-back returns the traffic.
        weight: of the canary, in percent.
        clock: monotonic seconds.
    """

    def __init__(
        self, mesh: Mesh, target: Target, arms: CanaryArms, weight: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._mesh = mesh
        self._target = target
        self._arms = arms
        self._weight = weight
        self._clock = clock
        self._began = clock()
        self._had: float | None = None
        """When a look began that found an endpoint last."""
        self._empty = 0
        self._unknown = False

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[asyncio.Task[str]]:
        """Looks in a task while the context lasts; it ends, with the reason, only where the canary has no endpoint."""
        task = asyncio.create_task(self._keep(), name=f"endpoints of {self._target} {self._arms.canary}")
        try:
            yield task
        finally:
            task.cancel()
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def _keep(self) -> str:
        if self._weight <= 0:  # it gets no request, so it may have as many endpoints as its owner likes
            await asyncio.Event().wait()
        while True:
            if reason := await self.look():
                return reason
            await asyncio.sleep(_AGAIN if self._empty else _EVERY)

    async def look(self) -> str:
        """One look. Returns why the canary must be rolled back; empty where it need not be, or nothing is known."""
        began = self._clock()
        canary, stable = self._arms.canary, self._arms.stable
        try:
            async with asyncio.timeout(_LIMIT):
                found = (await self._mesh.ready(self._target, (canary,))).get(canary)
                if found is None and self._had is not None:
                    found = 0  # its Service or subset was there before: it has been deleted
                if found == 0:
                    safe = (await self._mesh.ready(self._target, (stable,))).get(stable)
                    if safe == 0:
                        found = None  # the whole service is down: that is not the canary's doing, and no cure either
        except (MeshError, TimeoutError) as error:
            self._tell(error)
            return ""
        self._unknown = False
        if found is None:
            self._empty = 0
            return ""
        if found:
            self._had, self._empty = began, 0
            return ""
        self._empty += 1
        return self._reason() if self._empty >= _LOOKS else ""

    def _tell(self, error: Exception) -> None:
        """Logs the first of several looks without an answer."""
        if not self._unknown:
            _log.warning(
                "whether the canary has a ready endpoint is not known; the judge goes on, and the next look follows",
                target=str(self._target),
                canary=self._arms.canary,
                error=str(error) or f"no answer within {_LIMIT:g} s",
            )
        self._unknown = True

    def _reason(self) -> str:
        now = self._clock()
        if self._had is None:
            when = f"none was seen in the last {math.ceil(now - self._began)} s"
        else:
            when = f"its last went {math.ceil(now - self._had)} s ago"
        return f"{self._arms.canary} has no ready endpoint ({when}) while it is set to {self._weight:g} %"
