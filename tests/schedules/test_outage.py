"""Temporal is killed, and comes back: one run is caught up with, where Temporal's own defaults begin all of them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.schedules.activities import ScheduleActivities
from autopilot.local.ports import allocate
from autopilot.local.temporal import command
from autopilot.mesh_registry.meshes import Meshes
from autopilot.operations.task_queues import operation_queue
from autopilot.reports.experiment import ExperimentInput
from starter.client import schedules, start_schedule
from tests.conftest import binary
from tests.schedules.conftest import experiment
from worker.plugin import AutopilotPlugin
from workflows.chaos.scheduled_run import ScheduledRun

pytestmark = [pytest.mark.devserver, pytest.mark.timeout(180)]

EVERY = timedelta(seconds=1)
CATCH_UP = 10.0
"""The least that Temporal takes."""
AWAY = 14.0
"""Longer than what is caught up with."""


@workflow.defn(name="Chaos", sandboxed=False)
class ShortChaos:
    """Over at once."""

    @workflow.run
    async def run(self, wanted: ExperimentInput) -> str:
        return wanted.name


class Server:
    """A dev server that keeps what it knows in a file, and can be killed."""

    def __init__(self, folder: Path) -> None:
        ports = allocate(["temporal", "ui"])
        self.address = f"127.0.0.1:{ports['temporal']}"
        database = folder / "temporal.db"
        self._words = command(Path(binary("temporal")), database=database, port=ports["temporal"], ui_port=ports["ui"])
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Client:
        self._process = await asyncio.create_subprocess_exec(
            *self._words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(RuntimeError, RPCError):
                    client = await Client.connect(self.address, plugins=[AutopilotPlugin()])
                    _ = [each async for each in client.list_workflows(limit=1)]
                    return client
                await asyncio.sleep(0.1)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await asyncio.wait_for(self._process.wait(), 10)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path)
    yield made
    await made.kill()


@contextlib.asynccontextmanager
async def working(client: Client, folder: Path) -> AsyncIterator[None]:
    """A worker as ours, without a mesh."""
    activities = ScheduleActivities(client, Meshes(), folder)
    async with Worker(
        client,
        task_queue=operation_queue("local"),
        workflows=[ScheduledRun, ShortChaos],
        activities=[activities.ask, activities.start, activities.archive],
    ):
        yield


async def every_second(handle: ScheduleHandle) -> None:
    """Its policies as we wrote them, with times that a test can wait for: a cron knows no seconds."""

    def often(found: ScheduleUpdateInput) -> ScheduleUpdate:
        spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=EVERY)])
        return ScheduleUpdate(dataclasses.replace(found.description.schedule, spec=spec))

    await handle.update(often)


async def made_as_others_do(client: Client) -> ScheduleHandle:
    """The control: Temporal's own catch-up of a year, and every run for itself."""
    return await client.create_schedule(
        "control",
        Schedule(
            action=ScheduleActionStartWorkflow("Nothing", id="nothing", task_queue="nobody"),
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=EVERY)]),
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL),
        ),
    )


async def until_begun(handle: ScheduleHandle, count: int) -> ScheduleDescription:
    async with asyncio.timeout(60):
        while True:
            found = await handle.describe()
            if found.info.num_actions >= count:
                return found
            await asyncio.sleep(0.05)


async def test_an_outage_of_temporal_is_no_storm(server: Server, tmp_path: Path) -> None:
    wanted = experiment(cron="* * * * *", catchUp=CATCH_UP)
    client = await server.start()
    ours = client.get_schedule_handle(await start_schedule.put(client, wanted))
    await every_second(ours)
    control = await made_as_others_do(client)
    async with working(client, tmp_path):
        await until_begun(ours, 2)
    storm_before = (await until_begun(control, 2)).info.num_actions
    gone = time.time()
    await server.kill()
    await asyncio.sleep(AWAY)  # the outage itself
    client = await server.start()
    back = time.time()
    control, ours = client.get_schedule_handle("control"), client.get_schedule_handle(ours.id)
    async with working(client, tmp_path):
        storm = await until_begun(control, storm_before + int(AWAY))
        async with asyncio.timeout(60):
            while True:
                records = await schedules.runs(client, ours.id, limit=100)
                if sum(each.scheduled > back and each.decision == "started" for each in records) >= 2:
                    break
                await asyncio.sleep(0.1)
        info = (await ours.describe()).info
    # The control began whatever was due while nobody was there.
    assert storm.info.num_actions_missed_catchup_window == 0
    # Of ours one began that was due meanwhile, though ten seconds are caught up with; the rest is counted, and not run.
    late = [each for each in records if gone + 1 < each.scheduled < back - 1]
    assert len(late) <= 1, [each.reason for each in late]
    assert info.num_actions_missed_catchup_window >= AWAY - CATCH_UP - 1
    assert info.num_actions_missed_catchup_window + info.num_actions_skipped_overlap >= AWAY - 3
