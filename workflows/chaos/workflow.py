"""The chaos experiment: checks the hypothesis, lays faults step by step, and checks it again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.contracts.chaos import (
    ActRequest,
    Baseline,
    ExperimentSignatures,
    Held,
    Preflight,
    PreflightRequest,
    Steady,
)
from autopilot.mesh.model import Aspect, Change, InjectFault, Receipt
from autopilot.operations.common import Outcome, Phase
from autopilot.operations.experiment_status import Acted, Effect, ExperimentStatus
from autopilot.reports.experiment import ExperimentInput, ExperimentReport
from autopilot.reports.size import fitted_experiment, fitted_status
from autopilot.spec.chaos.experiment import Action, MethodStep
from workflows.chaos.record import ExperimentOperation
from workflows.chaos.verdicts import after_restore, of_method, verdict_of
from workflows.operation.outcomes import Ending, EndOperation, failure_type, reason_of
from workflows.operation.restore import PROMPT
from workflows.operation.ui_details import LINES, experiment_details

FEW = RetryPolicy(
    initial_interval=timedelta(milliseconds=500),
    backoff_coefficient=2,
    maximum_attempts=4,
)
"""Retries of what may fail after a short time: an action, or a check before anything was changed."""


@workflow.defn(name="Chaos")
class ChaosWorkflow(ExperimentOperation):
    """One experiment on one service."""

    @workflow.init
    def __init__(self, spec: ExperimentInput) -> None:
        super().__init__(spec)
        self._done: list[tuple[int, int, Action]] = []
        """Actions that were taken, in order."""
        self._report: ExperimentReport | None = None

    @workflow.run
    async def run(self, spec: ExperimentInput) -> ExperimentReport:
        """Returns the report, whatever the verdict."""
        self.note(f"started{f' by {spec.caller.who}' if spec.caller.who else ''}", spec.caller.who)
        ending = await self.execute(
            self.target,
            (Aspect.FAULTS, Aspect.RESILIENCE),
            ttl=spec.ttl,
            lasting=spec.spec.deadline,
            queue=spec.queue,
        )
        return self._report or self.report(ending)

    async def conclude(self, ending: Ending) -> None:
        """Archives the report; where the hypothesis failed, pauses the schedule first."""
        await self.pause_schedule(ending)
        self._report = fitted_experiment(self.report(ending))
        await self.archive_by(ExperimentSignatures.archive, self._report)

    async def operate(self) -> Ending:
        """Checks whether it may start and whether the hypothesis holds; then runs the method step by step."""
        try:
            preflight = await self._preflight()
        except ActivityError as error:
            if is_cancelled_exception(error) or failure_type(error) in ("LeaseLost", "TakenOver", "Condemned"):
                raise
            return Ending(Outcome.VOID, f"not started and nothing was written: {reason_of(error)}")
        for note in preflight.notes:
            self.note(note)
        self.enter(Phase.CHECKING, "checking the hypothesis before any fault or action")
        before = await self.check("before", lease=self.held)
        if ending := _not_steady(before):
            return ending
        findings: list[Held] = []
        for number, step in enumerate(self.input.spec.method, start=1):
            held = await self._step(number, step, preflight)
            findings.append(held)
            if held.cause != "held":
                break
        return of_method(findings, self.steps)

    async def _preflight(self) -> Preflight:
        self.go_on()
        return await workflow.execute_activity_method(
            ExperimentSignatures.preflight,
            PreflightRequest(lease=self.held, spec=self.input.spec),
            start_to_close_timeout=timedelta(seconds=60),
            schedule_to_close_timeout=timedelta(seconds=90),
            heartbeat_timeout=timedelta(seconds=self.input.heartbeat_timeout),
            retry_policy=FEW,
            summary="check whether the experiment may start",
        )

    async def _step(self, number: int, step: MethodStep, preflight: Preflight) -> Held:
        """Lays the step's faults, takes its actions, and watches for the step's hold time."""
        effects = preflight.effects[number - 1]
        receipt = None
        if step.faults or self.laid:
            self.signs = preflight.signs[number - 1] or self.signs
            receipt = await self._lay(number)
        self.begin_step(number, step, receipt, effects)
        taken = await self._actions(number, step.actions, preflight.baseline, effects) if step.actions else None
        if taken is not None and taken.cause != "held":
            self.end_step(taken)
            return taken
        held = await self.hold(number, step.hold, preflight.baseline, effects)
        if taken is not None:
            held = self.joined(taken, held)
        while held.cause == "held" and self._paused is not None:
            self.enter(Phase.PAUSED, f"waiting for `autopilot resume {workflow.info().workflow_id}`")
            more = await self.hold(number, None, preflight.baseline, effects, until=lambda: self._paused is None)
            held = self.joined(held, more)
        self.end_step(held)
        return held

    async def _actions(
        self, number: int, actions: Sequence[Action], baseline: Baseline, effects: tuple[Effect, ...]
    ) -> Held:
        """Takes a step's actions while a watch runs: the faults are in force already, and a drain may take minutes.

        Raises:
            EndOperation: one could not be taken.
        """

        async def take() -> None:
            for index, action in enumerate(actions):
                await self._act(number, index, action)

        taking = asyncio.create_task(take())
        try:
            held = await self.hold(number, None, baseline, effects, until=taking.done)
        finally:
            taking.cancel()
            await workflow.wait([taking])
        failure = None if taking.cancelled() else taking.exception()
        if held.cause != "held" or failure is None:
            return held
        if isinstance(failure, ActivityError) and not is_cancelled_exception(failure):
            raise EndOperation(Ending(Outcome.FAILED, f"step {number}: {reason_of(failure)}")) from failure
        raise failure

    async def _lay(self, number: int) -> Receipt:
        changes = self.changes(number)
        receipt = await self.lay(
            changes, summary=f"step {number}: {_words(changes)}", why=f"step {number}", name=self.input.name
        )
        self.laid = bool(changes)
        self.audited.append(receipt.audit)
        return receipt

    async def _act(self, number: int, index: int, action: Action) -> None:
        self.go_on()
        self._done.append((number, index, action))  # before the action: if it fails half-way, it is undone too
        acted = await self._take(ExperimentSignatures.act, number, index, action)
        self.acted(acted)

    async def _take(
        self,
        method: Callable[[ExperimentSignatures, ActRequest], Awaitable[Acted]],
        number: int,
        index: int,
        action: Action,
    ) -> Acted:
        undoing = method is ExperimentSignatures.undo
        request = ActRequest(
            target=self.target,
            action=action,
            key=f"{workflow.info().workflow_id}/{workflow.info().run_id}/{number}/{index}",
            by=self.by(f"step {number}"),
            lease=None if undoing else self.lease,
        )
        return await workflow.execute_activity_method(
            method,
            request,
            start_to_close_timeout=timedelta(seconds=120),
            schedule_to_close_timeout=timedelta(hours=1) if undoing else timedelta(seconds=300),
            heartbeat_timeout=timedelta(seconds=self.input.heartbeat_timeout),
            retry_policy=PROMPT if undoing else FEW,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"step {number}: {'undo ' if undoing else ''}{action.type}",
        )

    async def put_back(self) -> None:
        """Undoes the actions, the last one first."""
        for number, index, action in reversed(self._done):
            try:
                acted = await self._take(ExperimentSignatures.undo, number, index, action)
                self.acted(acted)
            except ActivityError as error:
                self.leave(f"{action.type} could not be undone: {reason_of(error)}")

    async def aftermath(self, ending: Ending) -> Ending:
        """Checks the hypothesis again after the restore."""
        if not self.steps or not self.answers(ending):
            return ending
        self.enter(Phase.CHECKING, "checking the hypothesis again after the restore")
        await workflow.sleep(self.input.spec.settle, summary="settle")
        try:
            after = await self.check("after", signs=self.signs)
        except ActivityError as error:
            return after_restore(ending, None, reason_of(error))
        if after.untold:
            self.note(f"whether requests met a fault after it was removed cannot be told: {after.untold}")
        return after_restore(ending, after, "")

    # Reporting

    @workflow.query(name="status", description="The current state of the experiment")
    def status(self) -> ExperimentStatus:
        """The current state of the experiment."""
        return fitted_status(self.standing(self.probes, self.timeline))

    def details(self) -> str:
        """Markdown for Temporal's UI."""
        return experiment_details(self.standing(self.probes[-LINES:], self.last_lines))

    def report(self, ending: Ending) -> ExperimentReport:
        """The complete report."""
        return self.story(ending, verdict_of(ending))

    def changes(self, number: int) -> tuple[Change, ...]:
        """What one step lays."""
        return tuple(
            InjectFault(fault=fault, scope=scope, salt=self.input.workflow_id)
            for of, fault, scope in self.input.spec.injections
            if of == number
        )


def _not_steady(found: Steady) -> Ending | None:
    """Why the method does not start; None where the hypothesis holds."""
    if found.ended:
        outcome = Outcome.TAKEN_OVER if found.ended in ("takenOver", "halted") else Outcome.INCONCLUSIVE
        return Ending(outcome, found.reason)
    for verdict in ("fail", "inconclusive"):
        for record in found.probes:
            if record.verdict == verdict:
                said = "does not hold" if verdict == "fail" else "cannot be measured"
                return Ending(
                    Outcome.VOID,
                    f"not started and nothing was written: the hypothesis {said} before the method "
                    f"({record.name}: {record.reason})",
                )
    return None


def _words(changes: tuple[Change, ...]) -> str:
    return "; ".join(change.words for change in changes) or "nothing"
