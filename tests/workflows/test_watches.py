"""A watch that cannot answer any more: what people say is heard all the same, and what it had found is kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from temporalio import activity
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.contracts.operation import WatchBeat, WatchRequest, WatchResult
from autopilot.operations.canary_status import Progress
from autopilot.operations.common import Approval, Caller, Command, Exposure, Outcome
from starter.client.operations import progress
from tests.workflows import test_chaos
from tests.workflows.conftest import Handle, Lab, canary, effects_on, watches_on
from tests.workflows.fakes import ADVANCE, Hold, World

pytestmark = pytest.mark.devserver
ANN = Caller(who="ann")
GATED = [{"weight": 10, "pause": True}, {"weight": 100}]


@dataclass
class Dying(World):
    """Its second watch heartbeats once and is as good as killed then."""

    died: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn(name="telemetry.watch")
    async def watch(self, request: WatchRequest) -> WatchResult:
        if len(self.watched) != 1:
            return await super().watch(request)
        self.watched.append(request)
        found = Progress(time=0, weight=request.weight, exposure=Exposure(requests=70, failures=7))
        activity.heartbeat(WatchBeat(state="much evidence", progress=found))
        self.died.set()
        while not self.over.is_set():  # no heartbeat, no answer, and no ear for a cancel
            try:
                await asyncio.wait_for(self.over.wait(), 30)
            except asyncio.CancelledError:
                continue
        raise RuntimeError("gone")


async def gone(worker: Worker, world: Dying) -> None:
    world.over.set()
    await worker.shutdown()


async def test_an_approval_while_the_watcher_is_dead_goes_on_with_what_it_had_found(
    dev_server: WorkflowEnvironment,
) -> None:
    world = Dying(script=[ADVANCE])
    spec = canary(steps=GATED).model_copy(update={"heartbeat_timeout": 2.0})
    worker = watches_on(dev_server.client, world.watch)
    async with effects_on(dev_server.client, world) as queue, worker:
        lab = Lab(dev_server.client, queue, world)
        handle = await lab.start(spec)
        await asyncio.wait_for(world.died.wait(), 30)
        await lab.tell(handle, "approve", Approval(caller=ANN))
        report = await asyncio.wait_for(handle.result(), 60)
        world.over.set()
    assert report.outcome is Outcome.PROMOTED
    assert world.walked == [10, 100]
    assert world.watched[2].state == "much evidence"
    assert report.steps[0].exposure == Exposure(requests=75, failures=8, seconds=1)


async def heard(lab: Lab, handle: Handle) -> None:
    """Waits until the server has a heartbeat of the watch."""
    async with asyncio.timeout(30):
        while await progress(lab.client, handle.id) is None:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", ["approve", "abort"])
async def test_a_watch_stopped_between_two_workers_keeps_what_it_had_found(
    dev_server: WorkflowEnvironment, how: str
) -> None:
    world = World(script=[ADVANCE, Hold()])
    async with effects_on(dev_server.client, world) as queue:
        lab = Lab(dev_server.client, queue, world)
        async with watches_on(dev_server.client, world.watch):
            handle = await lab.start(canary(steps=GATED))
            await lab.phase(handle, "WaitingForApproval")
            await lab.watching()
            await heard(lab, handle)
        if how == "abort":
            await lab.tell(handle, "abort", Command(caller=ANN))
        else:
            await lab.tell(handle, "approve", Approval(caller=ANN))
        async with watches_on(dev_server.client, world.watch):
            report = await asyncio.wait_for(handle.result(), 30)
    assert report.steps[0].exposure == Exposure(requests=10, failures=2, seconds=2)
    if how == "approve":
        assert report.outcome is Outcome.PROMOTED
        assert world.watched[-1].state == "held", "harm evidence of the stopped watch goes on"


async def test_a_pause_of_an_experiment_that_ends_between_two_workers_keeps_what_was_met(
    dev_server: WorkflowEnvironment,
) -> None:
    async with test_chaos.lab_on(dev_server, cached=1000, watching=False) as lab:
        lab.world.holds = ["held", "stopped"]
        lab.world.told = 40.0
        async with watches_on(dev_server.client, lab.world.steady, lab.world.hold):
            handle = await lab.start(test_chaos.experiment())
            await handle.signal("pause", Command(caller=ANN))
            await lab.held()
            async with asyncio.timeout(30):
                while await progress(lab.client, handle.id) is None:
                    await asyncio.sleep(0.02)
        await handle.execute_update("resume", Command(caller=ANN), result_type=str)
        async with watches_on(dev_server.client, lab.world.steady, lab.world.hold):
            report = await asyncio.wait_for(handle.result(), 30)
    assert report.outcome is Outcome.PASSED
    assert report.exposure.requests == 50
