"""Reads and changes schedules in Temporal: the only module that knows how our input is stored in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleHandle,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from autopilot.reports.schedule import Pause, ScheduledInput

MOST_PAUSES = 10
"""The last pauses are kept, as reasons for what did not run."""

Change = Callable[[Schedule, ScheduledInput], tuple[Schedule, ScheduledInput] | None]
"""From a schedule and its input to what they become; None where nothing is to change."""


async def read_input(client: Client, schedule: Schedule) -> ScheduledInput:
    """What the schedule hands to its runs.

    Raises:
        ValueError: it is none of ours.
    """
    action = schedule.action
    if not isinstance(action, ScheduleActionStartWorkflow):
        raise ValueError("the schedule starts no workflow")  # noqa: TRY004 - whose it is, not which type
    (wanted,) = await client.data_converter.decode(list(action.args), [ScheduledInput])
    return ScheduledInput.model_validate(wanted)


async def change(client: Client, handle: ScheduleHandle, how: Change) -> bool:
    """Changes a schedule and its input in one step; tried again where somebody else changed it meanwhile.

    Returns:
        Whether there was something to change.
    """
    changed = False

    async def update(found: ScheduleUpdateInput) -> ScheduleUpdate | None:
        nonlocal changed
        schedule = found.description.schedule
        wanted = how(schedule, await read_input(client, schedule))
        changed = wanted is not None
        if wanted is None:
            return None
        schedule, given = wanted
        assert isinstance(schedule.action, ScheduleActionStartWorkflow)  # noqa: S101 - `read_input` saw to it
        schedule.action.args = [given]
        return ScheduleUpdate(schedule=schedule)

    await handle.update(update)
    return changed


async def pause(client: Client, schedule_id: str, note: str, now: float) -> bool:
    """Pauses it, unless it is paused already: then the first reason stands.

    Raises:
        RPCError: there is no such schedule, or Temporal did not do it.
    """

    def pausing(schedule: Schedule, given: ScheduledInput) -> tuple[Schedule, ScheduledInput] | None:
        if schedule.state.paused:
            return None
        schedule.state = dataclasses.replace(schedule.state, paused=True, note=note)
        pauses = (*_closed(given, now), Pause(since=now, reason=note))[-MOST_PAUSES:]
        return schedule, given.model_copy(update={"pauses": pauses})

    return await change(client, client.get_schedule_handle(schedule_id), pausing)


async def resume(client: Client, schedule_id: str, note: str, now: float) -> bool:
    """Lets it go on; what was due meanwhile is not caught up with.

    Raises:
        RPCError: as `pause`.
    """

    def resuming(schedule: Schedule, given: ScheduledInput) -> tuple[Schedule, ScheduledInput] | None:
        if not schedule.state.paused:
            return None
        schedule.state = dataclasses.replace(schedule.state, paused=False, note=note)
        return schedule, given.model_copy(update={"pauses": _closed(given, now)})

    return await change(client, client.get_schedule_handle(schedule_id), resuming)


def _closed(given: ScheduledInput, now: float) -> tuple[Pause, ...]:
    """Its pauses, none of them open: one may have been ended in Temporal's own UI."""
    return tuple(pause if pause.until else pause.model_copy(update={"until": now}) for pause in given.pauses)


def is_gone(error: RPCError) -> bool:
    """Whether there is no such thing in Temporal."""
    return error.status is RPCStatusCode.NOT_FOUND
