"""Restores a target: tried until it succeeds, whatever the failure says of retries."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.contracts.operation import RESTORE_HEARTBEAT, Ended, EndRequest, MeshSignatures
from autopilot.operations.task_queues import restore_queue
from workflows.operation.outcomes import reason_of

EFFECT = timedelta(seconds=20)
"""Time-out of one attempt at a short write to the mesh."""
PROMPT = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2, maximum_interval=timedelta(seconds=5)
)
"""Retries of everything that writes to a mesh: at short intervals, without a limit on attempts."""
ARCHIVING = timedelta(minutes=10)
"""Limit for the archive of a report: of an operation that was cancelled, Temporal keeps none itself."""
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 600.0
"""Seconds between two tries where a worker says that a retry cannot help: another worker, or a later version, may."""


async def lift(request: EndRequest, summary: str) -> Ended:
    """Lifts what a lease laid, on the queue that runs nothing else."""
    pause = _FIRST_PAUSE
    while True:
        try:
            return await workflow.execute_activity_method(
                MeshSignatures.lift,
                request,
                task_queue=restore_queue(request.lease.target.mesh),
                start_to_close_timeout=EFFECT,
                heartbeat_timeout=timedelta(seconds=RESTORE_HEARTBEAT),
                retry_policy=PROMPT,
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                summary=summary,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.error(
                "%s could not be restored (%s): tried again in %g s; until then the guard process and the proxies' "
                "deadline restore it",
                request.lease.target,
                reason_of(error),
                pause,
            )
        await workflow.sleep(pause, summary="before the restore is tried again")
        pause = min(2 * pause, _LONGEST_PAUSE)
