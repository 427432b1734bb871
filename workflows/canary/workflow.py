"""The canary rollout: raises the new version's weight step by step, as long as the evidence allows it."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.contracts.operation import (
    CountRequest,
    LearnRequest,
    ReportSignatures,
    TelemetrySignatures,
    Totals,
)
from autopilot.evidence.configuration import UNKNOWN, open_boundaries, with_boundaries
from autopilot.evidence.model import Advance, Harm, Inconclusive, StepRule
from autopilot.mesh.model import Aspect, Receipt
from autopilot.mesh.traffic_split import split
from autopilot.operations.canary_status import CanaryStatus
from autopilot.operations.common import Event, Outcome, Phase
from autopilot.reports.canary import CanaryInput, CanaryReport
from autopilot.reports.size import fitted_canary
from autopilot.spec.canary import CanaryStep
from workflows.canary.analysis import JudgedOperation
from workflows.operation.outcomes import Ending, EndOperation, LeaseExpired, reason_of
from workflows.operation.restore import PROMPT
from workflows.operation.ui_details import canary_details

_FULL = CanaryStep(weight=100, hold=0, min_requests=0)
ONCE = RetryPolicy(maximum_attempts=1)


@workflow.defn(name="Canary")
class CanaryWorkflow(JudgedOperation):
    """One rollout of one service."""

    @workflow.init
    def __init__(self, spec: CanaryInput) -> None:
        super().__init__(spec)
        self._learned = ""
        self._again = False
        """Whether the current step must be applied again because its lease was lost."""
        self._before: Totals | None = None
        self._report: CanaryReport | None = None

    @workflow.run
    async def run(self, spec: CanaryInput) -> CanaryReport:
        """Returns the report, whatever the outcome."""
        self.note(f"started{f' by {spec.caller.who}' if spec.caller.who else ''}", spec.caller.who)
        ending = await self.execute(
            self.target, (Aspect.TRAFFIC,), ttl=spec.ttl, lasting=spec.spec.deadline, queue=spec.queue
        )
        return self._report or self.report(ending)

    def at_base(self) -> None:
        """The canary gets nothing more."""
        self.weight = 0.0

    async def conclude(self, ending: Ending) -> None:
        """Counts what users met, and archives the report."""
        await self._count_exposure()
        self._report = fitted_canary(self.report(ending))
        await self.archive_by(ReportSignatures.archive, self._report)

    async def operate(self) -> Ending:
        """Step by step: shift, watch, decide; the last step is 100 % under lease, then commit."""
        try:
            self._before = await self._count(first=True)
        except ActivityError as error:
            return Ending(Outcome.FAILED, f"telemetry does not answer, so nothing was written: {reason_of(error)}")
        for lacking in self._before.notes:
            self.note(lacking)
        open_ended = self.analysis.dispersion is None and workflow.patched("learn-before")
        if open_ended or (open_boundaries(self.analysis) and workflow.patched("follow-latency")):
            await self._learn()
        self.analysis = with_boundaries(self.analysis, UNKNOWN)
        left = list(self.input.spec.walk)
        while True:
            try:
                return await self._walk(left)
            except LeaseExpired as gone:
                await self._come_back(gone)

    async def _walk(self, left: list[CanaryStep]) -> Ending:
        """Runs the remaining steps and removes each from the list; the last one stays until the commit is done."""
        while left and self._full is None:
            await self.shift(left[0])
            ending = await self.earn(left[0])
            if ending is not None:
                return ending
            if len(left) == 1:
                break
            del left[0]
        if self.weight < 100:
            await self.shift(_FULL)
        await self.heeding_halts(self.commit)
        return Ending(Outcome.PROMOTED, self._why_promoted())

    async def shift(self, step: CanaryStep) -> None:
        """Sets the step's weight, and waits until the proxies report it."""
        receipt = await self.heeding_halts(lambda: self._apply(step))
        self.audited.append(receipt.audit)
        self.weight = step.weight
        self.diary.begin(step.weight, workflow.time(), receipt, again=self._again)
        self._again = False
        self.enter(Phase.PROGRESSING, f"{self.input.spec.arms.canary} gets {step.weight:g} %")

    async def _apply(self, step: CanaryStep) -> Receipt:
        canary = self.input.spec.arms.canary
        return await self.lay(
            (split(self.input.spec, step.weight),),
            summary=f"{canary} to {step.weight:g} %",
            why=f"step {self.gate if self._again else self.gate + 1}",
            canary=canary,
            name=self.input.name,
        )

    async def _come_back(self, gone: LeaseExpired) -> None:
        """After a lost lease, with the mesh at its base: applies the step again, asks, or ends (`onLeaseLost`).

        Evidence of harm is kept; evidence that the canary is good starts again with the step.
        """
        choice = self.input.spec.on_lease_lost
        if choice == "rollback" or not workflow.patched("regain-lease"):
            raise EndOperation(Ending(Outcome.INCONCLUSIVE, str(gone)))
        await self.regain(gone)
        self.weight, self._again = 0.0, True
        if choice == "hold":
            workflow_id = workflow.info().workflow_id
            resumes = self._resumes
            ending = await self.wait_for_person(
                Phase.UNDECIDED,
                f"a decision: the lease was lost and the mesh is at its base. `autopilot resume {workflow_id}` "
                f"applies the step again, `autopilot abort {workflow_id}` ends the rollout",
                lambda: self._passes > 0 or self._resumes > resumes,
            )
            if ending:
                raise EndOperation(ending)

    async def earn(self, step: CanaryStep) -> Ending | None:
        """Watches until the evidence allows the next step; returns an ending where the rollout must end instead."""
        fresh = True
        while self._full is None:
            verdict = (await self.watch(_rule(step), fresh=fresh, until=lambda: self._full is not None)).verdict
            fresh = False
            match verdict:
                case Harm():
                    return Ending(Outcome.ROLLED_BACK, verdict.reason)
                case Advance():
                    return await self._gates(step)
                case Inconclusive(cause="halted"):
                    await self.sit_out(verdict.reason)
                case Inconclusive(cause="stopped"):
                    continue
                case Inconclusive():
                    if ending := await self._settle(verdict):
                        return ending
                    if self._passes:
                        return None
                    fresh = True
        return None

    async def _gates(self, step: CanaryStep) -> Ending | None:
        """Waits for the approval; if harm is found meanwhile, the rollout is restored."""
        if step.pause is not None and self._full is None:
            number = len(self.diary.steps)
            ending = await self.wait_for_person(
                Phase.WAITING,
                f"approval of step {number}: `autopilot approve {workflow.info().workflow_id}`",
                lambda: self._passes > 0,
                timeout=step.pause.timeout,
                after=Outcome.PROMOTED if step.pause.on_timeout == "promote" else Outcome.INCONCLUSIVE,
            )
            if ending:
                return ending
        if self._paused is not None and self._full is None:
            return await self.wait_for_person(
                Phase.PAUSED,
                f"`autopilot resume {workflow.info().workflow_id}`",
                lambda: self._paused is None,
            )
        return None

    async def _settle(self, unknown: Inconclusive) -> Ending | None:
        """The evidence decides nothing: restores, or asks a person, as the spec says."""
        spec = self.input.spec
        choice = spec.analysis.no_data.then if unknown.cause == "noData" else spec.on_inconclusive
        if choice == "rollback":
            return Ending(Outcome.INCONCLUSIVE, unknown.reason)
        self._paused = None
        resumes = self._resumes
        workflow_id = workflow.info().workflow_id
        return await self.wait_for_person(
            Phase.UNDECIDED,
            f"a decision: `autopilot resume {workflow_id}` watches this step again, "
            f"`autopilot promote {workflow_id}` goes to the next step, `autopilot abort {workflow_id}` restores",
            lambda: self._passes > 0 or self._resumes > resumes,
        )

    # Reporting

    @workflow.query(name="status", description="The current state of the rollout")
    def status(self) -> CanaryStatus:
        """The current state of the rollout."""
        return self._standing(self.timeline)

    def _standing(self, timeline: tuple[Event, ...]) -> CanaryStatus:
        spec = self.input.spec
        return CanaryStatus(
            workflow_id=workflow.info().workflow_id,
            phase=self.phase,
            outcome=self.ending.outcome if self.ending else None,
            reason=self.ending.reason if self.ending else "",
            mesh=self.target.mesh,
            namespace=self.target.namespace,
            service=self.target.service,
            stable=spec.arms.stable,
            canary=spec.arms.canary,
            step=len(self.diary.steps),
            steps=tuple(step.weight for step in spec.walk),
            weight=self.weight,
            started=self.started,
            paused_by=self._paused.caller.who if self._paused else "",
            waiting_for=self.waiting_for,
            exposure=self.exposure,
            evidence=self.diary.evidence,
            evidence_time=self.diary.evidence_time,
            timeline=timeline,
        )

    def details(self) -> str:
        """Markdown for Temporal's UI."""
        return canary_details(self._standing(self.last_lines))

    def report(self, ending: Ending) -> CanaryReport:
        """The complete report."""
        arms = self.input.spec.arms
        return CanaryReport(
            outcome=ending.outcome,
            reason=ending.reason,
            workflow_id=workflow.info().workflow_id,
            mesh=self.target.mesh,
            namespace=self.target.namespace,
            service=self.target.service,
            stable=arms.stable,
            canary=arms.canary,
            started=self.started,
            ended=workflow.time(),
            analysis=self.analysis,
            learned=self._learned,
            steps=tuple(self.diary.steps),
            exposure=self.exposure,
            evidence=self.diary.evidence,
            timeline=self.timeline,
            audit=tuple(digest for digest in self.audited if digest),
            restore_seconds=self.restore_seconds,
        )

    def _why_promoted(self) -> str:
        arms = self.input.spec.arms
        if self._full is not None:
            return f"{arms.canary} serves all traffic, ordered by {self._full.caller.who}: {self._full.reason}"
        return f"{arms.canary} serves all traffic; no harm was found in {len(self.diary.steps)} steps"

    async def _count_exposure(self) -> None:
        """Replaces the watches' sum by what the proxies counted from before the first shift to after the last."""
        if self._before is None or not self.diary.steps:
            return
        try:
            counted = (await self._count()).since(self._before)
        except ActivityError as error:
            self.note(f"telemetry does not answer, so exposure counts only what the watches saw: {reason_of(error)}")
        else:
            self.exposure = counted.model_copy(update={"seconds": self._exposed_seconds()})

    def _exposed_seconds(self) -> float:
        first = self.diary.steps[0].receipt
        return workflow.time() - (first.written if first and first.written else self.diary.steps[0].started)

    async def _count(self, *, first: bool = False) -> Totals:
        """Totals in the user view. Waits longer before the first shift; later nothing may wait for telemetry."""
        spec = self.input.spec
        return await workflow.execute_activity_method(
            TelemetrySignatures.count,
            CountRequest(target=self.target, arms=spec.arms, analysis=self.analysis, queries=first, fresh=first),
            start_to_close_timeout=timedelta(seconds=50 if first else 10),
            schedule_to_close_timeout=timedelta(seconds=60 if first else 20),
            heartbeat_timeout=timedelta(seconds=self.input.heartbeat_timeout),
            retry_policy=PROMPT if first else ONCE,
            summary="read telemetry before anything is written" if first else "count the exposure",
        )

    async def _learn(self) -> None:
        """Learns how stable's failures clustered and how long its requests took, which the rollout can do without."""
        spec = self.input.spec
        try:
            found = await workflow.execute_activity_method(
                TelemetrySignatures.learn,
                LearnRequest(target=self.target, arms=spec.arms, analysis=self.analysis, weight=spec.walk[0].weight),
                start_to_close_timeout=timedelta(seconds=12),
                schedule_to_close_timeout=timedelta(seconds=15),
                retry_policy=ONCE,
                summary=f"learn how failures of {spec.arms.stable} clustered before the rollout",
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            self.note(f"nothing was learned from the time before the rollout: {reason_of(error)}")
        else:
            self._memory = self._learned = found.state
            self.note(found.note)
            if found.boundaries:
                self.analysis = with_boundaries(self.analysis, found.boundaries)


def _rule(step: CanaryStep) -> StepRule:
    return StepRule(hold=step.hold, min_requests=step.min_requests, limit=step.limit, alone=step.weight >= 100)
