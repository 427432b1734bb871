"""What every operation does with its lease: takes it, has it guarded, writes under it, and gives it back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError

from activities.contracts.operation import RESTORE_HEARTBEAT, AcquireRequest, ApplyRequest, EndRequest, MeshSignatures
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.model import Aspect, Change, Lease, Receipt, Target
from autopilot.operations.common import Caller, Outcome, Phase
from workflows.operation.commands import Commanded
from workflows.operation.guard import GuardInput, GuardWorkflow
from workflows.operation.outcomes import (
    OUTCOMES,
    Ending,
    EndOperation,
    LeaseExpired,
    failure_type,
    is_already_started,
    reason_of,
)
from workflows.operation.restore import EFFECT, PROMPT, lift

_REGAINS = 5
"""How often an operation takes a lost lease again before it ends."""


class Leased(Commanded):
    """An operation's lease, and the numbered writes under it."""

    def __init__(self, caller: Caller | None = None, *, temporal_grace: float = 0.0) -> None:
        super().__init__(caller)
        self.lease: Lease | None = None
        self.started = workflow.time()
        self.restore_seconds: float | None = None
        self.patience = timedelta(seconds=temporal_grace + 60)
        """Limit for a short write with all its retries: longer than Temporal may be away."""
        self._restored: Lease | None = None
        self.audited: list[str] = []
        """Digests of the audit records of every change made."""
        self._guards: list[str] = []
        self._was_reset = False
        """A reset was heard of, and what it asks for is not done yet."""
        self._came_of_reset = False
        self._disarmed = False
        workflow.register_random_seed_callback(self._hear_reset)
        self._claim: Callable[[], Awaitable[Lease]] = _unclaimed
        self._writes = 0
        self._regained = 0

    def go_on(self) -> None:
        """Raises `EndOperation` once the ending is decided or due; called before anything is written or started."""
        raise NotImplementedError

    @property
    def held(self) -> Lease:
        """The lease; it exists for as long as `operate` runs."""
        if self.lease is None:
            raise RuntimeError("the operation has no lease yet; read `held` only inside `operate`")
        return self.lease

    def next_write(self) -> Lease:
        """The lease, presented for the next write: each has a number of its own, whoever retries it.

        Numbers are milliseconds of Temporal's clock, so that they go on where a reset begins again: what the run before
        it had written after that point came earlier.
        """
        self._writes = max(self._writes + 1, round(workflow.time() * 1000))
        self.lease = self.held.for_write(self._writes)
        return self.lease

    def at_base(self) -> None:
        """Runs when the base is restored."""

    async def _acquire(
        self, target: Target, aspects: tuple[Aspect, ...], ttl: float, lasting: float, *, queue: bool
    ) -> Lease:
        info = workflow.info()
        return await workflow.execute_activity_method(
            MeshSignatures.acquire,
            AcquireRequest(
                target=target,
                aspects=aspects,
                operation=info.workflow_id,
                token=info.run_id,
                ttl=ttl,
                planned_end=None if queue else self.started + lasting,
                lasting=lasting if queue else None,
                queue=queue,
                by=self.by("takes the lease"),
            ),
            start_to_close_timeout=EFFECT,
            schedule_to_close_timeout=timedelta(days=30) if queue else self.patience,
            retry_policy=PROMPT,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"take the lease on {target}",
        )

    async def _start_guard(self, lease: Lease) -> None:
        """Starts the child that restores if this run of the workflow is terminated."""
        guard_id = f"guard/{lease.holder.operation}/{lease.holder.fencing}"
        if workflow.patched("guard-per-run"):
            guard_id += f"/{workflow.uuid4().hex[:8]}"
        try:
            guard = await workflow.start_child_workflow(
                GuardWorkflow.run,
                GuardInput(lease=lease),
                id=guard_id,
                parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
                cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
                static_summary=f"restores {lease.target} if {lease.holder} is terminated",
            )
            guard.add_done_callback(_nobody_waits)
        except FailureError as error:
            if not is_already_started(error):
                raise
        self._guards.append(guard_id)

    def _hear_reset(self, _: int) -> None:
        """Temporal gives a run that begins by a reset random numbers of its own."""
        self._was_reset = self._came_of_reset = True

    async def _rearm(self) -> None:
        """After a reset: starts a guard of this run. The run before had its own, which Temporal does not cancel."""
        while True:
            await workflow.wait_condition(lambda: self._was_reset)
            # Asked last: a reset run of an earlier version has used the guard of the run before it, and goes on so.
            try:
                if self.lease is not None and not self._disarmed and workflow.patched("guard-after-reset"):
                    await self._start_guard(self.lease)
            except FailureError as error:
                workflow.logger.warning("no guard could be started after a reset: %s", reason_of(error))
            finally:
                self._was_reset = False

    async def _disarm(self) -> None:
        self._disarmed = True
        for guard_id in self._guards:
            try:
                await workflow.get_external_workflow_handle(guard_id).signal(GuardWorkflow.disarm)
            except FailureError as error:
                workflow.logger.info("guard %s could not be disarmed, it has ended already: %s", guard_id, error)

    async def _restore(self, ending: Ending) -> None:
        if self.lease is None:
            return
        lease = self._restored = self.lease
        self.enter(Phase.RESTORING, f"restoring: {ending.reason}")
        by = self.by(ending.reason, ending.caller)
        ended = await lift(EndRequest(lease=lease, by=by), f"restore {lease.target}")
        if ended.receipt is not None:
            self.audited.append(ended.receipt.audit)
        self.restore_seconds = ended.seconds
        self.at_base()
        kept = ended.receipt.notes if ended.receipt is not None else ()
        self.note(
            "our changes are removed; changes made by others were kept"
            if kept
            else "the base configuration is restored, confirmed by the proxies"
        )
        for note in kept:
            self.note(note)

    async def regain(self, gone: LeaseExpired) -> None:
        """Takes a lost lease again, under a higher fencing number and with a new guard.

        Raises:
            EndOperation: the lease cannot be taken, or was lost too often.
        """
        self.go_on()
        self._regained += 1
        if self._regained > _REGAINS:
            raise EndOperation(
                Ending(Outcome.INCONCLUSIVE, f"the lease was lost {self._regained} times; at last: {gone}")
            )
        self.note(f"the lease was lost: {gone}; taking it again")
        try:
            self.lease = await self._claim()
        except ActivityError as error:
            outcome = OUTCOMES.get(failure_type(error), Outcome.INCONCLUSIVE)
            raise EndOperation(
                Ending(outcome, f"the lost lease could not be taken again: {reason_of(error)}")
            ) from error
        self.audited.append(self.lease.audit)
        self.go_on()  # if the operation has ended meanwhile, `execute` lifts this lease
        await self._start_guard(self.lease)

    async def lay(
        self, changes: Sequence[Change], *, summary: str, why: str, canary: str = "", name: str = ""
    ) -> Receipt:
        """Lays changes over the base, in place of what was laid before; returns when the proxies report them.

        Args:
            changes: all that is to be laid from now on.
            summary: for Temporal's UI.
            why: for the audit record.
            canary: the arm under test, where the weights are to be exported as metrics of `name`.
            name: of the resource.

        Raises:
            EndOperation: the ending is decided, or due.
            LeaseExpired: the lease was lost.
            ActivityError: the mesh refused, or did not answer for longer than an operation may wait.
        """
        self.go_on()
        try:
            return await workflow.execute_activity_method(
                MeshSignatures.apply,
                ApplyRequest(
                    lease=self.next_write(), changes=tuple(changes), canary=canary, name=name, by=self.by(why)
                ),
                start_to_close_timeout=EFFECT,
                schedule_to_close_timeout=self.patience,
                retry_policy=PROMPT,
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                summary=summary,
            )
        except ActivityError as error:
            if failure_type(error) == "LeaseLost":
                raise LeaseExpired(reason_of(error)) from error
            raise

    async def commit(self) -> None:
        """Makes the overlay the base configuration. From here on every recovery completes the commit.

        Raises:
            LeaseExpired: the lease was lost before the commit began.
            ActivityError: a halt came before it began (type `Halted`), or the target was taken over.
        """
        self.go_on()
        before = self.phase
        self.enter(Phase.COMMITTING, "committing")
        try:
            ended = await workflow.execute_activity_method(
                MeshSignatures.commit,
                EndRequest(lease=self.held, by=self.by("promoted")),
                start_to_close_timeout=EFFECT,
                heartbeat_timeout=timedelta(seconds=RESTORE_HEARTBEAT),
                retry_policy=PROMPT,
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                summary=f"commit {self.held.target}",
            )
        except ActivityError as error:
            self.enter(before, f"not committed: {reason_of(error)}")
            if failure_type(error) == "LeaseLost":
                raise LeaseExpired(reason_of(error)) from error
            raise
        if ended.receipt is not None:
            self.audited.append(ended.receipt.audit)

    def by(self, why: str, caller: Caller | None = None) -> Actor:
        """The actor to record for a change: whoever gave the command, else whoever started the operation."""
        asked = caller or self.caller
        return Actor(who=asked.who, verified=asked.verified, why=why)


def _nobody_waits(guard: asyncio.Future[Any]) -> None:
    """A guard ends when it likes; how is in its own history."""
    if not guard.cancelled():
        guard.exception()


async def _unclaimed() -> Lease:
    raise RuntimeError("no lease was requested yet; call `execute` first")
