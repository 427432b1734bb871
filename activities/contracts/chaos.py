"""The activities that chaos workflows call, in addition to `activities.contracts.operation`."""

from __future__ import annotations

from typing import Literal

from temporalio import activity

from activities.contracts.operation import HaltRule, signature_only
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.model import FaultSign, Lease, Target
from autopilot.operations.common import Exposure
from autopilot.operations.experiment_status import Acted, ChaosProgress, Effect, ProbeRecord
from autopilot.reports.experiment import Amplification, ExperimentReport
from autopilot.spec.chaos.experiment import Action, ExperimentSpec
from autopilot.wire import Wire

HoldCause = Literal[
    "held", "hypothesis", "guard", "limit", "noData", "leaseLost", "condemned", "takenOver", "halted", "stopped"
]
"""Why a hold ended: its time was over; a probe of the hypothesis failed; an abort condition failed; a cap was passed;
data that it needs was missing; the rest are not findings of the watch."""


class Baseline(Wire):
    """Counts from before the first fault: excess failures and amplification are measured against them."""

    seconds: float = 0.0
    requests: float = 0.0
    """Counts of `safety.service` in the user view."""
    failures: float = 0.0
    amplification: tuple[Amplification, ...] = ()


class PreflightRequest(Wire):
    """Asks whether an experiment may start, now that it holds its target."""

    lease: Lease
    spec: ExperimentSpec


class Preflight(Wire):
    """What the mesh supports of the experiment."""

    effects: tuple[tuple[Effect, ...], ...] = ()
    """Step → what each of its faults will be seen by; nothing counted yet."""
    signs: tuple[tuple[FaultSign, ...], ...] = ()
    """Step → what tells its faults apart in counters."""
    baseline: Baseline = Baseline()
    notes: tuple[str, ...] = ()
    """Notes on what is allowed but probably not intended."""


class SteadyRequest(Wire):
    """Checks the hypothesis before or after, until every probe has passed or failed."""

    target: Target
    spec: ExperimentSpec
    phase: Literal["before", "after"]
    lease: Lease | None = None
    """Kept alive meanwhile; None after the restore."""
    temporal_grace: float = 30.0
    signs: tuple[FaultSign, ...] = ()
    """After the restore: of faults whose counters must stand still now."""


class Steady(Wire):
    """Result of a check of the hypothesis."""

    probes: tuple[ProbeRecord, ...]
    ended: Literal["", "leaseLost", "condemned", "takenOver", "halted"] = ""
    """Why the check ended early."""
    reason: str = ""
    leaked: tuple[float, ...] = ()
    """By sign: requests that met the fault after it was removed; none where that cannot be told."""
    untold: str = ""
    """Why it cannot be told; empty where it can."""


class HoldRequest(Wire):
    """Watches one step of the method while its faults are laid."""

    lease: Lease
    target: Target
    name: str
    spec: ExperimentSpec
    step: int
    """Number of the step, from 1."""
    since: float
    """When its faults were in force, seconds since the epoch."""
    hold: float | None
    """Seconds; None: until it is stopped (it is paused)."""
    effects: tuple[Effect, ...]
    baseline: Baseline
    spent: Exposure = Exposure()
    """Exposure of the earlier steps."""
    halt: HaltRule = "end"
    temporal_grace: float = 30.0


class HoldBeat(Wire):
    """Heartbeat of a hold: what another worker needs to continue it."""

    state: str
    progress: ChaosProgress


class Held(Wire):
    """Result of a hold."""

    cause: HoldCause
    reason: str
    probes: tuple[ProbeRecord, ...] = ()
    effects: tuple[Effect, ...] = ()
    amplification: tuple[Amplification, ...] = ()
    exposure: Exposure = Exposure()
    burn: float | None = None


class ActRequest(Wire):
    """Takes one action, or undoes it as far as possible."""

    target: Target
    action: Action
    key: str
    """Of this action in this run: taken twice it is done once."""
    by: Actor = Actor()
    lease: Lease | None = None
    """Kept alive meanwhile."""


class ExperimentSignatures:
    """Effects and observations of chaos experiments."""

    @activity.defn(name="chaos.preflight")
    async def preflight(self, request: PreflightRequest) -> Preflight:
        """Refuses an experiment that must not start; counts the baseline before anything is changed."""
        signature_only()

    @activity.defn(name="chaos.steady")
    async def steady(self, request: SteadyRequest) -> Steady:
        """Checks the hypothesis while nothing is laid."""
        signature_only()

    @activity.defn(name="chaos.hold")
    async def hold(self, request: HoldRequest) -> Held:
        """Watches until the hold is over or something ends it; condemns the lease on a failed guard or a passed cap."""
        signature_only()

    @activity.defn(name="chaos.act")
    async def act(self, request: ActRequest) -> Acted:
        """Takes the action."""
        signature_only()

    @activity.defn(name="chaos.undo")
    async def undo(self, request: ActRequest) -> Acted:
        """Undoes the action as far as possible."""
        signature_only()

    @activity.defn(name="chaos.archive")
    async def archive(self, report: ExperimentReport) -> str:
        """Archives the report."""
        signature_only()
