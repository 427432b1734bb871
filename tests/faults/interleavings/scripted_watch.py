"""A watch that finds what the test says, tick by tick; everything around it is the product's own."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Literal

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.contracts.operation import WatchBeat, WatchRequest, WatchResult
from autopilot.evidence.model import Advance, Harm, Inconclusive, Verdict
from autopilot.mesh.errors import LeaseLost
from autopilot.mesh_registry.meshes import Meshes
from autopilot.operations.canary_status import Progress
from autopilot.operations.common import Exposure
from autopilot.telemetry.model import Observation, Subject

Word = Literal["good", "harm", "silence"]
_TICK = 0.02
_ENOUGH = 2
"""Good ticks that a step needs."""


class Quiet:
    """A telemetry source where nothing was ever counted."""

    name = "nothing"

    async def observe(self, subjects: Sequence[Subject]) -> list[Observation]:
        return [Observation(subject=subject, time=0.0, samples=(), missing={}) for subject in subjects]

    async def close(self) -> None:
        """Nothing to let go of."""


class Script:
    """What is still to be found, by operation, and whether anyone is there to find it."""

    def __init__(self) -> None:
        self.words: defaultdict[str, deque[Word]] = defaultdict(deque)
        self.watching: defaultdict[str, int] = defaultdict(int)
        """Watches of the operation that are under way."""
        self.harmed: set[str] = set()
        """Operations whose watch has said harm, and was heard."""


class Scripted(Interceptor):
    """Given to a worker's client: its watches follow the script."""

    def __init__(self, script: Script, meshes: Meshes) -> None:
        self.script = script
        self.meshes = meshes

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Activity(next, self)


class _Activity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, owner: Scripted) -> None:  # noqa: A002
        super().__init__(next)
        self._owner = owner

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        if activity.info().activity_type != "telemetry.watch":
            return await super().execute_activity(input)
        request: WatchRequest = input.args[0]
        operation = request.lease.holder.operation
        self._owner.script.watching[operation] += 1
        try:
            return _result(await self._watch(request, operation), request)
        finally:
            self._owner.script.watching[operation] -= 1

    async def _watch(self, request: WatchRequest, operation: str) -> Verdict:
        script, mesh = self._owner.script, self._owner.meshes[request.target.mesh].mesh
        good = 0
        beat = WatchBeat(state=request.state, progress=Progress(time=0, weight=request.weight))
        try:
            while True:
                word = script.words[operation].popleft() if script.words[operation] else None
                if word == "harm":
                    harm = Harm(metric="errors", reason="the script says harm")
                    await mesh.condemn(request.lease, harm.reason)
                    # Only now: where the worker stops before, nobody has heard of it, and a real watch would find it
                    # again in the counters. A script's word is gone.
                    script.harmed.add(operation)
                    return harm
                if word == "silence" and not request.patient:
                    return Inconclusive(cause="noData", reason="the script says nothing")
                good += word == "good"
                try:
                    await mesh.renew(request.lease)
                except LeaseLost as error:
                    return Inconclusive(cause="leaseLost", reason=str(error))
                activity.heartbeat(beat)
                if good >= _ENOUGH and request.rule.limit is not None:
                    return Advance(reason="the script says so")
                await asyncio.sleep(_TICK)
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            if details is None or not details.cancel_requested:
                raise
            return Inconclusive(cause="stopped", reason="asked to stop")


def _result(verdict: Verdict, request: WatchRequest) -> WatchResult:
    progress = Progress(time=0, weight=request.weight, exposure=Exposure(requests=1, seconds=1))
    return WatchResult(verdict=verdict, state=request.state, progress=progress)
