"""The guard child: restores the base when the operation is terminated, fails, or is cancelled with its children.

Temporal itself starts the restore: a child with `ParentClosePolicy.REQUEST_CANCEL` is cancelled by the server however
its parent closes, termination included. After a reset the server cancels no child of the run before: its guard ends by
itself when its lease is gone.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

from activities.contracts.operation import EndRequest, HeldRequest, MeshSignatures
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.model import Lease
from autopilot.wire import Wire
from workflows.operation.outcomes import reason_of
from workflows.operation.restore import EFFECT, lift

_LONGEST = 3600.0
"""Maximum seconds between two looks at the lease."""


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
        """Returns `disarmed`, `restored`, or `gone` where the lease has ended without it."""
        workflow.set_current_details(f"Armed: restores **{spec.lease.target}** if `{spec.lease.holder}` is terminated.")
        looking = asyncio.create_task(self._until_gone()) if workflow.patched("guard-ends-with-its-lease") else None
        try:
            await workflow.wait_condition(lambda: self._disarmed or (looking is not None and looking.done()))
        except asyncio.CancelledError:
            await asyncio.shield(self._restore())
            return "restored"
        return "disarmed" if self._disarmed else "gone"

    @workflow.signal(name="disarm", description="The operation has ended and cleaned up by itself")
    def disarm(self) -> None:
        """The operation cleaned up by itself, so the guard has nothing to restore."""
        self._disarmed = True

    async def _until_gone(self) -> None:
        """Returns when the lease is gone; looks ever more seldom, so that a long wait stays a short history."""
        pause = self._lease.ttl
        while True:
            await workflow.sleep(pause, summary="before the next look at the lease")
            pause = min(2 * pause, _LONGEST)
            try:
                if not await self._held():
                    return
            except ActivityError as error:
                workflow.logger.info("the lease could not be looked at, the guard stays: %s", reason_of(error))

    async def _held(self) -> bool:
        return await workflow.execute_activity_method(
            MeshSignatures.held,
            HeldRequest(lease=self._lease),
            start_to_close_timeout=EFFECT,
            schedule_to_close_timeout=timedelta(seconds=60),
            retry_policy=RetryPolicy(maximum_attempts=3),
            summary=f"is {self._lease.holder} still there?",
        )

    async def _restore(self) -> None:
        by = Actor(who=self._lease.holder.operation, why="the workflow of its operation was closed from outside")
        await lift(
            EndRequest(lease=self._lease, net="guard-workflow", by=by),
            f"restore {self._lease.target}: its operation was closed",
        )
        workflow.set_current_details(f"Restored **{self._lease.target}**: `{self._lease.holder}` was closed.")
