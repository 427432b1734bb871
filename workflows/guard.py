"""The guard child: restores the base when the operation is terminated, fails, or is cancelled with its children.

Temporal itself starts the restore: a child with `ParentClosePolicy.REQUEST_CANCEL` is cancelled by the server however
its parent closes, termination included.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from activities.signatures import RESTORE_HEARTBEAT, EndRequest, MeshSignatures
from autopilot.mesh.model import Lease
from autopilot.mesh.orders import Actor
from autopilot.operations.common import Wire


class GuardInput(Wire):
    """What to restore."""

    lease: Lease


@workflow.defn(name="Guard")
class GuardWorkflow:
    """Waits to be disarmed; restores when it is cancelled instead."""

    @workflow.init
    def __init__(self, spec: GuardInput) -> None:
        self._disarmed = False
        self._lease = spec.lease

    @workflow.run
    async def run(self, spec: GuardInput) -> str:
        """Returns `disarmed` or `restored`."""
        workflow.set_current_details(f"Armed: restores **{spec.lease.target}** if `{spec.lease.holder}` is terminated.")
        try:
            await workflow.wait_condition(lambda: self._disarmed)
        except asyncio.CancelledError:
            await asyncio.shield(self._restore())
            return "restored"
        return "disarmed"

    @workflow.signal(name="disarm", description="The operation has ended and cleaned up by itself")
    def disarm(self) -> None:
        """The operation cleaned up by itself, so the guard has nothing to restore."""
        self._disarmed = True

    async def _restore(self) -> None:
        await workflow.execute_activity_method(
            MeshSignatures.lift,
            EndRequest(
                lease=self._lease,
                net="guard-workflow",
                by=Actor(who=self._lease.holder.operation, why="the workflow of its operation was closed from outside"),
            ),
            start_to_close_timeout=timedelta(seconds=20),
            heartbeat_timeout=timedelta(seconds=RESTORE_HEARTBEAT),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=200),
                backoff_coefficient=2,
                maximum_interval=timedelta(seconds=5),
            ),
            summary=f"restore {self._lease.target}: its operation was closed",
        )
        workflow.set_current_details(f"Restored **{self._lease.target}**: `{self._lease.holder}` was closed.")
