"""Operations that are judged: watched by one long activity at a time, whose evidence goes from each to the next.

Nothing an operation waits for (a person, the stop button) blocks safety: it waits under a watch that looks for harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.signatures import WATCH_QUEUE, HaltRule, TelemetrySignatures, WatchRequest, WatchResult
from autopilot.evidence.model import Harm, Inconclusive, StepRule
from autopilot.mesh.model import Target
from autopilot.operations.canary_status import Progress
from autopilot.operations.common import Exposure, Outcome, Phase
from autopilot.report import CanaryInput
from autopilot.spec.units import format_seconds
from workflows.diary import Diary
from workflows.endings import Ending, LeaseGone, Over, failure_type, reason_of
from workflows.gated import GatedOperation
from workflows.operation import PROMPT
from workflows.split import baseline_arm

HARM_ALONE = StepRule(hold=0, min_requests=0, limit=None)
_T = TypeVar("_T")


class JudgedOperation(GatedOperation):
    """Watches two arms of a target, and waits only while watching."""

    def __init__(self, spec: CanaryInput) -> None:
        super().__init__(spec.caller)
        self.input = spec
        self.target = Target(mesh=spec.mesh, namespace=spec.namespace, service=spec.spec.target.service)
        self.diary = Diary()
        self.weight = 0.0
        """Of the canary, in percent, as last set."""
        self.waiting_for = ""
        self.exposure = Exposure()
        self._memory = ""
        """The judge's, as JSON."""

    @property
    def gate(self) -> int:
        """Number of the step under way, from 1."""
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
    ) -> WatchResult:
        """One watch, until its verdict, or until `until` holds or the time is up; evidence goes from watch to watch.

        Raises:
            LeaseGone: the lease was lost.
            Over: somebody took the target, or the lease was condemned.
        """
        self.go_on()
        spec = self.input.spec
        handle = workflow.start_activity_method(
            TelemetrySignatures.watch,
            WatchRequest(
                lease=self.held,
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
                halt=halt,
                temporal_grace=self.input.temporal_grace,
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
        if self.diary.steps:  # before the first step there is nothing to judge, and nowhere to write it down
            self._memory = result.state
            self._record(result, rule, fresh=fresh)
        if over is not None:
            raise over
        match result.verdict:
            case Inconclusive(cause="leaseLost"):
                raise LeaseGone(result.verdict.reason)
            case Inconclusive(cause="condemned"):
                raise Over(Ending(Outcome.ROLLED_BACK, result.verdict.reason))
            case Inconclusive(cause="takenOver"):
                raise Over(Ending(Outcome.TAKEN_OVER, result.verdict.reason))
            case _:
                return result

    async def wait_for_person(
        self,
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
                HARM_ALONE,
                fresh=True,
                until=lambda: answered() or self._full is not None,
                timeout=left,
                patient=True,
                halt="ignore",
            )
            if isinstance(result.verdict, Harm):
                return Ending(Outcome.ROLLED_BACK, result.verdict.reason)
            # Otherwise stopped because somebody answered, or the time is up: the loop looks.
        self.waiting_for = ""
        self.enter(Phase.PROGRESSING, "going on")
        return None

    async def heeding_halts(self, act: Callable[[], Awaitable[_T]]) -> _T:
        """Does it; where the stop button is pressed, stays where it is until it is let go, and does it then."""
        while True:
            try:
                return await act()
            except ActivityError as error:
                if failure_type(error) != "Halted":
                    raise
                await self.sit_out(reason_of(error))

    async def sit_out(self, reason: str) -> None:
        """Holds the weight and watches for harm until the stop button is let go.

        Raises:
            Over: harm was found meanwhile.
        """
        self.enter(Phase.HALTED, reason)
        result = await self.watch(HARM_ALONE, fresh=False, until=lambda: False, patient=True, halt="over")
        if isinstance(result.verdict, Harm):
            raise Over(Ending(Outcome.ROLLED_BACK, result.verdict.reason))
        self.enter(Phase.PROGRESSING, "no longer halted: going on")

    def _record(self, result: WatchResult, rule: StepRule, *, fresh: bool) -> None:
        self.diary.record(result, rule, fresh=fresh, ended=workflow.time())
        self.exposure = self.diary.exposure
        if not (isinstance(result.verdict, Inconclusive) and result.verdict.cause == "stopped"):
            self.note(f"step {self.gate}: {result.verdict.reason}")
