"""Making and triggering recurring operations: the part that needs workflow classes.

`starter.client.schedules` has what reads and commands schedules that are there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.schedules import temporal_schedules
from autopilot.operations.common import InputLike
from autopilot.operations.task_queues import operation_queue
from autopilot.reports.experiment import ExperimentInput
from autopilot.reports.schedule import ManualRun, RunRecord, Scheduled, ScheduledInput, hand_id
from starter.client.schedules import ScheduleError, provisional, wish
from starter.client.start import refuse_large
from workflows.chaos.scheduled_run import ScheduledRun

_ANSWER = timedelta(seconds=10)
_SLACK = timedelta(hours=1)
"""What a run of a schedule may take beyond a wait: where no worker runs, it holds up the next one for so long."""


async def put(client: Client, wanted: InputLike) -> str:
    """Makes the schedule that `spec.schedule` asks for, or brings the one that is there up to date; returns its id.

    What is there keeps its pause. Nothing runs at once.

    Raises:
        OperationError: its specification is too large.
        ScheduleError: it asks for none.
        RPCError: Temporal does not take it.
    """
    refuse_large(wanted.spec)
    if getattr(wanted.spec, "schedule", None) is None:
        raise ScheduleError(f"{wanted.workflow_id} has no spec.schedule: add spec.schedule.cron")
    if isinstance(wanted, ExperimentInput):
        new = ScheduledInput(experiment=wanted, since=time.time())
    else:
        new = ScheduledInput(operation=Scheduled.of(wanted), since=time.time())
    schedule = _schedule(new)
    try:
        await client.create_schedule(new.id, schedule, rpc_timeout=_ANSWER)
    except ScheduleAlreadyRunningError:
        await temporal_schedules.change(
            client, client.get_schedule_handle(new.id), lambda *there: _updated(new, *there)
        )
    return new.id


def _schedule(given: ScheduledInput) -> Schedule:
    wish, operation = given.schedule, given.scheduled
    return Schedule(
        action=ScheduleActionStartWorkflow(
            ScheduledRun.run,
            given,
            id=f"{given.id}/run",
            task_queue=operation_queue(operation.mesh),
            execution_timeout=timedelta(seconds=operation.deadline) + _SLACK,
            static_summary=f"may {operation.workflow_id} run now?",
        ),
        spec=ScheduleSpec(
            cron_expressions=[wish.cron], time_zone_name=wish.time_zone, jitter=timedelta(seconds=wish.jitter)
        ),
        policy=SchedulePolicy(
            overlap=ScheduleOverlapPolicy.SKIP,
            catchup_window=timedelta(seconds=wish.catch_up),
            pause_on_failure=False,  # a refuted hypothesis pauses it, see `schedule.pause`; a fault of ours does not
        ),
    )


def _updated(new: ScheduledInput, there: Schedule, before: ScheduledInput) -> tuple[Schedule, ScheduledInput]:
    """The new wish with the old memory: what is not told of yet stays to be told, unless the cron was another."""
    same = (before.schedule.cron, before.schedule.time_zone) == (new.schedule.cron, new.schedule.time_zone)
    given = new.model_copy(update={"pauses": before.pauses, "since": before.since if same else new.since})
    return dataclasses.replace(_schedule(given), state=there.state), given


async def trigger(client: Client, schedule: str, hand: ManualRun, *, limit: float = 30.0) -> RunRecord:
    """Asks for a run now, and returns what came of it: a record that says `waiting` where it waits for the run before.

    Raises:
        ScheduleError: there is no such schedule, a run by hand is under way, or no worker took it up.
    """
    given = await wish(client, schedule)
    try:
        handle = await client.start_workflow(
            ScheduledRun.run,
            given.model_copy(update={"hand": hand}),
            id=hand_id(schedule),
            task_queue=operation_queue(given.scheduled.mesh),
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            execution_timeout=timedelta(seconds=given.scheduled.deadline) + _SLACK,
            static_summary=f"may {given.scheduled.workflow_id} run now? {hand.caller.who} asks",
        )
    except WorkflowAlreadyStartedError as error:
        raise ScheduleError(
            f"a triggered run of {schedule} is already in progress: see `autopilot schedule runs {schedule}`"
        ) from error
    try:
        async with asyncio.timeout(limit):
            return await handle.result()
    except TimeoutError:
        return await provisional(client, handle.id, schedule)
