"""Real Schedules on the dev server, with a clock of our own for whoever decides, and experiments that are played."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from temporalio import workflow
from temporalio.client import Client, Schedule, ScheduleBackfill, WorkflowExecutionStatus
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.schedules.activities import ScheduleActivities
from activities.schedules.temporal_schedules import change
from autopilot.mesh.port import Mesh
from autopilot.mesh_registry.meshes import AttachedMesh, Meshes
from autopilot.operations.common import Command
from autopilot.operations.task_queues import operation_queue, watch_queue
from autopilot.reports.experiment import ExperimentInput
from autopilot.reports.schedule import RunRecord, ScheduledInput
from autopilot.spec.chaos.experiment import ExperimentSpec
from autopilot.spec.chaos.limits import Ceilings
from starter.client import schedules, start_schedule
from workflows.chaos.scheduled_run import ScheduledRun

_NUMBERS = itertools.count(1)


@workflow.defn(name="Chaos", sandboxed=False)
class PlayedChaos:
    """Ends when it is told to."""

    def __init__(self) -> None:
        self.told = ""

    @workflow.run
    async def run(self, wanted: ExperimentInput) -> str:
        await workflow.wait_condition(lambda: bool(self.told))
        return f"{wanted.schedule} {wanted.caller.who}: {self.told}"

    @workflow.signal(name="abort")
    def abort(self, command: Command) -> None:
        self.told = f"aborted by {command.caller.who}: {command.reason}"

    @workflow.signal(name="end")
    def end(self) -> None:
        self.told = "over"


class PlayedMesh:
    """Says what stands against a start."""

    def __init__(self) -> None:
        self.refusal = ""
        self.ceilings = Ceilings()

    async def refused(self, target: object, operation: str) -> str:
        return self.refusal

    async def leases(self) -> list[Any]:
        return []


def experiment(*, name: str = "", deadline: float = 600.0, **schedule: Any) -> ExperimentInput:
    """An experiment with a schedule, by default at ten o'clock in Berlin on every working day."""
    written = {
        "target": {"service": "reviews"},
        "hypothesis": {"probes": [{"type": "http", "name": "shop", "url": "http://shop/"}]},
        "method": [
            {"hold": "1s", "faults": [{"fault": {"type": "delay", "delay": "100ms"}, "scope": {"percentage": 5}}]}
        ],
        "settle": "0s",
        "deadline": deadline,
        "schedule": {"cron": "0 10 * * mon-fri", "timeZone": "Europe/Berlin", **schedule},
    }
    return ExperimentInput(
        mesh="local",
        namespace="shop",
        name=name or f"slow-{next(_NUMBERS)}",
        spec=ExperimentSpec.model_validate(written),
    )


def at(text: str) -> datetime:
    """`2020-03-02 10:00` in UTC."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


class Stage:
    """A server, its workers, the clock of whoever decides, and a mesh."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self.folder = folder / "schedules"
        self.mesh = PlayedMesh()
        self.now: datetime | None = None
        """None: the clock goes."""
        meshes = Meshes({"local": AttachedMesh(mesh=cast("Mesh", self.mesh), proxies=None)})
        self.activities = ScheduleActivities(client, meshes, folder, self.clock)

    def clock(self) -> float:
        return (self.now or datetime.now(UTC)).timestamp()

    async def put(self, wanted: ExperimentInput, since: datetime | None = None) -> str:
        """Makes the schedule, and lets it end long ago, so that the real clock of the server starts nothing meanwhile.

        `since` is when it was made by the test's own clock.
        """
        made = await start_schedule.put(self.client, wanted)

        def end(there: Schedule, given: ScheduledInput) -> tuple[Schedule, ScheduledInput]:
            there.spec.end_at = at("2022-01-01 00:00")
            return there, given if since is None else given.model_copy(update={"since": since.timestamp()})

        await change(self.client, self.client.get_schedule_handle(made), end)
        return made

    async def due(self, schedule: str, when: datetime, *, late: float = 0.0) -> str:
        """Lets the server start the run of one cron time; whoever decides sees it so many seconds later."""
        self.now = when + timedelta(seconds=late)
        handle = self.client.get_schedule_handle(schedule)
        jitter = (await handle.describe()).schedule.spec.jitter or timedelta(0)
        begin, end = when - timedelta(seconds=30), when + jitter + timedelta(seconds=1)
        await handle.backfill(ScheduleBackfill(start_at=begin, end_at=end))
        return f"{schedule}/run-{when:%Y-%m-%dT%H:%M:%SZ}"

    async def record(self, run: str) -> RunRecord:
        """What the run came to, as its result."""
        await self.until_there(run)
        return await asyncio.wait_for(self.client.get_workflow_handle_for(ScheduledRun.run, run).result(), 30)

    async def decided(self, schedule: str, when: datetime, *, late: float = 0.0) -> RunRecord:
        return await self.record(await self.due(schedule, when, late=late))

    async def waiting(self, run: str) -> RunRecord:
        """What the run says once it waits."""
        await self.until_there(run)
        handle = self.client.get_workflow_handle_for(ScheduledRun.run, run)
        async with asyncio.timeout(30):
            while True:
                said = await handle.query(ScheduledRun.record)
                if "waiting for" in said.reason or "aborting it" in said.reason or said.decision != "waiting":
                    return said
                await asyncio.sleep(0.02)

    async def until_there(self, run: str) -> None:
        async with asyncio.timeout(30):
            while not await self.exists(run):
                await asyncio.sleep(0.02)

    async def exists(self, workflow_id: str) -> bool:
        try:
            await self.client.get_workflow_handle(workflow_id).describe()
        except RPCError:
            return False
        return True

    async def end(self, wanted: ExperimentInput) -> str:
        """Ends the played experiment, and gives what it said."""
        handle = self.client.get_workflow_handle_for(PlayedChaos.run, wanted.workflow_id)
        if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
            await handle.signal(PlayedChaos.end)
        return cast("str", await asyncio.wait_for(handle.result(), 30))

    async def runs_of(self, wanted: ExperimentInput) -> int:
        """How many experiments ran, or run."""
        query = f"WorkflowId = '{wanted.workflow_id}'"
        return len([each async for each in self.client.list_workflows(query)])


@contextlib.asynccontextmanager
async def stage_on(client: Client, folder: Path) -> AsyncIterator[Stage]:
    """Everything but real experiments; schedules that a test leaves are deleted."""
    stage = Stage(client, folder)
    activities = stage.activities
    effects = Worker(
        client,
        task_queue=operation_queue("local"),
        workflows=[ScheduledRun, PlayedChaos],
        activities=[activities.ask, activities.start, activities.archive, activities.pause_after],
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    )
    soon = timedelta(milliseconds=50)
    watches = Worker(
        client,
        task_queue=watch_queue("local"),
        activities=[activities.wait],
        max_heartbeat_throttle_interval=soon,
        default_heartbeat_throttle_interval=soon,
    )
    async with effects, watches:
        yield stage
        for row in await schedules.list_schedules(client):
            await schedules.delete(client, row.id)
        async for each in client.list_workflows("ExecutionStatus = 'Running' AND WorkflowType = 'Chaos'"):
            await client.get_workflow_handle(each.id).terminate()


@pytest.fixture
async def stage(dev_server: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[Stage]:
    """The same, for a test."""
    async with stage_on(dev_server.client, tmp_path) as made:
        yield made
