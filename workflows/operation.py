"""What every operation does: take a lease, start a guard, do its work, and clean up in every case."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

from activities.signatures import (
    RESTORE_HEARTBEAT,
    AcquireRequest,
    Ended,
    EndRequest,
    MeshSignatures,
)
from autopilot.mesh.model import Aspect, Lease, Target
from autopilot.mesh.orders import Actor
from autopilot.operations.common import NO_REASON, Caller, Command, Outcome, Phase
from workflows.commanded import Commanded
from workflows.endings import OUTCOMES, Ending, LeaseGone, Over, failure_type, is_already_started, reason_of
from workflows.guard import GuardInput, GuardWorkflow

EFFECT = timedelta(seconds=20)
"""Time-out of one attempt at a short write to the mesh."""
PROMPT = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2, maximum_interval=timedelta(seconds=5)
)
"""Retries of everything that writes to a mesh: at short intervals, without a limit on attempts."""


_REGAINS = 5
"""How often an operation takes a lost lease again before it ends."""


class Operation(Commanded):
    """Base of all operations; `operate` is what a kind of operation adds."""

    def __init__(self, caller: Caller | None = None) -> None:
        super().__init__(caller)
        self.lease: Lease | None = None
        self.started = workflow.time()
        self.restore_seconds: float | None = None
        self._restored: Lease | None = None
        self.audited: list[str] = []
        """Digests of the audit records of every change made."""
        self._closing: Ending | None = None
        """Set once the ending is decided. A cancelled task may not notice its cancellation: an activity that completes
        in spite of it swallows the cancellation."""
        self._guards: list[str] = []
        self._claim: Callable[[], Awaitable[Lease]] = _unclaimed
        self._writes = 0
        self._regained = 0

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

    # What a kind of operation provides

    async def operate(self) -> Ending:
        """Does the work under the lease `held`; whatever it leaves uncommitted is restored by `execute`.

        It may raise `Over`, and failures of activities.
        """
        raise NotImplementedError

    async def put_back(self) -> None:
        """Undoes what no lease covers, however the operation ended; the restore guarantee does not include it."""

    async def aftermath(self, ending: Ending) -> Ending:
        """Runs once the mesh is restored and the lease is released; may change the ending."""
        return ending

    # What every operation does

    async def execute(
        self,
        target: Target,
        aspects: tuple[Aspect, ...],
        *,
        ttl: float,
        lasting: float,
        queue: bool = False,
    ) -> Ending:
        """Acquires, guards, operates, and restores unless the operation committed.

        Args:
            target: what is operated on.
            aspects: the sides of it that are changed.
            ttl: seconds without renewal after which guards restore.
            lasting: seconds within which the operation ends in any case, counted from when it has the target.
            queue: whether to wait in turn where another operation holds the target.
        """
        self._claim = lambda: self._acquire(target, aspects, ttl, lasting, queue=queue)
        if queue:
            self.enter(Phase.QUEUED, f"waiting in turn for {target}")
        ending, cancelled = await self._until_begun(asyncio.create_task(self._begin()))
        work: asyncio.Task[Ending] | None = None
        if ending is None and self.lease is not None:
            planned_end = self.started + lasting if self.lease.planned_end is None else self.lease.planned_end
            work = asyncio.create_task(self.operate())
            ending, cancelled = await self._until_ended(work, planned_end)
        assert ending is not None  # noqa: S101 - for the type checker: without a lease there is an ending
        self._closing = ending
        if ending.outcome is not Outcome.PROMOTED:
            # Restore first: the mesh is written before a watch is cancelled or anything is reported.
            await asyncio.shield(self._restore(ending))
        if work is not None:
            await _stop(work)
        if ending.outcome is not Outcome.PROMOTED and _holder(self.lease) != _holder(self._restored):
            await asyncio.shield(self._restore(ending))  # the lease was being taken (again) when the operation ended
        await self._disarm()
        await asyncio.shield(self.put_back())
        if not cancelled:
            ending = await self.aftermath(ending)
        self._end(ending)
        if cancelled:
            raise asyncio.CancelledError(ending.reason)
        return ending

    async def _begin(self) -> Ending | None:
        """Takes the lease and starts its guard; returns an ending where the lease cannot be taken."""
        try:
            self.lease = await self._claim()
        except ActivityError as error:
            outcome = OUTCOMES.get(failure_type(error), Outcome.FAILED)
            return Ending(Outcome.FAILED if outcome is Outcome.INCONCLUSIVE else outcome, reason_of(error))
        self.audited.append(self.lease.audit)
        await self._start_guard(self.lease)
        return None

    async def _until_begun(self, begin: asyncio.Task[Ending | None]) -> tuple[Ending | None, bool]:
        """Waits for the lease; an operation that waits in turn can be aborted."""
        try:
            await workflow.wait_condition(lambda: begin.done() or self._aborted is not None)
        except asyncio.CancelledError:
            await _stop(begin)
            return Ending(Outcome.ABORTED, _cancelled()), True
        if begin.done():
            try:
                return begin.result(), False
            except FailureError as error:  # no guard, no operation
                return Ending(Outcome.FAILED, reason_of(error)), False
        await _stop(begin)
        return self._abortion(), False

    def _abortion(self) -> Ending:
        command = self._aborted or Command()
        return Ending(Outcome.ABORTED, command.reason.strip() or f"aborted, {NO_REASON}", command.caller)

    def go_on(self) -> None:
        """Call this before anything is written or started: once the ending is decided, nothing more may be.

        Raises:
            Over: the ending is decided.
        """
        if self._closing is not None:
            raise Over(self._closing)

    async def regain(self, gone: LeaseGone) -> None:
        """Takes a lost lease again, under a higher fencing number and with a new guard.

        Raises:
            Over: the lease cannot be taken, or was lost too often.
        """
        self.go_on()
        self._regained += 1
        if self._regained > _REGAINS:
            raise Over(Ending(Outcome.INCONCLUSIVE, f"the lease was lost {self._regained} times; at last: {gone}"))
        self.note(f"the lease was lost: {gone}; taking it again")
        try:
            self.lease = await self._claim()
        except ActivityError as error:
            outcome = OUTCOMES.get(failure_type(error), Outcome.INCONCLUSIVE)
            raise Over(Ending(outcome, f"the lost lease could not be taken again: {reason_of(error)}")) from error
        self.audited.append(self.lease.audit)
        self.go_on()  # if the operation has ended meanwhile, `execute` lifts this lease
        await self._start_guard(self.lease)

    async def _until_ended(self, work: asyncio.Task[Ending], planned_end: float) -> tuple[Ending, bool]:
        cancelled = False
        while not work.done():
            committing = self.phase is Phase.COMMITTING  # from here on the commit can only be completed
            left = None if committing else timedelta(seconds=max(0.0, planned_end - workflow.time()))
            try:
                await workflow.wait_condition(
                    lambda: work.done() or (self._aborted is not None and self.phase is not Phase.COMMITTING),
                    timeout=left,
                    timeout_summary="deadline of the operation",
                )
            except TimeoutError:
                if self.phase is not Phase.COMMITTING:
                    return Ending(Outcome.INCONCLUSIVE, "the operation did not finish before its deadline"), cancelled
            except asyncio.CancelledError:
                cancelled = True
            if work.done():
                break
            if cancelled and self.phase is not Phase.COMMITTING:
                return Ending(Outcome.ABORTED, _cancelled()), True
            if self._aborted is not None and self.phase is not Phase.COMMITTING:
                return self._abortion(), cancelled
        return self._ending_of(work), cancelled

    def _ending_of(self, work: asyncio.Task[Ending]) -> Ending:
        try:
            return work.result()
        except Over as over:
            return over.ending
        except LeaseGone as gone:
            return Ending(Outcome.INCONCLUSIVE, f"the lease was lost: {gone}")
        except FailureError as error:
            outcome = OUTCOMES.get(failure_type(error), Outcome.FAILED)
            lost = "the lease was lost: " if outcome is Outcome.INCONCLUSIVE else ""
            return Ending(outcome, lost + reason_of(error))

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
            schedule_to_close_timeout=timedelta(days=30) if queue else timedelta(seconds=60),
            retry_policy=PROMPT,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"take the lease on {target}",
        )

    async def _start_guard(self, lease: Lease) -> None:
        """Starts the child that restores if this workflow is terminated; after a reset, uses the running child."""
        guard_id = f"guard/{lease.holder.operation}/{lease.holder.fencing}"
        try:
            await workflow.start_child_workflow(
                GuardWorkflow.run,
                GuardInput(lease=lease),
                id=guard_id,
                parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
                cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
                static_summary=f"restores {lease.target} if {lease.holder} is terminated",
            )
        except FailureError as error:
            if not is_already_started(error):
                raise
        self._guards.append(guard_id)

    async def _disarm(self) -> None:
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
        ended = await self._finish(
            MeshSignatures.lift, lease, self.by(ending.reason, ending.caller), f"restore {lease.target}"
        )
        self.restore_seconds = ended.seconds
        kept = ended.receipt.notes if ended.receipt is not None else ()
        self.note(
            "our changes are removed; changes made by others were kept"
            if kept
            else "the base configuration is restored, confirmed by the proxies"
        )
        for note in kept:
            self.note(note)

    async def commit(self) -> None:
        """Makes the overlay the base configuration. From here on every recovery completes the commit.

        Raises:
            LeaseGone: the lease was lost before the commit began.
            ActivityError: a halt came before it began (type `Halted`), or the target was taken over.
        """
        self.go_on()
        before = self.phase
        self.enter(Phase.COMMITTING, "committing")
        try:
            await self._finish(MeshSignatures.commit, self.held, self.by("promoted"), f"commit {self.held.target}")
        except ActivityError as error:
            self.enter(before, f"not committed: {reason_of(error)}")
            if failure_type(error) == "LeaseLost":
                raise LeaseGone(reason_of(error)) from error
            raise

    async def _finish(
        self, method: Callable[[MeshSignatures, EndRequest], Awaitable[Ended]], lease: Lease, by: Actor, summary: str
    ) -> Ended:
        ended = await workflow.execute_activity_method(
            method,
            EndRequest(lease=lease, by=by),
            start_to_close_timeout=EFFECT,
            heartbeat_timeout=timedelta(seconds=RESTORE_HEARTBEAT),
            retry_policy=PROMPT,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=summary,
        )
        if ended.receipt is not None:
            self.audited.append(ended.receipt.audit)
        return ended

    def by(self, why: str, caller: Caller | None = None) -> Actor:
        """The actor to record for a change: whoever gave the command, else whoever started the operation."""
        asked = caller or self.caller
        return Actor(who=asked.who, verified=asked.verified, why=why)


def _holder(lease: Lease | None) -> str:
    return str(lease.holder) if lease is not None else ""


async def _unclaimed() -> Lease:
    raise RuntimeError("no lease was requested yet; call `execute` first")


def _cancelled() -> str:
    return f"cancelled: {workflow.cancellation_reason() or 'no reason given'}"


async def _stop(task: asyncio.Task[Any]) -> None:
    if task.done():
        return
    task.cancel()
    try:
        await task
    except (Over, LeaseGone) as error:
        workflow.logger.info("ignored, since the operation has ended: %s", error)
    except (asyncio.CancelledError, FailureError) as error:
        if not is_cancelled_exception(error) and failure_type(error) not in OUTCOMES:
            workflow.logger.warning("a task failed after the operation had ended: %s", reason_of(error))
