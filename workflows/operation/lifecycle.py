"""What every operation does: take a lease, start a guard, do its work, and clean up in every case."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

from activities.contracts.operation import (
    ArchiveRequest,
    HoldLeaseBeat,
    HoldLeaseRequest,
    HoldSignatures,
    OperationReportSignatures,
)
from autopilot.mesh.model import Aspect, Lease, Target
from autopilot.operations.bounds import cut
from autopilot.operations.common import NO_REASON, Caller, Outcome, Phase, ReportLike
from autopilot.operations.task_queues import watch_queue
from autopilot.wire import Wire
from workflows.operation.leased import Leased
from workflows.operation.outcomes import (
    OUTCOMES,
    Ending,
    EndOperation,
    LeaseExpired,
    failure_type,
    reason_of,
)
from workflows.operation.restore import ARCHIVING, EFFECT, PROMPT
from workflows.operation.watch_until import watch_until

_TAKES_OVER = timedelta(seconds=10)
"""Limit for taking over what the run before a reset held, where this run is to end at once."""
_PAUSED = 86400.0
"""Seconds of one hold while an operation is paused; another follows."""
_AT_THE_END = (Phase.RESTORING, Phase.CHECKING)
"""Phases of the clean-up."""


class Operation(Leased):
    """Base of all operations; `operate` is what a kind of operation adds."""

    def __init__(self, caller: Caller | None = None, *, temporal_grace: float = 0.0) -> None:
        super().__init__(caller, temporal_grace=temporal_grace)
        self._closing: Ending | None = None
        """Set once the ending is decided. A cancelled task may not notice its cancellation: an activity that completes
        in spite of it swallows the cancellation."""
        self._canceled: str | None = None
        """Why Temporal was asked to cancel the workflow, once it was."""
        self._deadline: float | None = None
        """Seconds since the epoch; None until the operation has its target."""
        self._late = False

    def enter(self, phase: Phase, text: str, who: str = "") -> None:
        """Changes the phase. Once the ending is decided, what is still under way says nothing more of going on."""
        if self._closing is not None and phase not in _AT_THE_END and workflow.patched("no-phase-after-the-ending"):
            return
        super().enter(phase, text, who)

    # What a kind of operation provides

    async def operate(self) -> Ending:
        """Does the work under the lease `held`; whatever it leaves uncommitted is restored by `execute`.

        It may raise `EndOperation`, and failures of activities.
        """
        raise NotImplementedError

    async def put_back(self) -> None:
        """Undoes what no lease covers, however the operation ended; the restore guarantee does not include it."""

    async def aftermath(self, ending: Ending) -> Ending:
        """Runs once the mesh is restored and the lease is released; may change the ending. A cancel ends it."""
        return ending

    async def conclude(self, ending: Ending) -> None:
        """Makes the report and archives it: the last thing an operation does, however it ended."""

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
        """Acquires, guards, operates, restores unless the operation committed, and concludes.

        A cancel interrupts none of it: it is one more reason to end, and no reason once the ending is decided.

        Args:
            target: what is operated on.
            aspects: the sides of it that are changed.
            ttl: seconds without renewal after which guards restore.
            lasting: seconds within which the operation ends in any case, counted from when it has the target.
            queue: whether to wait in turn where another operation holds the target.

        Raises:
            CancelledError: the operation ended because it was cancelled; its report is archived.
        """
        self._claim = lambda: self._acquire(target, aspects, ttl, lasting, queue=queue)
        if queue:
            self.enter(Phase.QUEUED, f"waiting in turn for {target}")
        whole = asyncio.create_task(self._from_lease_to_report(lasting))
        rearming = asyncio.create_task(self._rearm())
        await self._absorbing_cancels(whole.done)
        rearming.cancel()
        ending = whole.result()
        await self._absorbing_cancels(workflow.all_handlers_finished)
        if ending.canceled:
            raise asyncio.CancelledError(ending.reason)
        return ending

    async def _absorbing_cancels(self, condition: Callable[[], bool]) -> None:
        while not condition():
            try:
                await workflow.wait_condition(condition)
            except asyncio.CancelledError:
                self._canceled = workflow.cancellation_reason() or "no reason given"

    async def _from_lease_to_report(self, lasting: float) -> Ending:
        begin = asyncio.create_task(self._begin())
        ending = await self._until_begun(begin)
        work: asyncio.Task[Ending] | None = None
        if ending is None and self.lease is not None:
            self._deadline = self.started + lasting if self.lease.planned_end is None else self.lease.planned_end
            work = asyncio.create_task(self.operate())
            ending = await self._until_ended(work, self._deadline)
        assert ending is not None  # noqa: S101 - for the type checker: without a lease there is an ending
        return await self._clean_up(ending, work)

    async def _clean_up(self, ending: Ending, work: asyncio.Task[Ending] | None) -> Ending:
        """The only way to end: restores first, then tidies up, then reports."""
        ending = replace(ending, reason=cut(ending.reason))
        self._closing = ending
        if ending.outcome is not Outcome.PROMOTED:
            # Restore first: the mesh is written before a watch is cancelled or anything is reported.
            await self._restore(ending)
        if work is not None:
            await _stop(work)
        if ending.outcome is not Outcome.PROMOTED and _holder(self.lease) != _holder(self._restored):
            await self._restore(ending)  # the lease was being taken (again) when the operation ended
        await workflow.wait_condition(lambda: not self._was_reset)  # a guard that is being started is disarmed, too
        await self._disarm()
        await self.put_back()
        ending = await self._aftermath(ending)
        ending = replace(ending, reason=cut(ending.reason))
        self._end(ending)
        if not ending.canceled or workflow.patched("report-when-canceled"):
            await self.conclude(ending)
        return ending

    async def _aftermath(self, ending: Ending) -> Ending:
        if self._canceled is not None:
            return ending
        checking = asyncio.create_task(self.aftermath(ending))
        await workflow.wait_condition(lambda: checking.done() or self._canceled is not None)
        if checking.done():
            return checking.result()
        await _stop(checking)
        self.note(f"{_cancellation(self._canceled)}: nothing more is checked")
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

    async def _until_begun(self, begin: asyncio.Task[Ending | None]) -> Ending | None:
        """Waits for the lease; an operation that waits in turn can be ended."""
        await workflow.wait_condition(lambda: begin.done() or self.due() is not None)
        if begin.done():
            try:
                return begin.result()
            except (FailureError, ValidationError) as error:  # no guard, no operation
                return Ending(Outcome.FAILED, reason_of(error))
        due = self.due()
        if self._came_of_reset and workflow.patched("takes-over-before-it-ends"):
            # The run before may hold the target, and its guard is not cancelled: only a lease of this run ends that.
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(begin.done, timeout=_TAKES_OVER)
        await _stop(begin)
        return due

    def due(self) -> Ending | None:
        """The ending that a person, a cancel or the deadline orders; None while a commit can only be completed."""
        if self.phase is Phase.COMMITTING:
            return None
        if self._aborted is not None:
            reason = self._aborted.reason.strip() or f"aborted, {NO_REASON}"
            return Ending(Outcome.ABORTED, reason, self._aborted.caller)
        if self._canceled is not None:
            return Ending(Outcome.ABORTED, _cancellation(self._canceled), canceled=True)
        if self._deadline is not None and (self._late or workflow.time() >= self._deadline):
            return Ending(Outcome.INCONCLUSIVE, "the operation did not finish before its deadline")
        return None

    def go_on(self) -> None:
        """Call this before anything is written or started, and at each change of phase.

        Raises:
            EndOperation: the ending is decided, or it is due: nothing more may be written or started.
        """
        ending = self._closing or self.due()
        if ending is not None:
            raise EndOperation(ending)

    async def hold_lease(
        self, seconds: float, *, summary: str, until: Callable[[], bool] = lambda: False, temporal_grace: float = 120.0
    ) -> None:
        """Holds what is laid, with the lease renewed, until the time is over or `until` holds; a pause makes it longer.

        Raises:
            EndOperation: the ending is due, a halt came, or another operation or a person took the target.
            LeaseExpired: the lease was lost.
        """
        await self._hold(seconds, summary, until, temporal_grace)
        while self._paused is not None:
            phase = self.phase
            self.enter(Phase.PAUSED, f"holds until `autopilot resume {workflow.info().workflow_id}`")
            await self._hold(_PAUSED, "paused", lambda: self._paused is None, temporal_grace)
            self.enter(phase, "goes on")

    async def _hold(self, seconds: float, summary: str, until: Callable[[], bool], temporal_grace: float) -> None:
        self.go_on()
        handle = workflow.start_activity_method(
            HoldSignatures.hold,
            HoldLeaseRequest(lease=self.held, seconds=seconds, temporal_grace=temporal_grace),
            task_queue=watch_queue(self.held.target.mesh),
            start_to_close_timeout=timedelta(seconds=seconds) + EFFECT,
            heartbeat_timeout=timedelta(seconds=min(5.0, self.held.ttl / 4)),
            retry_policy=PROMPT,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=summary,
        )
        watched = await watch_until(handle, "operation.hold", HoldLeaseBeat, until)
        if watched.canceled is not None:
            raise watched.canceled
        ended = watched.result.ended if watched.result is not None else None
        if ended is None:
            return
        if ended.cause == "leaseLost":
            raise LeaseExpired(ended.reason)
        outcome = Outcome.ROLLED_BACK if ended.cause == "condemned" else Outcome.TAKEN_OVER
        raise EndOperation(Ending(outcome, ended.reason))

    async def archive_report(self, kind: str, report: ReportLike) -> None:
        """Archives the report of a kind that has no archive of its own."""
        request = ArchiveRequest(
            kind=kind, workflow_id=report.workflow_id, outcome=report.outcome, report=report.model_dump(mode="json")
        )
        await self.archive_by(OperationReportSignatures.archive, request)

    async def archive_by(self, archive: Callable[[Any, Any], Awaitable[str]], report: Wire) -> None:
        """Has an activity archive a report; where it cannot, Temporal's copy remains."""
        try:
            await workflow.execute_activity_method(
                archive,
                report,
                start_to_close_timeout=timedelta(seconds=10),
                schedule_to_close_timeout=ARCHIVING,
                retry_policy=PROMPT,
                summary="archive the report",
            )
        except ActivityError as error:
            workflow.logger.warning("the report was not archived, Temporal still has it: %s", reason_of(error))

    async def _until_ended(self, work: asyncio.Task[Ending], deadline: float) -> Ending:
        while not work.done():
            if (due := self.due()) is not None:
                return due
            committing, canceled = self.phase is Phase.COMMITTING, self._canceled
            # After a cancel while committing the timer is not set again: earlier versions did not.
            left = None if committing or self._late else timedelta(seconds=max(0.0, deadline - workflow.time()))
            try:
                await workflow.wait_condition(
                    functools.partial(self._is_news, work, committing=committing, canceled=canceled),
                    timeout=left,
                    timeout_summary="deadline of the operation",
                )
            except TimeoutError:
                self._late = True
                if self.phase is Phase.COMMITTING and not workflow.patched("deadline-while-committing"):
                    self._deadline = None  # the earlier version that began this commit forgot it
        return self._ending_of(work)

    def _is_news(self, work: asyncio.Task[Ending], *, committing: bool, canceled: str | None) -> bool:
        refused = committing and self.phase is not Phase.COMMITTING
        return work.done() or self.due() is not None or refused or self._canceled != canceled

    def _ending_of(self, work: asyncio.Task[Ending]) -> Ending:
        try:
            return work.result()
        except EndOperation as over:
            return over.ending
        except LeaseExpired as gone:
            return Ending(Outcome.INCONCLUSIVE, f"the lease was lost: {gone}")
        except ValidationError as error:
            return Ending(Outcome.FAILED, f"a result of a later or an earlier version cannot be read: {error}")
        except FailureError as error:
            outcome = OUTCOMES.get(failure_type(error), Outcome.FAILED)
            lost = "the lease was lost: " if outcome is Outcome.INCONCLUSIVE else ""
            return Ending(outcome, lost + reason_of(error))


def _holder(lease: Lease | None) -> str:
    return str(lease.holder) if lease is not None else ""


def _cancellation(reason: str | None) -> str:
    return f"cancelled: {reason}"


async def _stop(task: asyncio.Task[Any]) -> None:
    if not task.done():
        task.cancel()
    try:
        await task
    except (EndOperation, LeaseExpired) as error:
        workflow.logger.info("ignored, since the operation has ended: %s", error)
    except (asyncio.CancelledError, FailureError) as error:
        if not is_cancelled_exception(error) and failure_type(error) not in OUTCOMES:
            workflow.logger.warning("a task failed after the operation had ended: %s", reason_of(error))
