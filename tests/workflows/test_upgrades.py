"""What another version left to this one: heartbeats that it cannot read, and operations that it began."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from temporalio import activity
from temporalio.testing import WorkflowEnvironment

from activities.contracts.operation import WatchRequest, WatchResult
from autopilot.operations.common import Caller, Command, Outcome
from tests.workflows.conftest import Handle, Lab, canary, effects_on, watches_on
from tests.workflows.fakes import World

pytestmark = pytest.mark.devserver
ANN = Caller(who="ann")


@dataclass
class Foreign(World):
    """Its watches heartbeat what this version cannot read."""

    @activity.defn(name="telemetry.watch")
    async def watch(self, request: WatchRequest) -> WatchResult:
        self.watched.append(request)
        self.watching.set()
        while True:
            activity.heartbeat({"state": ["a list"], "progress": {"time": 1.0, "weight": "heavy"}})
            await asyncio.sleep(0.02)


async def told(handle: Handle) -> None:
    """Waits until the server has a heartbeat of the watch."""
    async with asyncio.timeout(30):
        while True:
            pending = (await handle.describe()).raw_description.pending_activities
            if any(one.heartbeat_details.payloads for one in pending):
                return
            await asyncio.sleep(0.02)


async def test_an_abort_while_nobody_watches_leaves_a_report_whatever_the_watch_told(
    dev_server: WorkflowEnvironment,
) -> None:
    world = Foreign()
    async with effects_on(dev_server.client, world) as queue:
        lab = Lab(dev_server.client, queue, world)
        async with watches_on(dev_server.client, world.watch):
            handle = await lab.start(canary())
            await lab.watching()
            await told(handle)
        await handle.signal("abort", Command(caller=ANN, reason="enough"))
        report = await asyncio.wait_for(handle.result(), 30)
    assert (report.outcome, report.reason) == (Outcome.ABORTED, "enough")
    assert world.reports == [report]
    assert world.at_rest
