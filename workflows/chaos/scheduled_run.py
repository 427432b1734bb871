"""One run of a schedule: asks whether the operation may run now, starts it or skips it, and leaves a record."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError

from activities.contracts.schedule import Answer, AskRequest, EndRunRequest, ScheduleSignatures, Started, StartRequest
from autopilot.operations.common import Caller, Command
from autopilot.operations.task_queues import watch_queue
from autopilot.reports.schedule import Counted, Missed, RunRecord, ScheduledInput
from workflows.operation.outcomes import reason_of

_DUE = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
"""Set by Temporal: when the cron was due, without the jitter."""
_EFFECT = timedelta(seconds=30)
_HEARTBEAT = timedelta(seconds=10)
_ARCHIVING = timedelta(minutes=2)
_RETRIES = RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=10))


@workflow.defn(name="ScheduledRun")
class ScheduledRun:
    """Short, unless it waits for the previous run. Temporal starts no second one meanwhile: at most one waits."""

    @workflow.init
    def __init__(self, wanted: ScheduledInput) -> None:
        self._wanted = wanted
        self._operation = wanted.scheduled
        self._scheduled = _scheduled()
        self._before = None if wanted.hand else workflow.get_last_completion_result(RunRecord)
        self._missed: tuple[Missed, ...] = ()
        self._more_missed = False
        self._counted: Counted | None = None if self._before is None else self._before.counted
        self._until = max(self._scheduled, self._before.until if self._before else 0.0)
        self._decided = self._scheduled
        self._waited = 0.0
        self._record = self._note("waiting", "checking whether it may run")

    @workflow.run
    async def run(self, wanted: ScheduledInput) -> RunRecord:
        """Decides, acts, and returns the record."""
        answer = await self._ask()
        if answer.decision.kind in ("wait", "replace"):
            answer = await self._wait(answer)
        if answer.decision.kind == "start":
            started = await self._start()
            if started.held:
                self._record = self._note("skipped", f"{started.held} is running: somebody else started it just before")
            else:
                self._record = self._note("started", answer.decision.reason, started.run_id)
        else:
            self._record = self._note("skipped", answer.decision.reason)
        await self._archive()
        return self._record

    @workflow.query(name="record", description="The record of this run of the schedule so far")
    def record(self) -> RunRecord:
        """The record so far."""
        return self._record

    async def _ask(self, waited_since: float | None = None) -> Answer:
        told = self._until if waited_since is not None else self._before.until if self._before else None
        answer = await workflow.execute_activity_method(
            ScheduleSignatures.ask,
            AskRequest(
                wanted=self._wanted,
                run=workflow.info().workflow_id,
                scheduled=self._scheduled,
                after=told,
                counted=self._counted,
                waited_since=waited_since,
                waited_for=workflow.info().workflow_id if waited_since is not None else "",
            ),
            start_to_close_timeout=_EFFECT,
            retry_policy=_RETRIES,
            summary="check whether it may run now",
        )
        self._missed += answer.missed
        self._more_missed |= answer.more_missed
        self._counted = answer.counted or self._counted
        self._decided = answer.now
        return answer

    async def _wait(self, answer: Answer) -> Answer:
        """Waits for the previous run, and aborts it if the schedule says so; then asks again, since time has passed."""
        self._record = self._note("waiting", answer.decision.reason)
        if answer.running is not None:
            await workflow.execute_activity_method(
                ScheduleSignatures.wait,
                EndRunRequest(
                    running=answer.running,
                    limit=self._operation.deadline,
                    abort=self._abort() if answer.decision.kind == "replace" else None,
                ),
                task_queue=watch_queue(self._operation.mesh),
                start_to_close_timeout=timedelta(seconds=self._operation.deadline) + _EFFECT,
                heartbeat_timeout=_HEARTBEAT,
                retry_policy=_RETRIES,
                summary=answer.decision.reason,
            )
        again = await self._ask(waited_since=answer.now)
        self._until, self._waited = max(self._until, again.now), again.now - answer.now
        return again

    def _abort(self) -> Command:
        return Command(
            caller=self._caller(), reason="the next scheduled run replaces it (schedule.overlap: cancelOther)"
        )

    def _caller(self) -> Caller:
        hand = self._wanted.hand
        return hand.caller if hand else Caller(who=f"schedule {self._wanted.id}")

    async def _start(self) -> Started:
        caller, token = self._caller(), workflow.info().run_id
        if (experiment := self._wanted.experiment) is not None:  # as earlier versions of workers read it
            given = {"schedule": self._wanted.id, "caller": caller}
            request = StartRequest(experiment=experiment.model_copy(update=given), token=token)
        else:
            request = StartRequest(operation=self._operation.run_by(self._wanted.id, caller), token=token)
        return await workflow.execute_activity_method(
            ScheduleSignatures.start,
            request,
            start_to_close_timeout=_EFFECT,
            retry_policy=_RETRIES,
            summary=f"start {self._operation.workflow_id}",
        )

    async def _archive(self) -> None:
        try:
            await workflow.execute_activity_method(
                ScheduleSignatures.archive,
                self._record,
                start_to_close_timeout=_EFFECT,
                schedule_to_close_timeout=_ARCHIVING,
                retry_policy=_RETRIES,
                summary="archive the record",
            )
        except ActivityError as error:  # Temporal keeps it too, for a while: the next run must not wait for a disk
            workflow.logger.warning("the record of %s was not archived: %s", self._record.run, reason_of(error))

    def _note(self, decision: Literal["started", "skipped", "waiting"], reason: str, run_id: str = "") -> RunRecord:
        workflow.set_current_details(f"**{decision}**: {reason}")
        return RunRecord(
            schedule=self._wanted.id,
            run=workflow.info().workflow_id,
            scheduled=self._scheduled,
            decided=self._decided,
            decision=decision,
            reason=reason,
            by=self._wanted.hand.caller.who if self._wanted.hand else "",
            experiment=self._operation.workflow_id if run_id else "",
            experiment_run=run_id,
            waited=self._waited,
            missed=self._missed,
            more_missed=self._more_missed,
            until=self._until,
            counted=self._counted or Counted(),
        )


def _scheduled() -> float:
    """When the cron was due; the start time where no schedule started it."""
    info = workflow.info()
    due = info.typed_search_attributes.get(_DUE)
    return (due or info.start_time).timestamp()
