"""What every operation can do: hold a lease, have a guard, be paused and aborted, clean up, say what it is doing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey, SearchAttributeUpdate
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

from activities.signatures import (
    AcquireRequest,
    Ended,
    EndRequest,
    MeshSignatures,
)
from autopilot.mesh.model import Aspect, Lease, Target
from autopilot.report import Command, Event, Outcome, Phase
from workflows.guard import GuardInput, GuardWorkflow

KIND = SearchAttributeKey.for_keyword("AutopilotKind")
PHASE = SearchAttributeKey.for_keyword("AutopilotPhase")
OUTCOME = SearchAttributeKey.for_keyword("AutopilotOutcome")

EFFECT = timedelta(seconds=20)
"""One try of a short effect on the mesh."""
PROMPT = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2, maximum_interval=timedelta(seconds=5)
)
"""Retries of everything that writes to a mesh: soon, and for as long as it takes."""


@dataclass(frozen=True)
class Ending:
    """How an operation ended, and why."""

    outcome: Outcome
    reason: str


class Operation:
    """Base of all operations; `operate` says what is special about one."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.ending: Ending | None = None
        self.lease: Lease | None = None
        self.timeline: list[Event] = []
        self.started = workflow.time()
        self.restore_seconds: float | None = None
        self._paused: Command | None = None
        self._aborted: Command | None = None
        self._resumes = 0

    # What a kind of operation provides

    async def operate(self, lease: Lease) -> Ending:
        """Does the work under the lease; whatever it leaves uncommitted is restored by `execute`."""
        raise NotImplementedError

    def details(self) -> str:
        """Markdown for Temporal's UI."""
        raise NotImplementedError

    # The life of every operation

    async def execute(self, target: Target, aspects: tuple[Aspect, ...], *, ttl: float, planned_end: float) -> Ending:
        """Acquires, guards, operates, and restores unless the operation committed.

        Args:
            target: what is operated on.
            aspects: the sides of it that are changed.
            ttl: seconds without renewal after which guards restore.
            planned_end: seconds since the epoch by which the operation ends in any case.
        """
        try:
            self.lease = await self._acquire(target, aspects, ttl, planned_end)
        except ActivityError as error:
            return self._end(Ending(Outcome.FAILED, reason_of(error)))
        disarm = await self._start_guard(self.lease)
        work = asyncio.create_task(self.operate(self.lease))
        ending, cancelled = await self._until_ended(work, planned_end)
        if ending.outcome is not Outcome.PROMOTED:
            # Restore first, then tidy: the mesh is written before a watch is cancelled or anyone is told.
            await asyncio.shield(self._restore(ending))
        await _stop(work)
        await disarm()
        self._end(ending)
        if cancelled:
            raise asyncio.CancelledError(ending.reason)
        return ending

    async def _until_ended(self, work: asyncio.Task[Ending], planned_end: float) -> tuple[Ending, bool]:
        cancelled = False
        while not work.done():
            committing = self.phase is Phase.COMMITTING  # from here on there is only forward
            left = None if committing else timedelta(seconds=max(0.0, planned_end - workflow.time()))
            try:
                await workflow.wait_condition(
                    lambda: work.done() or (self._aborted is not None and self.phase is not Phase.COMMITTING),
                    timeout=left,
                    timeout_summary="deadline of the operation",
                )
            except TimeoutError:
                if self.phase is not Phase.COMMITTING:
                    return Ending(Outcome.INCONCLUSIVE, "the deadline passed before the evidence was in"), cancelled
            except asyncio.CancelledError:
                cancelled = True
            if work.done():
                break
            if cancelled and self.phase is not Phase.COMMITTING:
                return Ending(
                    Outcome.ABORTED, f"cancelled: {workflow.cancellation_reason() or 'no reason given'}"
                ), True
            if self._aborted is not None and self.phase is not Phase.COMMITTING:
                return Ending(Outcome.ABORTED, self._aborted.reason or "aborted"), cancelled
        return self._ending_of(work), cancelled

    def _ending_of(self, work: asyncio.Task[Ending]) -> Ending:
        try:
            return work.result()
        except FailureError as error:
            if failure_type(error) == "LeaseLost":
                return Ending(Outcome.INCONCLUSIVE, f"the lease was lost: {reason_of(error)}")
            return Ending(Outcome.FAILED, reason_of(error))

    async def _acquire(self, target: Target, aspects: tuple[Aspect, ...], ttl: float, planned_end: float) -> Lease:
        info = workflow.info()
        return await workflow.execute_activity_method(
            MeshSignatures.acquire,
            AcquireRequest(
                target=target,
                aspects=aspects,
                operation=info.workflow_id,
                token=info.run_id,
                ttl=ttl,
                planned_end=planned_end,
            ),
            start_to_close_timeout=EFFECT,
            schedule_to_close_timeout=timedelta(seconds=60),
            retry_policy=PROMPT,
            summary=f"take the lease on {target}",
        )

    async def _start_guard(self, lease: Lease) -> Callable[[], Awaitable[None]]:
        """Starts the child that restores when this workflow is terminated; adopts it where a reset finds it running."""
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

        async def disarm() -> None:
            try:
                await workflow.get_external_workflow_handle(guard_id).signal(GuardWorkflow.disarm)
            except FailureError as error:
                workflow.logger.info("guard %s needs no disarming: %s", guard_id, error)

        return disarm

    async def _restore(self, ending: Ending) -> None:
        if self.lease is None:
            return
        self.enter(Phase.RESTORING, f"restoring: {ending.reason}")
        ended = await self._finish(MeshSignatures.lift, self.lease, f"restore {self.lease.target}")
        self.restore_seconds = ended.seconds
        self.note("the base is back, the proxies say so")

    async def commit(self, lease: Lease) -> None:
        """Makes what was laid the user's configuration. From here on every net rolls forward."""
        self.enter(Phase.COMMITTING, "committing")
        await self._finish(MeshSignatures.commit, lease, f"commit {lease.target}")

    async def _finish(
        self, method: Callable[[MeshSignatures, EndRequest], Awaitable[Ended]], lease: Lease, summary: str
    ) -> Ended:
        return await workflow.execute_activity_method(
            method,
            EndRequest(lease=lease),
            start_to_close_timeout=EFFECT,
            retry_policy=PROMPT,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=summary,
        )

    # Saying what goes on

    def enter(self, phase: Phase, text: str, who: str = "") -> None:
        """Changes the phase, and says so in the timeline, the search attributes and the UI."""
        changed, self.phase = phase is not self.phase, phase
        self.note(text, who)
        if changed:
            _index(PHASE.value_set(phase.value))

    def note(self, text: str, who: str = "") -> None:
        """One more line in the timeline."""
        self.timeline.append(Event(time=workflow.time(), text=text, who=who))
        workflow.set_current_details(self.details())

    def _end(self, ending: Ending) -> Ending:
        self.ending = ending
        self.phase = Phase.ENDED
        self.note(f"{ending.outcome.value}: {ending.reason}")
        _index(PHASE.value_set(Phase.ENDED.value), OUTCOME.value_set(ending.outcome.value))
        return ending

    # What people and programs may say

    @workflow.update(name="pause", description="Hold where it is: lease kept, the watch goes on, harm still restores")
    async def pause(self, command: Command) -> str:
        """Holds the operation after the step under way."""
        self._hear_pause(command)
        return f"paused at phase {self.phase.value}"

    @pause.validator
    def _may_pause(self, command: Command) -> None:
        self._refuse_when_over("pause")
        if self._paused is not None:
            raise ApplicationError(f"already paused by {self._paused.caller.who}", type="Refused")

    @workflow.update(name="resume", description="Go on after a pause")
    async def resume(self, command: Command) -> str:
        """Ends a pause."""
        self._hear_resume(command)
        return "resumed"

    @resume.validator
    def _may_resume(self, command: Command) -> None:
        self._refuse_when_over("resume")
        if self._paused is None and self.phase is not Phase.UNDECIDED:
            raise ApplicationError("not paused", type="Refused")

    @workflow.update(name="abort", description="Restore, then end Aborted")
    async def abort(self, command: Command) -> str:
        """Restores and ends; returns when the base is back."""
        self._hear_abort(command)
        await workflow.wait_condition(lambda: self.phase is Phase.ENDED)
        return f"{self.ending.outcome.value}: {self.ending.reason}" if self.ending else "ended"

    @abort.validator
    def _may_abort(self, command: Command) -> None:
        self._refuse_when_over("abort")
        if self.phase is Phase.COMMITTING:
            raise ApplicationError("too late to abort: the rollout is being committed", type="Refused")

    @workflow.signal(name="pause", description="Hold where it is")
    def pause_signal(self, command: Command) -> None:
        """`pause` for programs that send signals."""
        if self._paused is None:
            self._hear_pause(command)

    @workflow.signal(name="resume", description="Go on after a pause")
    def resume_signal(self, command: Command) -> None:
        """`resume` for programs that send signals."""
        self._hear_resume(command)

    @workflow.signal(name="abort", description="Restore, then end Aborted")
    def abort_signal(self, command: Command) -> None:
        """`abort` for programs that send signals."""
        self._hear_abort(command)

    def _hear_pause(self, command: Command) -> None:
        self._paused = command
        self.note(f"paused{because(command)}", command.caller.who)

    def _hear_resume(self, command: Command) -> None:
        self._paused = None
        self._resumes += 1
        self.note(f"resumed{because(command)}", command.caller.who)

    def _hear_abort(self, command: Command) -> None:
        if self._aborted is None and self.phase is not Phase.ENDED:
            self._aborted = command
            self.note(f"abort{because(command)}", command.caller.who)

    def _refuse_when_over(self, verb: str) -> None:
        if self.phase is Phase.ENDED or self.phase is Phase.RESTORING:
            raise ApplicationError(f"nothing to {verb}: the operation is {self.phase.value.lower()}", type="Refused")


def _index(*updates: SearchAttributeUpdate[str]) -> None:
    """Makes the operation findable where its starter did: a server without the attributes would park us for ever."""
    if workflow.info().typed_search_attributes.get(KIND) is not None:
        workflow.upsert_search_attributes(updates)


def because(command: Command) -> str:
    """The reason of a command as the tail of a sentence."""
    return f": {command.reason}" if command.reason else ""


def is_already_started(error: BaseException) -> bool:
    """Whether a child could not be started because its id runs already."""
    return type(error).__name__ == "WorkflowAlreadyStartedError"


def failure_type(error: BaseException) -> str:
    """The type of the application error at the root of a failure, or an empty text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ApplicationError):
            return cause.type or ""
        cause = cause.__cause__
    return ""


def reason_of(error: BaseException) -> str:
    """The innermost message of a failure: what a person needs to read."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return cause.message if isinstance(cause, FailureError) else str(cause)


async def _stop(task: asyncio.Task[Ending]) -> None:
    if task.done():
        return
    task.cancel()
    try:
        await task
    except (asyncio.CancelledError, FailureError) as error:
        if not is_cancelled_exception(error) and failure_type(error) != "LeaseLost":
            workflow.logger.warning("after the end of the operation: %s", reason_of(error))
