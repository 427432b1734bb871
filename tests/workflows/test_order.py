"""The whole way: a first try of `mesh.apply` that wakes up when its successors' work is done, over a real ledger.

Temporal has long given the first try up; what it does then, only the mesh can refuse.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from temporalio import activity
from temporalio.testing import WorkflowEnvironment

from activities.contracts.operation import AcquireRequest, ApplyRequest, Ended, EndRequest
from autopilot.mesh.envoy.mesh_file import read_mesh
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.errors import StaleWrite
from autopilot.mesh.model import Lease, Receipt
from autopilot.operations.common import Outcome
from tests.mesh.conftest import MESH, REVIEWS
from tests.workflows.conftest import Lab, canary, effects_on, watches_on
from tests.workflows.fakes import ADVANCE, Hold, World

pytestmark = [pytest.mark.devserver, pytest.mark.timeout(120)]


@dataclass
class Real(World):
    """A standalone mesh's ledger; the first try of the first write stands still until it is woken."""

    ledger: Ledger = field(kw_only=True)
    wake: threading.Event = field(default_factory=threading.Event)
    tries: int = 0
    late: list[Exception] = field(default_factory=list)
    woken: threading.Event = field(default_factory=threading.Event)

    @activity.defn(name="mesh.acquire")
    async def acquire(self, request: AcquireRequest) -> Lease:
        asked = activity.info().scheduled_time.timestamp()
        return self.ledger.acquire(
            request.target,
            request.aspects,
            operation=request.operation,
            token=request.token,
            ttl=request.ttl,
            planned_end=request.planned_end,
            asked=asked,
        )

    @activity.defn(name="mesh.apply")
    async def apply(self, request: ApplyRequest) -> Receipt:
        self.tries += 1
        return await asyncio.to_thread(self._apply, request, still=self.tries == 1)

    def _apply(self, request: ApplyRequest, *, still: bool) -> Receipt:
        if not still:
            return self.ledger.apply(request.lease, request.changes, request.by)
        self.wake.wait(60)
        try:
            return self.ledger.apply(request.lease, request.changes, request.by)
        except StaleWrite as error:
            self.late.append(error)
            raise
        finally:
            self.woken.set()

    @activity.defn(name="mesh.commit")
    async def commit(self, request: EndRequest) -> Ended:
        return Ended(receipt=self.ledger.commit(request.lease, request.by), seconds=0)

    @activity.defn(name="mesh.lift")
    async def lift(self, request: EndRequest) -> Ended:
        return Ended(receipt=self.ledger.lift(request.lease, request.by), seconds=0)


async def test_a_first_try_that_wakes_up_late_does_not_undo_the_promotion(
    dev_server: WorkflowEnvironment, tmp_path: Path
) -> None:
    mesh_file = tmp_path / "mesh.yaml"
    mesh_file.write_text(MESH, encoding="utf-8")
    prepare(mesh_file)
    go_on = asyncio.Event()
    world = Real(script=[ADVANCE, Hold(until=go_on)], ledger=Ledger(Store(mesh_file)))
    async with effects_on(dev_server.client, world) as queue, watches_on(dev_server.client, world.watch):
        lab = Lab(dev_server.client, queue, world)
        handle = await lab.start(canary(steps=[{"weight": 10}, {"weight": 100}]))
        async with asyncio.timeout(60):  # the first try is given up after 20 s
            await world.watching.wait()
        assert world.ledger.weights(REVIEWS)["v2"] == 100
        world.wake.set()
        assert await asyncio.to_thread(world.woken.wait, 10)
        assert world.ledger.weights(REVIEWS)["v2"] == 100
        go_on.set()
        report = await asyncio.wait_for(handle.result(), 30)
    assert report.outcome is Outcome.PROMOTED
    assert len(world.late) == 1
    assert read_mesh(mesh_file).spec.services[0].weights == {"v1": 0, "v2": 100}
