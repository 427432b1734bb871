"""Recurring operations as Temporal Schedules: reading and commanding those that are there, for any program to do.

Temporal keeps the cron and wakes a short `ScheduledRun` when it is due, never two at once; that decides, and says why.
`starter.client.start_schedule` makes schedules and triggers runs.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError

from activities.schedules import temporal_schedules
from autopilot.kinds import is_schedule, schedule_of
from autopilot.operations.common import Caller
from autopilot.reports.schedule import RunRecord, ScheduledInput

_WHOLE = re.compile(r"[a-z0-9-]+-schedule/[a-z0-9.-]+/[a-z0-9.-]+/[a-z0-9.-]+")
_ANSWER = timedelta(seconds=10)


class ScheduleError(Exception):
    """A schedule could not be made, found or commanded; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """One schedule as it stands."""

    id: str
    target: str
    cron: str
    time_zone: str
    next: datetime | None
    """None where it is paused."""
    paused: bool
    note: str
    """Why it is paused, or who let it go on."""
    last: RunRecord | None
    late: int
    """Times Temporal came too late for, ever."""
    dropped: int
    """Times Temporal dropped for a run under way, ever."""


async def pause(client: Client, schedule: str, caller: Caller, reason: str) -> bool:
    """Starts nothing any more until `resume`; a run under way goes on. False where it was paused already.

    Raises:
        ScheduleError: there is no such schedule.
    """
    note = f"by {caller.who}: {reason}"
    try:
        return await temporal_schedules.pause(client, schedule, note, time.time())
    except RPCError as error:
        raise _explained(error, schedule) from error


async def resume(client: Client, schedule: str, caller: Caller, reason: str = "") -> bool:
    """Lets it go on; nothing is caught up with. False where it was not paused.

    Raises:
        ScheduleError: there is no such schedule.
    """
    note = f"resumed by {caller.who}" + (f": {reason}" if reason else "")
    try:
        return await temporal_schedules.resume(client, schedule, note, time.time())
    except RPCError as error:
        raise _explained(error, schedule) from error


async def wish(client: Client, schedule: str) -> ScheduledInput:
    """What the schedule hands to its runs.

    Raises:
        ScheduleError: there is no such schedule.
    """
    try:
        found = await client.get_schedule_handle(schedule).describe(rpc_timeout=_ANSWER)
    except RPCError as error:
        raise _explained(error, schedule) from error
    return await temporal_schedules.read_input(client, found.schedule)


async def delete(client: Client, schedule: str) -> None:
    """Removes it; a run under way goes on.

    Raises:
        ScheduleError: there is no such schedule.
    """
    try:
        await client.get_schedule_handle(schedule).delete(rpc_timeout=_ANSWER)
    except RPCError as error:
        raise _explained(error, schedule) from error


async def list_schedules(client: Client) -> list[ScheduleRow]:
    """All of ours, by id."""
    ids = sorted([entry.id async for entry in await client.list_schedules() if _WHOLE.fullmatch(entry.id)])
    rows = await asyncio.gather(*(_row(client, each) for each in ids))
    return [row for row in rows if row is not None]


async def _row(client: Client, schedule: str) -> ScheduleRow | None:
    try:
        found = await client.get_schedule_handle(schedule).describe(rpc_timeout=_ANSWER)
    except RPCError as error:
        if temporal_schedules.is_gone(error):
            return None  # deleted since it was listed
        raise
    given = await temporal_schedules.read_input(client, found.schedule)
    state, info = found.schedule.state, found.info
    last = await runs(client, schedule, limit=1)
    return ScheduleRow(
        id=schedule,
        target=f"{given.scheduled.namespace}/{given.scheduled.service}",
        cron=given.schedule.cron,
        time_zone=given.schedule.time_zone,
        next=None if state.paused or not info.next_action_times else info.next_action_times[0],
        paused=state.paused,
        note=state.note or "",
        last=last[0] if last else None,
        late=info.num_actions_missed_catchup_window,
        dropped=info.num_actions_skipped_overlap,
    )


async def runs(client: Client, schedule: str, *, limit: int = 20) -> list[RunRecord]:
    """The last runs that Temporal still knows, the newest first, each with its decision and reason."""
    query = f"WorkflowType = 'ScheduledRun' AND WorkflowId STARTS_WITH '{schedule}/'"
    found = [execution async for execution in client.list_workflows(query, limit=limit)]
    return list(await asyncio.gather(*(_record(client, execution, schedule) for execution in found)))


async def _record(client: Client, execution: WorkflowExecution, schedule: str) -> RunRecord:
    handle = client.get_workflow_handle(execution.id, run_id=execution.run_id, result_type=RunRecord)
    if execution.status is WorkflowExecutionStatus.RUNNING:
        try:
            return await provisional(client, execution.id, schedule)
        except ScheduleError as error:
            return _unsaid(execution, schedule, "waiting", str(error))
    try:
        ended: RunRecord = await handle.result(rpc_timeout=_ANSWER)
    except WorkflowFailureError as error:
        status = execution.status.name.lower().replace("_", " ") if execution.status else "closed"
        return _unsaid(execution, schedule, "skipped", f"{status} before it could decide: {error.cause}")
    return ended


def _unsaid(execution: WorkflowExecution, schedule: str, decision: str, reason: str) -> RunRecord:
    """The record of a run that left none itself."""
    begun = execution.start_time.timestamp()
    return RunRecord.model_validate(
        {
            "schedule": schedule,
            "run": execution.id,
            "scheduled": begun,
            "decided": begun,
            "decision": decision,
            "reason": reason,
        }
    )


async def provisional(client: Client, run: str, schedule: str) -> RunRecord:
    """What a run under way comes to so far.

    Raises:
        ScheduleError: no worker answers.
    """
    try:
        found: RunRecord = await client.get_workflow_handle(run).query(
            "record", result_type=RunRecord, rpc_timeout=_ANSWER
        )
    except (RPCError, WorkflowQueryFailedError) as error:
        raise ScheduleError(
            f"no worker has started {run} yet: check that `autopilot worker` is running; "
            f"`autopilot schedule runs {schedule}` shows its result"
        ) from error
    return found


async def resolve(client: Client, text: str) -> str:
    """The id that `chaos-schedule/MESH/NAMESPACE/NAME`, `NAMESPACE/NAME` or `NAME` means.

    Raises:
        ScheduleError: nothing, or more than one, answers to it.
    """
    if text.count("/") == 3 and not is_schedule(text):  # an operation's id
        text = schedule_of(text)
    if _WHOLE.fullmatch(text):
        return text
    known = sorted([entry.id async for entry in await client.list_schedules() if _WHOLE.fullmatch(entry.id)])
    ids = [each for each in known if each.endswith(f"/{text}")]
    if len(ids) == 1:
        return ids[0]
    if not ids:
        raise ScheduleError(f"no schedule is called {text!r}; list schedules with `autopilot schedule list`")
    raise ScheduleError(f"{text!r} is ambiguous: {', '.join(ids)}; give the full id")


def _explained(error: RPCError, schedule: str) -> ScheduleError:
    if temporal_schedules.is_gone(error):
        return ScheduleError(f"there is no {schedule}; list schedules with `autopilot schedule list`")
    return ScheduleError(f"Temporal refused ({error.status.name}): {error.message}")
