"""A restore waits for nothing that other operations do, and one that takes long is not started twice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
from temporalio import activity
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from activities.contracts.operation import RESTORE_HEARTBEAT, AcquireRequest, CountRequest, Totals
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.leases.unreadable import Unreadable
from autopilot.mesh.model import Aspect, Holder, Lease, LeaseStatus, Receipt, Target
from autopilot.mesh_registry.meshes import AttachedMesh, Meshes
from autopilot.operations.common import Caller, Command, Outcome
from autopilot.operations.task_queues import operation_queue
from tests.workflows.conftest import canary, lab_on
from tests.workflows.fakes import Hold, World
from worker.main import working
from workflows.operation.guard import GuardInput, GuardWorkflow

pytestmark = pytest.mark.devserver
SLOTS = 20
"""Short effects that the worker takes at a time."""
SLOW = 20.0
"""Seconds that a count waits for a scrape."""


@dataclass
class Waiting(World):
    """Whoever counts from some time on waits for a scrape; the first rollout's target stays its own."""

    slow: bool = False
    counting: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn(name="mesh.acquire")
    async def acquire(self, request: AcquireRequest) -> Lease:
        first = self.lease
        lease = await super().acquire(request)
        self.lease = first or lease
        return lease

    @activity.defn(name="telemetry.count")
    async def count(self, request: CountRequest) -> Totals:
        if self.slow and request.fresh:
            self.counting += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), SLOW)
            self.counting -= 1
        return Totals(time=0, series={})


async def test_an_abort_restores_at_once_while_every_slot_is_taken(dev_server: WorkflowEnvironment) -> None:
    world = Waiting(script=[Hold()])
    async with lab_on(dev_server, cached=1000, world=world, slots=SLOTS) as lab:
        handle = await lab.start(canary())
        await lab.watching()
        world.slow = True
        others = await asyncio.gather(*(lab.start(canary()) for _ in range(SLOTS + 5)))
        await lab.until(lambda: world.counting >= SLOTS, "every slot to be taken")
        began = time.monotonic()
        await handle.signal("abort", Command(caller=Caller(who="ann"), reason="harm"))
        await asyncio.wait_for(world.lifted.wait(), 50)
        waited, counting = time.monotonic() - began, world.counting
        await asyncio.gather(*(one.terminate() for one in others))
        world.over.set()
        report = await asyncio.wait_for(handle.result(), 30)
    assert waited < SLOW / 4
    assert counting >= SLOTS, "the slots were taken until then"
    assert (report.outcome, report.reason) == (Outcome.ABORTED, "harm")


TARGET = Target(mesh="slots", namespace="shop", service="reviews")


@dataclass
class SlowMesh:
    """A mesh whose restore takes a while."""

    name: str = TARGET.mesh
    lifts: int = 0

    async def lift(self, lease: Lease, by: Actor) -> Receipt:
        self.lifts += 1
        await asyncio.sleep(3 * RESTORE_HEARTBEAT)
        return Receipt(target=lease.target, holder=lease.holder, digest="d")

    async def verify(self, receipt: Receipt) -> None:
        assert receipt.target == TARGET

    async def leases(self) -> list[LeaseStatus]:
        return []

    async def unreadable(self) -> list[Unreadable]:
        return []


async def test_a_restore_that_takes_long_is_not_started_twice(dev_server: WorkflowEnvironment, tmp_path: Path) -> None:
    """Its heartbeats leave as they come: held back by the SDK, most of the time-out would be over already."""
    mesh, client = SlowMesh(), dev_server.client
    meshes = Meshes({mesh.name: AttachedMesh(mesh=mesh, proxies=None)})  # type: ignore[arg-type]
    holder = Holder(operation="canary/slots/shop/reviews", fencing=1)
    lease = Lease(target=TARGET, aspects=(Aspect.TRAFFIC,), holder=holder, ttl=120, max_unattended=120)
    async with working(client, meshes, reports=tmp_path):
        queue = operation_queue(mesh.name)
        guard = await client.start_workflow(
            GuardWorkflow.run, GuardInput(lease=lease), id="guard/slots", task_queue=queue
        )
        await guard.cancel()
        heard: list[float] = []
        while (described := await guard.describe()).status is WorkflowExecutionStatus.RUNNING:
            for pending in described.raw_description.pending_activities:
                beat = pending.last_heartbeat_time.ToMilliseconds() / 1000
                if pending.activity_type.name == "mesh.lift" and beat and beat not in heard:
                    heard.append(beat)
            await asyncio.sleep(0.05)
    assert mesh.lifts == 1
    assert median(after - before for before, after in pairwise(heard)) < RESTORE_HEARTBEAT / 2
