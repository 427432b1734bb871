"""What needs the real server: termination, reset, worker loss, search attributes, history size, the replay corpus."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowFailureError, WorkflowHistory
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer

from autopilot.operations.common import Caller, Command, Outcome, Promotion
from starter.client.operations import KIND, OUTCOME, PHASE, list_operations, progress
from starter.client.start import OperationRunning, start_operation
from tests.workflows.conftest import Lab, canary, effects_on, guards_of, watches_on
from tests.workflows.fakes import ADVANCE, HARM, Hold, World
from worker.plugin import AutopilotPlugin, all_workflows
from workflows.canary.workflow import CanaryWorkflow

pytestmark = pytest.mark.devserver
ANN = Caller(who="ann")


async def replays(history: WorkflowHistory) -> None:
    await Replayer(workflows=all_workflows(), plugins=[AutopilotPlugin()]).replay_workflow(history)


async def test_a_terminated_rollout_is_restored_by_its_guard(real_lab: Lab) -> None:
    real_lab.world.script = [Hold()]
    handle = await real_lab.start(canary())
    await real_lab.watching()
    await handle.terminate("somebody did it by hand")
    await real_lab.until(lambda: real_lab.world.at_rest, "the guard to restore")
    assert real_lab.world.lifted_by == ["guard-workflow"]
    assert real_lab.world.base == {"v1": 100.0}


async def test_a_finished_rollout_disarms_its_guard(real_lab: Lab) -> None:
    handle = await real_lab.start(canary())
    await handle.result()
    (guard_id,) = await guards_of(handle)
    guard = real_lab.client.get_workflow_handle(guard_id)
    assert await guard.result() == "disarmed"
    assert real_lab.world.lifted_by == []


async def test_an_execution_timeout_is_restored_too(real_lab: Lab) -> None:
    real_lab.world.script = [Hold()]
    spec = canary()
    handle = await real_lab.client.start_workflow(
        CanaryWorkflow.run,
        spec,
        id=spec.workflow_id,
        task_queue=real_lab.queue,
        execution_timeout=timedelta(seconds=2),
    )
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    await real_lab.until(lambda: real_lab.world.at_rest, "the guard to restore")


async def test_a_reset_rollout_keeps_its_lease_and_adopts_its_guard(real_lab: Lab) -> None:
    real_lab.world.script = [Hold()]
    spec = canary()
    handle = await real_lab.start(spec)
    await real_lab.watching()
    history = await handle.fetch_history()
    applied = next(
        event.event_id
        for event in history.events
        if event.activity_task_scheduled_event_attributes.activity_type.name == "mesh.apply"
    )
    task = max(
        event.event_id
        for event in history.events
        if event.event_id < applied and event.HasField("workflow_task_completed_event_attributes")
    )
    await real_lab.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=real_lab.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=spec.workflow_id, run_id=handle.first_execution_run_id),
            workflow_task_finish_event_id=task,
            request_id="reset",
            reason="test",
        )
    )
    again = real_lab.client.get_workflow_handle_for(CanaryWorkflow.run, spec.workflow_id)
    report = await again.result()
    assert report.outcome is Outcome.PROMOTED
    assert real_lab.world.fencing == 1
    assert real_lab.world.base == {"v1": 0.0, "v2": 100.0}


async def test_rollouts_are_found_by_their_attributes(real_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starter.client.start.operation_queue", lambda _mesh: real_lab.queue)
    real_lab.world.script = [HARM]
    spec = canary()
    handle = await start_operation(real_lab.client, spec)
    await handle.result()
    attributes = (await handle.describe()).typed_search_attributes
    assert (attributes[KIND], attributes[PHASE], attributes[OUTCOME]) == ("MeshCanary", "Ended", "RolledBack")

    async def listed() -> None:
        while True:
            rows = {row.workflow_id: row for row in await list_operations(real_lab.client, running_only=False)}
            if rows.get(spec.workflow_id) and rows[spec.workflow_id].outcome == "RolledBack":
                return
            await asyncio.sleep(0.05)

    await asyncio.wait_for(listed(), 30)


async def test_a_second_rollout_of_the_same_name_names_the_first(
    real_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("starter.client.start.operation_queue", lambda _mesh: real_lab.queue)
    real_lab.world.script = [Hold()]
    spec = canary()
    handle = await start_operation(real_lab.client, spec)
    await real_lab.watching()
    with pytest.raises(OperationRunning, match=spec.workflow_id):
        await start_operation(real_lab.client, spec)
    await handle.execute_update("abort", Command(caller=ANN), result_type=str)


async def test_a_watch_that_no_worker_has_taken_on_can_be_stopped(dev_server: WorkflowEnvironment) -> None:
    world, spec = World(), canary(steps=[{"weight": 10}, {"weight": 100}])
    async with effects_on(dev_server.client, world) as queue:
        handle = await dev_server.client.start_workflow(CanaryWorkflow.run, spec, id=spec.workflow_id, task_queue=queue)
        async with asyncio.timeout(30):
            while world.walked != [10]:
                await asyncio.sleep(0.02)
        promotion = Promotion(caller=ANN, full=True, reason="hotfix")
        await handle.execute_update("promote", promotion, result_type=str)
        assert (await handle.result()).outcome is Outcome.PROMOTED


async def test_ten_steps_stay_under_300_events_and_replay(real_lab: Lab) -> None:
    spec = canary(steps=[{"weight": 10 * number} for number in range(1, 11)])
    handle = await real_lab.start(spec)
    assert (await handle.result()).outcome is Outcome.PROMOTED
    history = await handle.fetch_history()
    assert len(history.events) < 300
    await replays(history)
    (guard_id,) = await guards_of(handle)
    guard = real_lab.client.get_workflow_handle(guard_id)
    await guard.result()
    await replays(await guard.fetch_history())


async def test_another_worker_goes_on_from_the_last_heartbeat(dev_server: WorkflowEnvironment) -> None:
    """Stopping the worker that watches is no verdict: the watch is tried again where a worker is left."""
    world = World(script=[Hold(), ADVANCE])
    spec = canary(steps=[{"weight": 100}])
    async with effects_on(dev_server.client, world) as queue:
        async with watches_on(dev_server.client, world.watch):
            handle = await dev_server.client.start_workflow(
                CanaryWorkflow.run, spec, id=spec.workflow_id, task_queue=queue
            )
            async with asyncio.timeout(30):
                await world.watching.wait()
                while await progress(dev_server.client, spec.workflow_id) is None:
                    await asyncio.sleep(0.02)
        assert world.watched[-1].step == 1
        async with watches_on(dev_server.client, world.watch):
            assert (await handle.result()).outcome is Outcome.PROMOTED
    assert len(world.watched) == 2
    assert world.resumed_from[-1] is not None
    assert world.resumed_from[-1].state == "held"
