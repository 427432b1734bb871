"""Operations that are judged: one long activity at a time watches, and hands its evidence to the next.

Waiting (for a person, or for the end of a halt) never blocks safety: a watch looks for harm meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.contracts.operation import HaltRule, TelemetrySignatures, WatchBeat, WatchRequest, WatchResult
from autopilot.evidence.model import Harm, Inconclusive, StepRule
from autopilot.mesh.model import Target
from autopilot.mesh.traffic_split import baseline_arm
from autopilot.operations.canary_status import Progress
from autopilot.operations.common import Exposure, Outcome, Phase
from autopilot.operations.task_queues import watch_queue
from autopilot.reports.canary import CanaryInput
from autopilot.spec.values.units import format_seconds
from workflows.canary.approvals import GatedOperation
from workflows.canary.record import RolloutRecord
from workflows.operation.outcomes import Ending, EndOperation, LeaseExpired, failure_type, reason_of
from workflows.operation.restore import PROMPT
from workflows.operation.watch_until import watch_until

HARM_ALONE = StepRule(hold=0, min_requests=0, limit=None)
_T = TypeVar("_T")


class JudgedOperation(GatedOperation):
    """Watches two arms of a target; whenever it waits, a watch is running."""

    def __init__(self, spec: CanaryInput) -> None:
        super().__init__(spec.caller, temporal_grace=spec.temporal_grace)
        self.input = spec
        self.target = Target(mesh=spec.mesh, namespace=spec.namespace, service=spec.spec.target.service)
        self.analysis = spec.spec.analysis
        """How it is judged; with the latency boundaries that stable asks for, once these are known."""
        self.diary = RolloutRecord()
        self.weight = 0.0
        """Weight of the canary in percent, as last set."""
        self.waiting_for = ""
        self.exposure = Exposure()
        self._memory = ""
        """The state of the judge, as JSON."""

    @property
    def gate(self) -> int:
        """Number of the current step, from 1."""
        return len(self.diary.steps)

    async def watch(
        self,
        rule: StepRule,
        *,
        fresh: bool,
        until: Callable[[], bool],
        timeout: float | None = None,
        patient: bool = False,
        halt: HaltRule = "end",
        record: bool = True,
    ) -> WatchResult:
        """Runs a watch until it has a verdict, `until` holds, or the time is up; keeps the evidence for the next one.

        Raises:
            LeaseExpired: the lease was lost.
            EndOperation: somebody took the target, or the lease was condemned.
        """
        self.go_on()
        spec = self.input.spec
        record = record and not self.diary.full  # ticks that nobody would keep are in the history all the same
        handle = workflow.start_activity_method(
            TelemetrySignatures.watch,
            WatchRequest(
                lease=self.held,
                target=self.target,
                name=self.input.name,
                arms=spec.arms,
                analysis=self.analysis,
                rule=rule,
                weight=self.weight,
                step=len(self.diary.steps),
                since=self.diary.since,
                baseline=baseline_arm(spec, self.weight),
                some_rules=spec.routes.some,
                state=self._memory,
                fresh_step=fresh,
                patient=patient,
                halt=halt,
                temporal_grace=self.input.temporal_grace,
                record=record,
            ),
            task_queue=watch_queue(self.target.mesh),
            start_to_close_timeout=timedelta(seconds=spec.deadline + 60),
            heartbeat_timeout=timedelta(seconds=self.input.heartbeat_timeout),
            retry_policy=PROMPT,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"watch {spec.arms.canary} at {self.weight:g} %",
        )
        watched = await watch_until(handle, "telemetry.watch", WatchBeat, until, timeout=timeout)
        result = watched.result or self._as_told(watched.beat)
        if self.diary.steps:  # before the first step there is nothing to judge and no step to record it in
            self._memory = result.state
            self._record(result, rule, fresh=fresh, recorded=record)
        if watched.canceled is not None:
            raise watched.canceled
        match result.verdict:
            case Inconclusive(cause="leaseLost"):
                raise LeaseExpired(result.verdict.reason)
            case Inconclusive(cause="condemned"):
                raise EndOperation(Ending(Outcome.ROLLED_BACK, result.verdict.reason))
            case Inconclusive(cause="takenOver"):
                raise EndOperation(Ending(Outcome.TAKEN_OVER, result.verdict.reason))
            case _:
                return result

    def _as_told(self, beat: WatchBeat | None) -> WatchResult:
        """What a watch had found that could not answer any more."""
        verdict = Inconclusive(cause="stopped", reason="the watch was stopped while no worker had it")
        if beat is not None:
            return WatchResult(
                verdict=verdict, state=beat.state, progress=beat.progress, ticks=beat.ticks, judge=beat.judge
            )
        progress = Progress(time=workflow.time(), weight=self.weight, evidence=self.diary.evidence)
        return WatchResult(verdict=verdict, state=self._memory, progress=progress)

    async def wait_for_person(
        self,
        phase: Phase,
        waiting_for: str,
        answered: Callable[[], bool],
        *,
        timeout: float | None = None,
        after: Outcome = Outcome.INCONCLUSIVE,
    ) -> Ending | None:
        """Holds the weight and watches for harm until a person answers."""
        self._passes = 0
        self.waiting_for = waiting_for
        self.enter(phase, f"waiting for {waiting_for}")
        ends = None if timeout is None else workflow.time() + timeout
        while not (answered() or self._full is not None):
            left = None if ends is None else ends - workflow.time()
            if left is not None and left <= 0:
                if after is Outcome.PROMOTED:
                    break
                return Ending(after, f"no approval or decision came within {format_seconds(timeout or 0)}")
            result = await self._watch_for_harm(
                until=lambda: answered() or self._full is not None, fresh=True, timeout=left, halt="ignore"
            )
            if isinstance(result.verdict, Harm):
                return Ending(Outcome.ROLLED_BACK, result.verdict.reason)
            # Otherwise somebody answered or the time is up: the loop checks which.
        self.waiting_for = ""
        self.enter(Phase.PROGRESSING, "continues")
        return None

    async def _watch_for_harm(
        self, *, until: Callable[[], bool], fresh: bool, halt: HaltRule, timeout: float | None = None
    ) -> WatchResult:
        """A watch while something else is waited for. Its record has a limit; without a record it goes on for weeks."""
        ends = None if timeout is None else workflow.time() + timeout
        rule = HARM_ALONE.model_copy(update={"alone": self.weight >= 100})
        result = await self.watch(rule, fresh=fresh, until=until, timeout=timeout, patient=True, halt=halt)
        if not result.full or until():
            return result
        self.note("what is seen from here on is judged and no longer recorded: the wait has become long")
        left = None if ends is None else max(0.0, ends - workflow.time())
        return await self.watch(rule, fresh=False, until=until, timeout=left, patient=True, halt=halt, record=False)

    async def heeding_halts(self, act: Callable[[], Awaitable[_T]]) -> _T:
        """Runs `act`; if a halt refuses it, holds the step until the halt is released, and runs it again."""
        while True:
            try:
                return await act()
            except ActivityError as error:
                if failure_type(error) != "Halted":
                    raise
                await self.sit_out(reason_of(error))

    async def sit_out(self, reason: str) -> None:
        """Holds the weight and watches for harm until the halt is released.

        Raises:
            EndOperation: harm was found meanwhile.
        """
        self.enter(Phase.HALTED, reason)
        result = await self._watch_for_harm(until=lambda: False, fresh=False, halt="over")
        if isinstance(result.verdict, Harm):
            raise EndOperation(Ending(Outcome.ROLLED_BACK, result.verdict.reason))
        self.enter(Phase.PROGRESSING, "the halt was released: continues")

    def _record(self, result: WatchResult, rule: StepRule, *, fresh: bool, recorded: bool) -> None:
        self.diary.record(result, rule, fresh=fresh, ended=workflow.time(), recorded=recorded)
        self.exposure = self.diary.exposure
        if not (isinstance(result.verdict, Inconclusive) and result.verdict.cause == "stopped"):
            self.note(f"step {self.gate}: {result.verdict.reason}")
