"""A run that begins by a reset has a guard of its own, and guards that are needed no longer end by themselves."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError

from autopilot.operations.common import Caller, Command, Outcome
from tests.workflows.conftest import Handle, Lab, canary, guards_of
from tests.workflows.fakes import Hold
from workflows.canary.workflow import CanaryWorkflow

pytestmark = pytest.mark.devserver


async def resettable(handle: Handle) -> list[int]:
    """The events to which the server resets: the ends of workflow tasks."""
    return [
        event.event_id
        for event in (await handle.fetch_history()).events
        if event.HasField("workflow_task_completed_event_attributes")
    ]


async def reset(lab: Lab, handle: Handle, event: int) -> None:
    await lab.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=lab.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.first_execution_run_id),
            workflow_task_finish_event_id=event,
            request_id=f"reset to {event}",
            reason="test",
        )
    )


async def test_whatever_a_run_is_reset_to_it_is_restored_when_it_is_terminated(real_lab: Lab) -> None:
    count, number = 1, 0
    while number < count:
        real_lab.world.reset()
        real_lab.world.script = [Hold(), Hold(), Hold()]
        handle = await real_lab.start(canary())
        await real_lab.watching()
        events = await resettable(handle)
        count = len(events)
        await reset(real_lab, handle, events[number])
        again = real_lab.client.get_workflow_handle_for(CanaryWorkflow.run, handle.id)
        async with asyncio.timeout(30):
            while len(real_lab.world.watched) < 2 or not await guards_of(again):
                await asyncio.sleep(0.02)
        guards = await guards_of(again)
        await again.terminate("by hand")
        await real_lab.until(lambda: real_lab.world.at_rest, f"the guard to restore after a reset to {events[number]}")
        assert real_lab.world.lifted_by == ["guard-workflow"]
        assert real_lab.world.base == {"v1": 100.0}
        assert guards, "the run has started one"
        number += 1
    assert count >= 4


async def test_aborted_as_it_begins_by_a_reset_a_run_restores_what_the_run_before_it_held(
    real_lab: Lab,
) -> None:
    real_lab.world.script = [Hold()]
    real_lab.world.fail_lift = [ApplicationError("the proxies are away", next_retry_delay=timedelta(minutes=5))]
    handle = await real_lab.start(canary())
    await real_lab.watching()
    assert not real_lab.world.at_rest
    (first, *_) = await resettable(handle)
    await handle.signal("abort", Command(caller=Caller(who="ann@example.org")))
    await real_lab.until(lambda: not real_lab.world.fail_lift, "the restore of the run before to fail")
    await reset(real_lab, handle, first)  # the server carries the signal over: it is heard before anything is acquired
    report = await real_lab.client.get_workflow_handle_for(CanaryWorkflow.run, handle.id).result()
    assert report.outcome is Outcome.ABORTED
    assert real_lab.world.at_rest
    assert real_lab.world.base == {"v1": 100.0}


async def test_a_guard_whose_lease_is_gone_ends_by_itself(real_lab: Lab) -> None:
    real_lab.world.script = [Hold()]
    spec = canary().model_copy(update={"ttl": 1.0})
    handle = await real_lab.start(spec)
    await real_lab.watching()
    (guard_id,) = await guards_of(handle)
    real_lab.world.overlay = real_lab.world.lease = None  # somebody lifted it
    guard = real_lab.client.get_workflow_handle(guard_id)
    assert await asyncio.wait_for(guard.result(), 30) == "gone"
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    await handle.terminate()
