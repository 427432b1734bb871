"""Runs rollouts against an in-memory world, on whichever server the test asks for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.last_heartbeat import HeartbeatActivities
from autopilot.operations.common import Command
from autopilot.operations.task_queues import restore_queue, watch_queue
from autopilot.reports.canary import CanaryInput, CanaryReport
from autopilot.spec.canary import CanarySpec
from tests.workflows.fakes import World
from worker.plugin import all_workflows
from workflows.canary.workflow import CanaryWorkflow

_NUMBERS = itertools.count(1)

Handle = WorkflowHandle[CanaryWorkflow, CanaryReport]


def canary(steps: list[dict[str, Any]] | None = None, **spec: Any) -> CanaryInput:
    """A rollout of reviews v2, by default at 10, 50 and 100 %."""
    written = {
        "target": {"service": "reviews"},
        "arms": {"stable": "v1", "canary": "v2"},
        "steps": steps or [{"weight": 10}, {"weight": 50}, {"weight": 100}],
        **spec,
    }
    return CanaryInput(
        mesh="local", namespace="shop", name=f"reviews-{next(_NUMBERS)}", spec=CanarySpec.model_validate(written)
    )


@dataclass
class Lab:
    """A server, a worker, and the world it acts on."""

    client: Client
    queue: str
    world: World = field(default_factory=World)
    started: list[Handle] = field(default_factory=list)

    async def start(self, spec: CanaryInput) -> Handle:
        handle = await self.client.start_workflow(CanaryWorkflow.run, spec, id=spec.workflow_id, task_queue=self.queue)
        self.started.append(handle)
        return handle

    async def end_all(self) -> None:
        """Ends what a test left running, and names it."""
        for handle in self.started:
            if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
                events = [event.WhichOneof("attributes") for event in (await handle.fetch_history()).events]
                print(f"{handle.id} was left running, its last events are {events[-12:]}")
                await handle.terminate()

    async def run(self, spec: CanaryInput) -> CanaryReport:
        handle = await self.start(spec)
        try:
            async with asyncio.timeout(50):
                return await handle.result()
        except TimeoutError:
            events = [event.WhichOneof("attributes") for event in (await handle.fetch_history()).events]
            pytest.fail(f"waited 50 s for {handle.id} to end; its last events: {events[-15:]}")

    async def watching(self) -> None:
        """Waits until a watch holds."""
        async with asyncio.timeout(30):
            await self.world.watching.wait()

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(30):
                while not condition():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"waited 30 s for {what}")

    async def phase(self, handle: Handle, *wanted: str) -> None:
        """Waits until the rollout says it is in one of the phases."""
        seen = ""
        try:
            async with asyncio.timeout(30):
                while seen not in wanted:
                    seen = (await handle.query(CanaryWorkflow.status)).phase.value
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"waited 30 s for {wanted}, it is {seen}")

    async def tell(self, handle: Handle, verb: str, command: Command) -> str:
        return await handle.execute_update(verb, command, result_type=str)


async def guards_of(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """Workflow ids of the guards that one run has started."""
    return [
        event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id
        for event in (await handle.fetch_history()).events
        if event.HasField("child_workflow_execution_started_event_attributes")
    ]


@contextlib.asynccontextmanager
async def effects_on(
    client: Client, world: World, *, cached: int = 1000, queue: str = "", slots: int = 100
) -> AsyncIterator[str]:
    """Workflows and short effects, on a queue of their own unless it is named; gives its name."""
    queue = queue or f"workflows-{next(_NUMBERS)}"
    worker = Worker(
        client,
        task_queue=queue,
        workflows=all_workflows(),
        activities=[
            world.acquire,
            world.apply,
            world.commit,
            world.held,
            world.count,
            world.learn,
            world.archive,
            HeartbeatActivities(client).last,
        ],
        max_cached_workflows=cached,
        max_concurrent_activities=slots,
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    )
    async with worker, restores_on(client, world.lift):
        yield queue


def restores_on(client: Client, lift: Callable[..., Any]) -> Worker:
    """A worker of restores, for the mesh that all these operations have."""
    return Worker(client, task_queue=restore_queue("local"), activities=[lift])


def watches_on(client: Client, *activities: Callable[..., Any]) -> Worker:
    """A worker of long watches whose heartbeats leave at once."""
    soon = timedelta(milliseconds=50)
    return Worker(
        client,
        task_queue=watch_queue("local"),
        activities=activities,
        max_heartbeat_throttle_interval=soon,
        default_heartbeat_throttle_interval=soon,
    )


@contextlib.asynccontextmanager
async def lab_on(
    environment: WorkflowEnvironment, *, cached: int, world: World | None = None, slots: int = 100
) -> AsyncIterator[Lab]:
    """`world`: another than an empty one; `slots`: how many short effects the worker takes at a time."""
    world = world or World()
    watches = watches_on(environment.client, world.watch)
    async with effects_on(environment.client, world, cached=cached, slots=slots) as queue, watches:
        made = Lab(environment.client, queue, world)
        try:
            yield made
        finally:
            await made.end_all()


@pytest.fixture(params=[1000, 0], ids=["cached", "replayed-at-every-task"])
async def lab(request: pytest.FixtureRequest, dev_server: WorkflowEnvironment) -> AsyncIterator[Lab]:
    """On the dev server; once with the workflow cached, once replayed from nothing at every task."""
    async with lab_on(dev_server, cached=request.param) as made:
        yield made


@pytest.fixture
async def real_lab(dev_server: WorkflowEnvironment) -> AsyncIterator[Lab]:
    """On the dev server."""
    async with lab_on(dev_server, cached=1000) as made:
        yield made
