"""Each mesh has task queues of its own, and what an earlier version started goes on to its end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, ScheduleActionStartWorkflow, ScheduleHandle, WorkflowHandle, WorkflowHistory
from temporalio.testing import WorkflowEnvironment

from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.model import Aspect, Receipt, Target
from autopilot.mesh_registry.meshes import AttachedMesh, Meshes
from autopilot.operations.common import Approval, Caller, Outcome
from autopilot.operations.task_queues import EARLIER_QUEUE, EARLIER_WATCH_QUEUE, operation_queue, watch_queue
from autopilot.reports.canary import CanaryInput
from autopilot.reports.schedule import RunRecord, ScheduledInput
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import Observation, Subject
from starter.cli.commands import apply, doctor
from starter.client import start, start_schedule
from starter.client.operations import progress
from tests.mesh.conftest import MESH
from tests.schedules.conftest import experiment
from tests.telemetry.fakes import Script, ScriptedSource, counters, sample, seen
from tests.workflows.conftest import canary
from worker.main import working
from workflows.canary.workflow import CanaryWorkflow
from workflows.operation.guard import GuardInput, GuardWorkflow

pytestmark = pytest.mark.devserver
STEP = {"hold": 0.5, "minRequests": 1}
ANALYSIS = {"tick": 0.5, "warmup": 0, "metrics": [{"type": "errorRate"}], "detectAbsolute": 0.9, "dispersion": 1}


class Unproxied(EnvoyMesh):
    """A standalone mesh on disk, whose proxies are not asked."""

    async def verify(self, receipt: Receipt) -> None:
        """They are taken to have it."""


class Fleet:
    """Meshes by name, each in a folder, and workers that drive some of them."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self.folder = folder

    def file(self, name: str) -> Path:
        path = self.folder / name / "mesh.yaml"
        if not path.exists():
            path.parent.mkdir()
            path.write_text(MESH.replace("{name: local}", f"{{name: {name}}}"), encoding="utf-8")
            prepare(path)
        return path

    @contextlib.asynccontextmanager
    async def worker(self, *names: str) -> AsyncIterator[Meshes]:
        """A worker of this version for these meshes."""
        meshes = Meshes()
        for name in names:
            mesh = Unproxied(self.file(name))
            meshes.attached[name] = AttachedMesh(mesh=mesh, proxies=Hub(ScriptedSource(self._traffic(mesh))))
        async with working(self.client, meshes, reports=self.folder / "reports"):
            yield meshes
        await meshes.close()

    def _traffic(self, mesh: EnvoyMesh) -> Script:
        """100 requests a poll, shared as the weights say."""
        totals: Counter[str] = Counter()

        def script(_number: int, subject: Subject) -> Observation:
            target = Target(mesh=subject.mesh, namespace=subject.namespace, service=subject.service)
            now = time.time()
            totals.update(mesh.ledger.weights(target))
            return seen(now, *(sample(arm, now, counters(totals[arm])) for arm in subject.arms), subject=subject)

        return script


@pytest.fixture
def fleet(dev_server: WorkflowEnvironment, tmp_path: Path) -> Fleet:
    return Fleet(dev_server.client, tmp_path)


def rollout(mesh: str, *, pause: bool = False) -> CanaryInput:
    spec = canary(steps=[{"weight": 10, **STEP, "pause": pause}, {"weight": 100, **STEP}], analysis=ANALYSIS)
    return spec.model_copy(update={"mesh": mesh, "heartbeat_timeout": 3.0})


def watches(history: WorkflowHistory) -> list[str]:
    """Task queues of the watches, in their order."""
    scheduled = [event.activity_task_scheduled_event_attributes for event in history.events]
    return [each.task_queue.name for each in scheduled if each.activity_type.name == "telemetry.watch"]


def earlier_version(patch: pytest.MonkeyPatch) -> None:
    """Workflows schedule what they did before each mesh had queues."""
    patch.setattr("autopilot.operations.task_queues.watch_queue", lambda _mesh: EARLIER_WATCH_QUEUE)
    patch.setattr("autopilot.operations.task_queues.restore_queue", lambda _mesh: EARLIER_QUEUE)


async def test_a_rollout_that_an_earlier_version_started_goes_on_to_its_end(fleet: Fleet) -> None:
    spec = rollout("upgraded", pause=True)
    with pytest.MonkeyPatch.context() as patch:
        earlier_version(patch)
        async with fleet.worker("upgraded"):
            handle = await fleet.client.start_workflow(
                CanaryWorkflow.run, spec, id=spec.workflow_id, task_queue=EARLIER_QUEUE
            )
            async with asyncio.timeout(30):
                while (await handle.query(CanaryWorkflow.status)).phase.value != "WaitingForApproval":
                    await asyncio.sleep(0.05)
                while await progress(fleet.client, spec.workflow_id) is None:
                    await asyncio.sleep(0.05)
    before = watches(await handle.fetch_history())
    assert set(before) == {EARLIER_WATCH_QUEUE}
    async with fleet.worker("upgraded") as meshes:
        await handle.execute_update("approve", Approval(caller=Caller(who="ann")), result_type=str)
        report = await asyncio.wait_for(handle.result(), 40)
        assert await meshes["upgraded"].mesh.leases() == []
    assert report.outcome is Outcome.PROMOTED
    after = watches(await handle.fetch_history())[len(before) :]
    assert after
    assert set(after) == {watch_queue("upgraded")}


