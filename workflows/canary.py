"""The canary rollout: walks a new version up its steps as far as the evidence lets it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.signatures import (
    WATCH_QUEUE,
    ApplyRequest,
    CountRequest,
    LearnRequest,
    MeshSignatures,
    ReportSignatures,
    TelemetrySignatures,
    Totals,
    WatchRequest,
    WatchResult,
)
from autopilot.evidence.model import Advance, Harm, Inconclusive, StepRule
from autopilot.mesh.model import Aspect, Lease, Target
from autopilot.report import (
    CanaryInput,
    CanaryReport,
    CanaryStatus,
    Exposure,
    Outcome,
    Phase,
    Progress,
)
from autopilot.spec.canary import CanaryStep
from autopilot.spec.units import format_seconds
from workflows.diary import Diary
from workflows.gated import GatedOperation
from workflows.narrative import canary_details
from workflows.operation import EFFECT, PROMPT, Ending, reason_of
from workflows.split import baseline_arm, split

_FULL = CanaryStep(weight=100, hold=0, min_requests=0)
_HARM_ALONE = StepRule(hold=0, min_requests=0, limit=None)
ONCE = RetryPolicy(maximum_attempts=1)


@workflow.defn(name="Canary")
class CanaryWorkflow(GatedOperation):
    """One rollout of one service."""

    @workflow.init
    def __init__(self, spec: CanaryInput) -> None:
        super().__init__()
        self.input = spec
        self.target = Target(mesh=spec.mesh, namespace=spec.namespace, service=spec.spec.target.service)
        self.diary = Diary()
        self.weight = 0.0
        self.waiting_for = ""
        self.exposure = Exposure()
        self._memory = ""
        self._learned = ""
        self._before: Totals | None = None

    @workflow.run
    async def run(self, spec: CanaryInput) -> CanaryReport:
        """Returns the report, whatever the outcome."""
        self.note(f"started{f' by {spec.caller.who}' if spec.caller.who else ''}", spec.caller.who)
        ending = await self.execute(
            self.target, (Aspect.TRAFFIC,), ttl=spec.ttl, planned_end=self.started + spec.spec.deadline
        )
        await self._count_exposure()
        report = self.report(ending)
        await self._archive(report)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return report

    @property
    def gate(self) -> int:
        """Number of the step under way, from 1."""
        return len(self.diary.steps)

    async def operate(self, lease: Lease) -> Ending:
        """Step by step: shift, watch, decide; the last step is 100 % under lease, then commit."""
        try:
            self._before = await self._count(first=True)
        except ActivityError as error:
            return Ending(Outcome.FAILED, f"nothing was written, for telemetry does not answer: {reason_of(error)}")
        if self.input.spec.analysis.dispersion is None and workflow.patched("learn-before"):
            await self._learn()
        for step in self.input.spec.walk:
            await self.shift(lease, step)
            ending = await self.earn(lease, step)
            if ending is not None:
                return ending
            if self._full is not None:
                break
        if self.weight < 100:
            await self.shift(lease, _FULL)
        await self.commit(lease)
        return Ending(Outcome.PROMOTED, self._why_promoted())

    async def shift(self, lease: Lease, step: CanaryStep) -> None:
        """Sets the step's weight, and waits until the proxies have it."""
        arms = self.input.spec.arms
        receipt = await workflow.execute_activity_method(
            MeshSignatures.apply,
            ApplyRequest(
                lease=lease,
                changes=(split(self.input.spec, step.weight),),
                canary=arms.canary,
                name=self.input.name,
            ),
            start_to_close_timeout=EFFECT,
            schedule_to_close_timeout=timedelta(seconds=90),
            retry_policy=PROMPT,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"{arms.canary} to {step.weight:g} %",
        )
        self.weight = step.weight
        self.diary.begin(step.weight, workflow.time(), receipt)
        self.enter(Phase.PROGRESSING, f"{arms.canary} gets {step.weight:g} %")

    async def earn(self, lease: Lease, step: CanaryStep) -> Ending | None:
        """Watches until the next step is earned; an ending where it never will be."""
        fresh = True
        while self._full is None:
            verdict = (await self.watch(lease, _rule(step), fresh=fresh, until=lambda: self._full is not None)).verdict
            fresh = False
            match verdict:
                case Harm():
                    return Ending(Outcome.ROLLED_BACK, verdict.reason)
                case Advance():
                    if ending := await self._gates(lease, step):
                        return ending
                    return None
                case Inconclusive(cause="leaseLost"):
                    return Ending(Outcome.INCONCLUSIVE, verdict.reason)
                case Inconclusive(cause="stopped"):
                    continue
                case Inconclusive():
                    if ending := await self._settle(lease, verdict):
                        return ending
                    if self._passes:
                        return None
                    fresh = True
        return None

    async def watch(
        self,
        lease: Lease,
        rule: StepRule,
        *,
        fresh: bool,
        until: Callable[[], bool],
        timeout: float | None = None,
        patient: bool = False,
    ) -> WatchResult:
        """One watch, until its verdict, or until `until` holds or the time is up; evidence goes from watch to watch."""
        spec = self.input.spec
        handle = workflow.start_activity_method(
            TelemetrySignatures.watch,
            WatchRequest(
                lease=lease,
                target=self.target,
                name=self.input.name,
                arms=spec.arms,
                analysis=spec.analysis,
                rule=rule,
                weight=self.weight,
                step=len(self.diary.steps),
                since=self.diary.since,
                baseline=baseline_arm(spec, self.weight),
                state=self._memory,
                fresh_step=fresh,
                patient=patient,
                temporal_grace=self.input.ttl,
            ),
            task_queue=WATCH_QUEUE,
            start_to_close_timeout=timedelta(seconds=spec.deadline + 60),
            heartbeat_timeout=timedelta(seconds=self.input.heartbeat_timeout),
            retry_policy=PROMPT,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"watch {spec.arms.canary} at {self.weight:g} %",
        )
        over: asyncio.CancelledError | None = None
        try:
            await workflow.wait_condition(lambda: handle.done() or until(), timeout=timeout)
        except TimeoutError:
            pass  # the caller's own clock says so too
        except asyncio.CancelledError as error:
            over = error  # the rollout has ended; what the watch saw until then belongs into its report
        if not handle.done():
            handle.cancel()
        try:
            result = await handle
        except ActivityError as error:
            if not is_cancelled_exception(error):
                raise
            # Stopped before any worker had taken it on: nothing was seen, nothing is forgotten.
            result = WatchResult(
                verdict=Inconclusive(cause="stopped", reason="stopped before it began"),
                state=self._memory,
                progress=Progress(time=workflow.time(), weight=self.weight, evidence=self.diary.evidence),
            )
        self._memory = result.state
        self._record(result, rule, fresh=fresh)
        if over is not None:
            raise over
        return result

    async def _gates(self, lease: Lease, step: CanaryStep) -> Ending | None:
        """Waits for whoever must agree; harm restores meanwhile."""
        if step.pause is not None and self._full is None:
            number = len(self.diary.steps)
            ending = await self._wait_for_person(
                lease,
                Phase.WAITING,
                f"approval of step {number}: `autopilot approve {workflow.info().workflow_id}`",
                lambda: self._passes > 0,
                timeout=step.pause.timeout,
                after=Outcome.PROMOTED if step.pause.on_timeout == "promote" else Outcome.INCONCLUSIVE,
            )
            if ending:
                return ending
        if self._paused is not None and self._full is None:
            return await self._wait_for_person(
                lease,
                Phase.PAUSED,
                f"`autopilot resume {workflow.info().workflow_id}`",
                lambda: self._paused is None,
            )
        return None

    async def _settle(self, lease: Lease, unknown: Inconclusive) -> Ending | None:
        """Nothing can be said: restores, or asks a person, as the spec says."""
        spec = self.input.spec
        choice = spec.analysis.no_data.then if unknown.cause == "noData" else spec.on_inconclusive
        if choice == "rollback":
            return Ending(Outcome.INCONCLUSIVE, unknown.reason)
        self._paused = None
        resumes = self._resumes
        workflow_id = workflow.info().workflow_id
        return await self._wait_for_person(
            lease,
            Phase.UNDECIDED,
            f"a decision: `autopilot resume {workflow_id}` watches this step again, "
            f"`autopilot promote {workflow_id}` goes on, `autopilot abort {workflow_id}` restores",
            lambda: self._passes > 0 or self._resumes > resumes,
        )

    async def _wait_for_person(
        self,
        lease: Lease,
        phase: Phase,
        waiting_for: str,
        answered: Callable[[], bool],
        *,
        timeout: float | None = None,
        after: Outcome = Outcome.INCONCLUSIVE,
    ) -> Ending | None:
        """Holds the weight and keeps watching for harm until a person answers; never blocks safety."""
        self._passes = 0
        self.waiting_for = waiting_for
        self.enter(phase, f"waiting for {waiting_for}")
        ends = None if timeout is None else workflow.time() + timeout
        while not (answered() or self._full is not None):
            left = None if ends is None else ends - workflow.time()
            if left is not None and left <= 0:
                if after is Outcome.PROMOTED:
                    break
                return Ending(after, f"nobody answered within {format_seconds(timeout or 0)}")
            result = await self.watch(
                lease,
                _HARM_ALONE,
                fresh=True,
                until=lambda: answered() or self._full is not None,
                timeout=left,
                patient=True,
            )
            match result.verdict:
                case Harm() as harm:
                    return Ending(Outcome.ROLLED_BACK, harm.reason)
                case Inconclusive(cause="leaseLost") as lost:
                    return Ending(Outcome.INCONCLUSIVE, lost.reason)
                case _:
                    pass  # stopped because somebody answered, or the time is up: the loop looks
        self.waiting_for = ""
        self.enter(Phase.PROGRESSING, "going on")
        return None

    # What is told

    @workflow.query(name="status", description="The rollout as it stands")
    def status(self) -> CanaryStatus:
        """The rollout as it stands."""
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
            timeline=tuple(self.timeline),
        )

    def details(self) -> str:
        """Markdown for Temporal's UI."""
        return canary_details(self.status())

    def report(self, ending: Ending) -> CanaryReport:
        """The whole story."""
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
            analysis=self.input.spec.analysis,
            learned=self._learned,
            steps=tuple(self.diary.steps),
            exposure=self.exposure,
            evidence=self.diary.evidence,
            timeline=tuple(self.timeline),
            restore_seconds=self.restore_seconds,
        )

    def _record(self, result: WatchResult, rule: StepRule, *, fresh: bool) -> None:
        self.diary.record(result, rule, fresh=fresh, ended=workflow.time())
        self.exposure = self.diary.exposure
        if not (isinstance(result.verdict, Inconclusive) and result.verdict.cause == "stopped"):
            self.note(f"step {self.gate}: {result.verdict.reason}")

    def _why_promoted(self) -> str:
        arms = self.input.spec.arms
        if self._full is not None:
            return f"{arms.canary} serves everything, by order of {self._full.caller.who}: {self._full.reason}"
        return f"{arms.canary} serves everything, {len(self.diary.steps)} steps without harm"

    async def _count_exposure(self) -> None:
        """Replaces the watches' sum by what the proxies counted from before the first shift to after the last."""
        if self._before is None or not self.diary.steps:
            return
        try:
            counted = (await self._count()).since(self._before)
        except ActivityError as error:
            self.note(f"exposure is what the watches saw, telemetry does not answer: {reason_of(error)}")
        else:
            self.exposure = counted.model_copy(update={"seconds": self._exposed_seconds()})

    def _exposed_seconds(self) -> float:
        first = self.diary.steps[0].receipt
        return workflow.time() - (first.written if first and first.written else self.diary.steps[0].started)

    async def _count(self, *, first: bool = False) -> Totals:
        """Totals as users met them; patient before the first shift, since later nothing may wait for telemetry."""
        spec = self.input.spec
        return await workflow.execute_activity_method(
            TelemetrySignatures.count,
            CountRequest(target=self.target, arms=spec.arms, analysis=spec.analysis, queries=first),
            start_to_close_timeout=timedelta(seconds=10),
            schedule_to_close_timeout=timedelta(seconds=20),
            retry_policy=PROMPT if first else ONCE,
            summary="read telemetry before anything is written" if first else "count what users met",
        )

    async def _learn(self) -> None:
        """How stable's failures clustered before: the first watch begins with it. Never a reason to wait or to fail."""
        spec = self.input.spec
        try:
            found = await workflow.execute_activity_method(
                TelemetrySignatures.learn,
                LearnRequest(target=self.target, arms=spec.arms, analysis=spec.analysis),
                start_to_close_timeout=timedelta(seconds=8),
                schedule_to_close_timeout=timedelta(seconds=10),
                retry_policy=ONCE,
                summary=f"how {spec.arms.stable}'s failures clustered before",
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            self.note(f"nothing was learned from before the rollout: {reason_of(error)}")
        else:
            self._memory = self._learned = found.state
            self.note(found.note)

    async def _archive(self, report: CanaryReport) -> None:
        try:
            await workflow.execute_activity_method(
                ReportSignatures.archive,
                report,
                start_to_close_timeout=timedelta(seconds=10),
                schedule_to_close_timeout=timedelta(seconds=60),
                retry_policy=PROMPT,
                summary="keep the report",
            )
        except ActivityError as error:
            workflow.logger.warning("the report was not archived: %s", reason_of(error))


def _rule(step: CanaryStep) -> StepRule:
    return StepRule(hold=step.hold, min_requests=step.min_requests, limit=step.limit)
