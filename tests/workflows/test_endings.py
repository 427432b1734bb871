"""However an operation ends, whatever is ordered meanwhile: the base is restored once, and there is a report."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from autopilot.operations.common import Approval, Caller, Command, Outcome
from autopilot.operations.experiment_status import Verdict
from tests.drawn import examples
from tests.workflows import test_chaos
from tests.workflows.conftest import Handle, Lab, canary
from tests.workflows.fakes import ADVANCE, HARM, Hold

ANN = Caller(who="ann")
BASE = {"v1": 100.0}
PROMOTED = {"v1": 0.0, "v2": 100.0}
UNAVAILABLE = ApplicationError("the mesh does not answer", type="MeshUnavailable")
AGAIN_SOON = ApplicationError(
    "the mesh does not answer", type="MeshUnavailable", next_retry_delay=timedelta(milliseconds=20)
)
"""The same, for a test of many tries: the next comes at once, where the workflow would have it wait for seconds."""
_RUNS = itertools.count(1)


@pytest.fixture(params=[1000, 0], ids=["cached", "replayed-at-every-task"])
async def chaos(request: pytest.FixtureRequest, dev_server: WorkflowEnvironment) -> AsyncIterator[test_chaos.Lab]:
    async with test_chaos.lab_on(dev_server, cached=request.param) as made:
        yield made


async def closed(handle: Handle) -> WorkflowExecutionStatus:
    """How Temporal shows it, when it has ended."""
    with contextlib.suppress(WorkflowFailureError):
        async with asyncio.timeout(30):
            await handle.result()
    status = (await handle.describe()).status
    assert status is not None
    return status


async def test_a_canceled_rollout_leaves_its_report(lab: Lab) -> None:
    lab.world.script = [Hold()]
    handle = await lab.start(canary())
    await lab.watching()
    await handle.cancel()
    assert await closed(handle) is WorkflowExecutionStatus.CANCELED
    (report,) = lab.world.reports
    assert (report.outcome, report.restore_seconds is not None) == (Outcome.ABORTED, True)
    assert report.reason.startswith("cancelled: ")
    assert report.steps[0].exposure.requests == 5, "what the watch had seen is in it"
    assert lab.world.at_rest


async def test_a_cancel_while_it_restores_changes_nothing(lab: Lab) -> None:
    lab.world.script, lab.world.lift_takes = [HARM], 0.5
    handle = await lab.start(canary())
    async with asyncio.timeout(30):
        await lab.world.lifted.wait()
    await handle.cancel()
    assert await closed(handle) is WorkflowExecutionStatus.COMPLETED
    (report,) = lab.world.reports
    assert (report.outcome, report.reason) == (Outcome.ROLLED_BACK, HARM.reason)
    assert lab.world.lifted_by == ["workflow"]


async def test_an_experiment_canceled_while_it_restores_still_puts_its_actions_back(chaos: test_chaos.Lab) -> None:
    world = chaos.world
    world.holds, world.lift_takes = ["held", "stopped"], 0.5
    action = {"type": "scale", "workload": "deployment/ratings", "replicas": 0}
    handle = await chaos.start(
        test_chaos.experiment({"actions": [action], "faults": [test_chaos.ABORT], "hold": 600}, safety={})
    )
    await chaos.held()
    await handle.signal("abort", Command(caller=ANN, reason="enough"))
    async with asyncio.timeout(30):
        await world.lifting.wait()
    await handle.cancel()
    report = await asyncio.wait_for(handle.result(), 30)
    assert (report.verdict, report.reason) == (Verdict.ABORTED, "enough")
    assert "undo scale" in world.done
    assert world.reports == [report]
    assert world.done.index("restore") < world.done.index("undo scale")


@pytest.mark.devserver
@pytest.mark.parametrize("cached", [1000, 0], ids=["cached", "replayed-at-every-task"])
async def test_a_cancel_ends_what_is_checked_after_the_restore(dev_server: WorkflowEnvironment, cached: int) -> None:
    async with test_chaos.lab_on(dev_server, cached=cached) as chaos:
        chaos.world.checks_forever = True
        handle = await chaos.start(test_chaos.experiment(settle="0s"))
        async with asyncio.timeout(30):
            while "check after" not in chaos.world.done:
                await asyncio.sleep(0.02)
        await handle.cancel()
        report = await asyncio.wait_for(handle.result(), 30)
    assert report.outcome is Outcome.PASSED
    assert any("nothing more is checked" in event.text for event in report.timeline)


async def test_a_cancel_while_committing_waits_for_the_commit(lab: Lab) -> None:
    lab.world.fail_commit = [UNAVAILABLE] * 3
    handle = await lab.start(canary())
    await lab.phase(handle, "Committing")
    await handle.cancel()
    assert await closed(handle) is WorkflowExecutionStatus.COMPLETED
    assert lab.world.base == PROMOTED
    assert [report.outcome for report in lab.world.reports] == [Outcome.PROMOTED]


async def test_a_cancel_while_committing_shifts_nothing_when_the_lease_was_lost(lab: Lab) -> None:
    lost = ApplicationError("somebody else holds it", type="LeaseLost", non_retryable=True)
    lab.world.fail_commit = [UNAVAILABLE] * 3 + [lost]
    handle = await lab.start(canary())
    await lab.phase(handle, "Committing")
    await handle.cancel()
    assert await closed(handle) is WorkflowExecutionStatus.CANCELED
    assert lab.world.walked == [10, 50, 100], "no shift after the cancel"
    assert lab.world.base == BASE
    assert lab.world.at_rest
    assert [report.outcome for report in lab.world.reports] == [Outcome.ABORTED]


async def test_an_approval_that_comes_with_an_abort_says_nothing_of_going_on(lab: Lab) -> None:
    lab.world.script = [ADVANCE, Hold()]
    lab.world.lift_takes = 0.5
    handle = await lab.start(canary(steps=[{"weight": 10, "pause": True}, {"weight": 100}]))
    await lab.phase(handle, "WaitingForApproval")
    await lab.watching()
    await handle.signal("approve", Approval(caller=ANN))
    await handle.signal("abort", Command(caller=ANN, reason="enough"))
    report = await handle.result()
    assert report.outcome is Outcome.ABORTED
    told = [event.text for event in report.timeline]
    assert "continues" not in told[told.index("restoring: enough") :]


async def test_a_deadline_that_passes_while_committing_counts_when_the_commit_is_refused(lab: Lab) -> None:
    halted = ApplicationError("halted by ann", type="Halted", non_retryable=True)
    later = ApplicationError("the mesh does not answer", type="MeshUnavailable", next_retry_delay=timedelta(seconds=7))
    lab.world.fail_commit = [later, halted]
    report = await lab.run(canary(deadline="6s"))  # so long that a busy machine has begun to commit by then
    assert report.outcome is Outcome.INCONCLUSIVE
    assert "deadline" in report.reason
    assert not lab.world.fail_commit, "it began to commit before the deadline"
    assert lab.world.at_rest
    assert lab.world.base == BASE


async def test_a_pause_that_comes_while_committing_is_refused(lab: Lab) -> None:
    lab.world.fail_commit = [UNAVAILABLE] * 3
    handle = await lab.start(canary())
    await lab.phase(handle, "Committing")
    await handle.signal("pause", Command(caller=ANN))
    report = await handle.result()
    assert "ignored: pause by signal: too late to pause: the rollout is being committed" in [
        event.text for event in report.timeline
    ]
    assert not any(event.text == "paused" for event in report.timeline)


async def test_a_restore_that_a_worker_gives_up_is_tried_again(lab: Lab) -> None:
    unknown = ApplicationError("this worker drives no mesh 'local'", type="InvalidChange", non_retryable=True)
    lab.world.script, lab.world.fail_lift = [HARM], [unknown, unknown]
    report = await lab.run(canary())
    assert report.outcome is Outcome.ROLLED_BACK
    assert lab.world.at_rest


async def test_a_mesh_that_is_away_for_as_long_as_temporal_may_be_is_waited_for(lab: Lab) -> None:
    lab.world.fail_apply = [AGAIN_SOON] * 24
    assert (await lab.run(canary())).outcome is Outcome.PROMOTED


async def test_the_status_says_that_the_canary_gets_nothing_after_a_rollback(lab: Lab) -> None:
    lab.world.script = [ADVANCE, HARM]
    handle = await lab.start(canary())
    await handle.result()
    assert (await handle.query("status"))["weight"] == 0


ORDERS = ("cancel", "abort", "pause", "resume")


@pytest.mark.devserver
@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(st.sampled_from([ADVANCE, HARM, "hold"]), max_size=3),
    orders=st.lists(
        st.tuples(st.sampled_from(ORDERS), st.sampled_from([0.0, 0.01, 0.05, 0.2])), min_size=1, max_size=4
    ),
    troubled=st.integers(0, 2),
)
async def test_whatever_is_ordered_there_is_one_report_and_the_mesh_is_whole(
    real_lab: Lab, script: list[object], orders: list[tuple[str, float]], troubled: int
) -> None:
    lab, world = real_lab, real_lab.world
    world.reset()
    world.script = [Hold() if one == "hold" else one for one in script]  # type: ignore[misc]
    world.fail_commit, world.lift_takes, world.apply_takes = [UNAVAILABLE] * troubled, 0.05, 0.02
    handle = await lab.start(canary())
    for order, pause in [*orders, ("abort", 0.0)]:
        await asyncio.sleep(pause)
        with contextlib.suppress(RPCError):  # it has ended already
            await (handle.cancel() if order == "cancel" else handle.signal(order, Command(caller=ANN)))
    await closed(handle)
    (report,) = world.reports
    assert world.at_rest
    assert world.base == (PROMOTED if report.outcome is Outcome.PROMOTED else BASE)
