"""The one way to watch: a long activity against whatever makes the operation stop it. What it found is never lost.

A watch that is stopped answers with what it found. Where it cannot, since its worker died, or stopped and no other
has taken the watch on, its last heartbeat says what it had found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception
from temporalio.exceptions import TimeoutError as ActivityTimeout

from activities.contracts.operation import HeartbeatSignatures, LastHeartbeatRequest
from autopilot.wire import Wire
from workflows.operation.outcomes import reason_of

R = TypeVar("R")
B = TypeVar("B", bound=Wire)


@dataclass(frozen=True)
class Watched(Generic[R, B]):
    """How a watch ended."""

    result: R | None
    """Its answer; None where it could give none."""
    beat: B | None
    """Then: its last heartbeat, if there was one."""
    stopped: bool
    """Whether it was stopped before it ended by itself."""
    canceled: asyncio.CancelledError | None
    """Raise it when what was found is recorded: the operation has ended."""


async def watch_until(
    handle: workflow.ActivityHandle[R],
    activity_type: str,
    beat: type[B],
    until: Callable[[], bool] = lambda: False,
    *,
    timeout: float | None = None,
) -> Watched[R, B]:
    """Waits until the activity has an answer, `until` holds or `timeout` seconds are over; then stops the activity.

    Args:
        handle: of the activity, started with `WAIT_CANCELLATION_COMPLETED`.
        activity_type: its name; a workflow has one of that name at a time.
        beat: what it heartbeats.
        until: looked at whenever the workflow makes progress.
        timeout: in seconds.

    Raises:
        ActivityError: it failed, and not because it was stopped.
    """
    canceled: asyncio.CancelledError | None = None
    try:
        await workflow.wait_condition(lambda: handle.done() or until(), timeout=timeout)
    except TimeoutError:
        pass  # the caller looks at the clock itself
    except asyncio.CancelledError as error:
        canceled = error
    stopped = not handle.done()
    told: Any = None
    if stopped:
        # Asked before the cancel: of what is cancelled between two attempts the server forgets the heartbeat.
        told = await _last_heartbeat(activity_type)
        handle.cancel()
    try:
        return Watched(await handle, None, stopped, canceled)
    except ActivityError as error:
        cause = error.cause
        if isinstance(cause, ActivityTimeout) and cause.last_heartbeat_details:
            told = cause.last_heartbeat_details[0]
        dead = stopped and isinstance(cause, ActivityTimeout)
        if not (dead or is_cancelled_exception(error)):
            raise
    return Watched(None, _read(beat, told), stopped, canceled)


def _read(beat: type[B], told: Any) -> B | None:
    """The heartbeat; None where there was none, or where it is one of another version that cannot be read."""
    if told is None:
        return None
    try:
        return beat.model_validate(told)
    except ValidationError as error:
        workflow.logger.warning("the last heartbeat cannot be read, what it had found is lost: %s", error)
        return None


async def _last_heartbeat(activity_type: str) -> Any:
    if not workflow.patched("recall-heartbeat"):
        return None
    info = workflow.info()
    try:
        return await workflow.execute_activity_method(
            HeartbeatSignatures.last,
            LastHeartbeatRequest(workflow_id=info.workflow_id, run_id=info.run_id, activity_type=activity_type),
            start_to_close_timeout=timedelta(seconds=3),
            schedule_to_close_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_attempts=2),
            summary=f"last heartbeat of {activity_type}, before it is stopped",
        )
    except FailureError as error:
        workflow.logger.warning("the last heartbeat of %s could not be read: %s", activity_type, reason_of(error))
        return None
