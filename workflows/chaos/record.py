"""The record of an experiment, and the two activities that watch it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Literal

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

from activities.contracts.chaos import (
    Baseline,
    ExperimentSignatures,
    Held,
    HoldBeat,
    HoldRequest,
    Steady,
    SteadyRequest,
)
from activities.contracts.schedule import PauseRequest, ScheduleSignatures
from autopilot.mesh.model import FaultSign, Lease, Receipt, Target
from autopilot.operations.bounds import cut
from autopilot.operations.common import Event, Exposure, Outcome, Phase
from autopilot.operations.experiment_status import Acted, ChaosProgress, Effect, ExperimentStatus, ProbeRecord, Verdict
from autopilot.operations.task_queues import watch_queue
from autopilot.reports.experiment import ExperimentInput, ExperimentReport, StepFinding
from autopilot.spec.chaos.experiment import MethodStep
from autopilot.spec.chaos.faults import describe
from workflows.chaos.verdicts import verdict_of
from workflows.operation.lifecycle import Operation
from workflows.operation.outcomes import Ending, LeaseExpired, reason_of
from workflows.operation.restore import PROMPT
from workflows.operation.watch_until import watch_until

_PATIENT = RetryPolicy(
    initial_interval=timedelta(milliseconds=500),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=5),
    maximum_attempts=8,
)
"""Retries of checks without an effect on the mesh, which is restored by then: a report must not wait for telemetry."""
_KEPT = 5
"""Number of looks that a report keeps of a probe that passed."""
_CHECK = 900.0
"""Time-out of a check of the hypothesis in seconds; its probes end long before that."""


class ExperimentOperation(Operation):
    """Keeps the record of one experiment."""

    def __init__(self, spec: ExperimentInput) -> None:
        super().__init__(spec.caller, temporal_grace=spec.temporal_grace)
        self.input = spec
        self.target = Target(mesh=spec.mesh, namespace=spec.namespace, service=spec.spec.target.service)
        self.steps: list[StepFinding] = []
        self.probes: list[ProbeRecord] = []
        self.exposure = Exposure()
        self.burn: float | None = None
        self.laid = False
        """Whether faults are in force."""
        self.signs: tuple[FaultSign, ...] = ()
        """Signs of the faults that were laid last."""
        self._left: list[str] = []

    # Watching

    async def check(
        self, phase: Literal["before", "after"], *, lease: Lease | None = None, signs: tuple[FaultSign, ...] = ()
    ) -> Steady:
        """Checks the hypothesis while no fault is laid."""
        if phase == "before":
            self.go_on()
        found = await workflow.execute_activity_method(
            ExperimentSignatures.steady,
            SteadyRequest(
                target=self.target,
                spec=self.input.spec,
                phase=phase,
                lease=lease,
                temporal_grace=self.input.temporal_grace,
                signs=signs,
            ),
            task_queue=watch_queue(self.target.mesh),
            start_to_close_timeout=timedelta(seconds=_CHECK),
            schedule_to_close_timeout=timedelta(seconds=_CHECK),
            heartbeat_timeout=timedelta(seconds=self.input.heartbeat_timeout),
            retry_policy=_PATIENT,
            summary=f"check the hypothesis {phase} the method",
        )
        self.probes += map(_brief, found.probes)
        for record in found.probes:
            said = f": {record.reason}" if record.reason else ""
            self.note(f"{phase}: {record.name} {record.verdict}{said}")
        return found

    async def hold(
        self,
        number: int,
        seconds: float | None,
        baseline: Baseline,
        effects: tuple[Effect, ...],
        until: Callable[[], bool] = lambda: False,
    ) -> Held:
        """Watches a step while its faults are laid; `until` ends it before its time.

        Raises:
            LeaseExpired: the lease was lost.
        """
        self.go_on()
        step = self.steps[-1]
        since = step.receipt.written if step.receipt and step.receipt.written else step.started
        if step.actions:  # actions take time; the hold counts from their end
            since = workflow.time()
        handle = workflow.start_activity_method(
            ExperimentSignatures.hold,
            HoldRequest(
                lease=self.held,
                target=self.target,
                name=self.input.name,
                spec=self.input.spec,
                step=number,
                since=since if seconds is not None else workflow.time(),
                hold=seconds,
                effects=effects,
                baseline=baseline,
                spent=self.exposure,
                temporal_grace=self.input.temporal_grace,
            ),
            task_queue=watch_queue(self.target.mesh),
            start_to_close_timeout=timedelta(seconds=self.input.spec.deadline + 60),
            heartbeat_timeout=timedelta(seconds=self.input.heartbeat_timeout),
            retry_policy=PROMPT,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"step {number}: {step.name}",
        )
        watched = await watch_until(handle, "chaos.hold", HoldBeat, until)
        held = watched.result or _as_told(watched.beat, effects)
        if seconds is None:  # a short pause may end before the first look
            held = held.model_copy(update={"probes": tuple(one for one in held.probes if one.looks)})
        self._record(held)
        if watched.canceled is not None:
            raise watched.canceled
        if held.cause == "leaseLost":
            raise LeaseExpired(held.reason)
        if held.cause == "stopped" and watched.stopped:
            held = held.model_copy(update={"cause": "held"})  # it was paused, and goes on
        return held

    def _record(self, held: Held) -> None:
        step = self.steps[-1]
        effects = tuple(
            new.model_copy(update={"requests": old.requests + new.requests, "of": old.of + new.of})
            for old, new in zip(step.effects, held.effects, strict=True)
        )
        self.steps[-1] = step.model_copy(
            update={
                "ended": workflow.time(),
                "reason": cut(held.reason),
                "effects": effects,
                "amplification": held.amplification or step.amplification,
            }
        )
        self.probes += map(_brief, held.probes)
        self.exposure += held.exposure
        self.burn = max((value for value in (self.burn, held.burn) if value is not None), default=None)
        if held.cause != "stopped":
            self.note(f"step {step.number}: {held.reason}")

    # Recording

    def begin_step(self, number: int, step: MethodStep, receipt: Receipt | None, effects: tuple[Effect, ...]) -> None:
        """Records a new step whose faults are in force."""
        name = step.name or ", ".join(describe(one.fault) for one in step.faults) or "no faults"
        self.steps.append(
            StepFinding(
                number=number,
                name=name,
                started=workflow.time(),
                hold=step.hold,
                receipt=receipt,
                effects=effects,
            )
        )
        self.enter(Phase.PROGRESSING, f"step {number}: {name}")

    def end_step(self, held: Held) -> None:
        """Records the end of a step: its time is over, or something ended it."""
        self.steps[-1] = self.steps[-1].model_copy(update={"ended": workflow.time(), "reason": cut(held.reason)})

    def joined(self, first: Held, more: Held) -> Held:
        """Joins the parts of one hold before and during a pause."""
        return more.model_copy(update={"probes": (*first.probes, *more.probes)})

    def acted(self, acted: Acted) -> None:
        """Records that an action was taken or undone."""
        step = self.steps[-1]
        self.steps[-1] = step.model_copy(update={"actions": (*step.actions, acted)})
        self.note(acted.undone or acted.done)

    def leave(self, what: str) -> None:
        """Records what could not be undone."""
        what = cut(what)
        self._left.append(what)
        self.note(what)

    def answers(self, ending: Ending) -> bool:
        """Whether to check the hypothesis again: not after an abort, and not after the target was taken over."""
        return ending.outcome is not Outcome.TAKEN_OVER and self._aborted is None

    async def pause_schedule(self, ending: Ending) -> None:
        """Pauses the schedule after a run that refuted its hypothesis, until a person resumes it."""
        schedule = self.input.spec.schedule
        if not self.input.schedule or schedule is None or not schedule.pause_on_failure:
            return
        if verdict_of(ending) is not Verdict.FAIL:
            return
        try:
            await workflow.execute_activity_method(
                ScheduleSignatures.pause_after,
                PauseRequest(
                    schedule=self.input.schedule, note=f"{workflow.info().workflow_id} failed: {ending.reason}"
                ),
                start_to_close_timeout=timedelta(seconds=10),
                schedule_to_close_timeout=timedelta(seconds=60),
                retry_policy=PROMPT,
                summary="pause the schedule",
            )
        except ActivityError as error:
            self.leave(f"the schedule was not paused and will run again: {reason_of(error)}")

    # Reporting

    def standing(self, probes: Sequence[ProbeRecord], timeline: tuple[Event, ...]) -> ExperimentStatus:
        """The current state of the experiment, with some records and lines or all of them."""
        spec = self.input.spec
        return ExperimentStatus(
            workflow_id=workflow.info().workflow_id,
            phase=self.phase,
            outcome=self.ending.outcome if self.ending else None,
            verdict=verdict_of(self.ending) if self.ending else None,
            reason=self.ending.reason if self.ending else "",
            mesh=self.target.mesh,
            namespace=self.target.namespace,
            service=self.target.service,
            title=spec.title or spec.hypothesis.title,
            step=len(self.steps),
            steps=tuple(
                step.name or ", ".join(describe(one.fault) for one in step.faults) or "no faults"
                for step in spec.method
            ),
            started=self.started,
            paused_by=self._paused.caller.who if self._paused else "",
            exposure=self.exposure,
            probes=tuple(probes),
            effects=self.steps[-1].effects if self.steps else (),
            timeline=timeline,
        )

    def story(self, ending: Ending, verdict: Verdict) -> ExperimentReport:
        """The report."""
        return ExperimentReport(
            outcome=ending.outcome,
            verdict=verdict,
            reason=ending.reason,
            workflow_id=workflow.info().workflow_id,
            mesh=self.target.mesh,
            namespace=self.target.namespace,
            service=self.target.service,
            name=self.input.name,
            schedule=self.input.schedule,
            spec=self.input.spec,
            started=self.started,
            ended=workflow.time(),
            steps=tuple(self.steps),
            probes=tuple(self.probes),
            exposure=self.exposure,
            burn=self.burn,
            timeline=self.timeline,
            audit=tuple(digest for digest in self.audited if digest),
            restore_seconds=self.restore_seconds,
            restored=self.restore_seconds is not None,
            left=tuple(self._left),
        )


def _as_told(beat: HoldBeat | None, effects: tuple[Effect, ...]) -> Held:
    """What a watch had found that could not answer any more."""
    told = beat.progress if beat is not None else ChaosProgress(time=workflow.time())
    return Held(
        cause="stopped",
        reason="the watch was stopped while no worker had it",
        probes=told.probes,
        effects=told.effects or effects,
        exposure=told.exposure,
        burn=told.burn,
    )


def _brief(record: ProbeRecord) -> ProbeRecord:
    """A record as reports keep it: few looks where the probe passed, since a report must fit into a history."""
    return record if record.verdict != "pass" else record.model_copy(update={"samples": record.samples[-_KEPT:]})
