"""A rollout that is paused for a month: its history stays far from what Temporal terminates a workflow for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from temporalio import activity
from temporalio.testing import WorkflowEnvironment

from activities.contracts.operation import WatchBeat, WatchRequest, WatchResult
from autopilot.evidence.model import Inconclusive
from autopilot.operations.common import Caller, Command, Outcome, Promotion
from autopilot.spec.canary import Analysis
from starter.client.operations import progress
from tests.activities.hours import Hour
from tests.activities.test_long_watches import HARM_ALONE
from tests.activities.test_watch import request
from tests.workflows.conftest import Lab, canary, effects_on, watches_on
from tests.workflows.fakes import ADVANCE, World

pytestmark = pytest.mark.devserver
ANN = Caller(who="ann")
DAYS = 30
LARGEST = 5_000_000
"""Bytes of a history; Temporal ends a workflow at ten times as many."""
STOPPED = Inconclusive(cause="stopped", reason="the watch was asked to stop")


@dataclass
class Real(World):
    """Its watches answer what the real one answers after an hour, or whenever they are stopped."""

    hour: WatchResult = field(kw_only=True)
    stepping: asyncio.Event = field(default_factory=asyncio.Event)
    """A step is being watched..."""
    good: asyncio.Event = field(default_factory=asyncio.Event)
    """...and may advance."""
    hours: int = 0
    resumed: int = 0
    """Watches that went on from a heartbeat on another worker."""

    @activity.defn(name="telemetry.watch")
    async def watch(self, request: WatchRequest) -> WatchResult:
        bare = self.hour.model_copy(update={"ticks": "", "full": False})
        if request.rule.limit is not None:
            self.stepping.set()
            await asyncio.wait_for(self.good.wait(), 30)
            return bare.model_copy(update={"verdict": ADVANCE, "ticks": self.hour.ticks if request.record else ""})
        if request.record:
            self.hours += 1
            return self.hour
        self.resumed += bool(activity.info().heartbeat_details)
        self.watching.set()
        try:
            while True:
                activity.heartbeat(WatchBeat(state=bare.state, progress=bare.progress))
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            if details is None or not details.cancel_requested:
                raise
            return bare.model_copy(update={"verdict": STOPPED})
        finally:
            self.watching.clear()


def an_hour() -> WatchResult:
    """What the real watch answers when its record is full."""
    hour = Hour(request(rule=HARM_ALONE, patient=True, analysis=Analysis()), boundaries=5)
    hour.fold(3600, judged=300)
    return hour.watching.result(STOPPED)


async def test_a_month_of_pauses_is_a_short_history(dev_server: WorkflowEnvironment) -> None:
    """Each day somebody resumes the rollout and pauses it in the next step, and the watching worker is replaced."""
    hour = an_hour()
    assert hour.full
    world, client = Real(hour=hour), dev_server.client
    steps = [{"weight": number} for number in range(1, DAYS + 1)]
    async with effects_on(client, world) as queue:
        lab = Lab(client, queue, world)
        handle = await lab.start(canary(steps=steps, deadline="40d"))
        for day in range(1, DAYS + 1):
            async with watches_on(client, world.watch):
                if day > 1:
                    await lab.watching()  # on this worker, from the heartbeat
                    await lab.tell(handle, "resume", Command(caller=ANN, reason="seen nothing"))
                await asyncio.wait_for(world.stepping.wait(), 30)
                world.stepping.clear()
                await lab.tell(handle, "pause", Command(caller=ANN, reason="over night"))
                world.good.set()
                await lab.watching()
                world.good.clear()
                async with asyncio.timeout(30):
                    while await progress(client, handle.id) is None:
                        await asyncio.sleep(0.02)
        async with watches_on(client, world.watch):
            promotion = Promotion(caller=ANN, full=True, reason="a month is enough")
            await lab.tell(handle, "promote", promotion)
            report = await asyncio.wait_for(handle.result(), 30)
    assert report.outcome is Outcome.PROMOTED
    assert world.resumed >= DAYS - 1
    history = await handle.fetch_history()
    size = sum(len(event.SerializeToString()) for event in history.events)
    print(
        f"\n{DAYS} days paused: {size:,} bytes in {len(history.events)} events; one watch's state {len(hour.state):,}, "
        f"its ticks {len(hour.ticks):,} characters; {world.hours} watches were recorded"
    )
    assert size < LARGEST