async def test_a_schedule_that_an_earlier_version_made_still_runs(fleet: Fleet) -> None:
    wanted = experiment(name="scheduled-earlier").model_copy(update={"mesh": "scheduled"})
    given = ScheduledInput(experiment=wanted, since=time.time())
    made = start_schedule._schedule(given)
    assert isinstance(made.action, ScheduleActionStartWorkflow)
    made = dataclasses.replace(made, action=dataclasses.replace(made.action, task_queue=EARLIER_QUEUE))
    schedule = await fleet.client.create_schedule(given.id, made)
    try:
        async with fleet.worker("scheduled"):
            await schedule.trigger()
            record = await asyncio.wait_for(_run_of(fleet.client, schedule), 30)
            assert record.decision == "started", record.reason
            run = fleet.client.get_workflow_handle(wanted.workflow_id, run_id=record.experiment_run)
            described = await run.describe()
            assert described.task_queue == operation_queue("scheduled")
            await asyncio.wait_for(run.result(), 30)
    finally:
        await schedule.delete()


async def _run_of(client: Client, schedule: ScheduleHandle) -> RunRecord:
    while not (actions := (await schedule.describe()).info.recent_actions):
        await asyncio.sleep(0.05)
    started = actions[-1].action
    return await client.get_workflow_handle(started.workflow_id, result_type=RunRecord).result()  # type: ignore[union-attr]


async def test_a_worker_takes_nothing_of_a_mesh_that_it_does_not_drive(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def connect() -> Client:
        return fleet.client

    monkeypatch.setattr("starter.client.operations.connect", connect)
    theirs = rollout("other")
    async with fleet.worker("ours"):
        handle = await start.start_operation(fleet.client, theirs)
        ours = await start.start_operation(fleet.client, rollout("ours"))
        report = await asyncio.wait_for(ours.result(), 40)
        assert report.outcome is Outcome.PROMOTED
        polled = await start.workers(fleet.client, "ours")
        assert all(polled.values()), polled
        assert set((await start.workers(fleet.client, "other")).values()) == {0}
        assert not [
            event
            for event in (await handle.fetch_history()).events
            if event.HasField("workflow_task_started_event_attributes")
        ], "nothing of it was taken"
        await apply._warn_of_no_worker(fleet.client, "other")
        assert "no worker that drives mesh other polls Temporal yet" in " ".join(capsys.readouterr().err.split())
        await apply._warn_of_no_worker(fleet.client, "ours")
        assert capsys.readouterr().err == ""
        found = await doctor.worker(fleet.file("other"))
        assert (found.ok, found.found) == (
            False,
            "no worker polls autopilot.other and autopilot-restore.other and autopilot-watch.other",
        )
        assert (await doctor.worker(fleet.file("ours"))).ok
    async with fleet.worker("other"):
        assert (await asyncio.wait_for(handle.result(), 40)).outcome is Outcome.PROMOTED


async def test_a_restore_that_reaches_a_worker_of_other_meshes_is_retried_until_one_knows_its_mesh(
    fleet: Fleet,
) -> None:
    target = Target(mesh="lost", namespace="shop", service="reviews")
    mesh = Unproxied(fleet.file("lost"))
    lease = await mesh.acquire(
        target, [Aspect.TRAFFIC], operation="canary/lost/shop/reviews", token="run", ttl=120, planned_end=None
    )
    with pytest.MonkeyPatch.context() as patch:
        earlier_version(patch)
        async with fleet.worker("found"):
            guard = await fleet.client.start_workflow(
                GuardWorkflow.run, GuardInput(lease=lease), id="guard/lost", task_queue=EARLIER_QUEUE
            )
            await guard.cancel()
            async with asyncio.timeout(30):
                while not (failure := await _failure(guard)):
                    await asyncio.sleep(0.05)
            assert "drives no mesh 'lost'" in failure
            assert len(await mesh.leases()) == 1
    async with fleet.worker("found", "lost"):
        assert await asyncio.wait_for(guard.result(), 30) == "restored"
    assert await mesh.leases() == []
    await mesh.close()


async def _failure(guard: WorkflowHandle[Any, Any]) -> str:
    """Why a restore's second attempt, or a later one, was not the last."""
    pending = (await guard.describe()).raw_description.pending_activities
    return next((each.last_failure.message for each in pending if each.attempt > 2), "")
