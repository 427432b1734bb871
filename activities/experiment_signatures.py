"""What chaos workflows may ask of activities, beyond what every operation asks; see `activities.signatures`."""

from __future__ import annotations

from typing import Literal

from temporalio import activity

from activities.signatures import HaltRule, signature_only
from autopilot.findings import Acted, Amplification, ExperimentReport
from autopilot.mesh.model import FaultSign, Lease, Target
from autopilot.mesh.orders import Actor
from autopilot.operations.common import Exposure, Wire
from autopilot.operations.experiment_status import ChaosProgress, Effect, ProbeRecord
from autopilot.spec.experiment import Action, ExperimentSpec

HoldCause = Literal[
    "held", "hypothesis", "guard", "limit", "noData", "leaseLost", "condemned", "takenOver", "halted", "stopped"
]
"""Why a hold ended: its time was over; a probe of the hypothesis failed; an abort condition failed; a cap was passed;
nothing could be seen of what must be seen; and from there on what is not the watch's finding."""


class Baseline(Wire):
    """What was counted before the first fault: excess and amplification are told from it."""

    seconds: float = 0.0
    requests: float = 0.0
    """Of `safety.service`, as its users met it."""
    failures: float = 0.0
    amplification: tuple[Amplification, ...] = ()


class PreflightRequest(Wire):
    """Asks whether an experiment may start, now that it holds its target."""

    lease: Lease
    spec: ExperimentSpec


class Preflight(Wire):
    """What the mesh can do of it."""

    effects: tuple[tuple[Effect, ...], ...] = ()
    """Step → what each of its faults will be seen by; nothing counted yet."""
    signs: tuple[tuple[FaultSign, ...], ...] = ()
    """Step → what tells its faults apart in counters."""
    baseline: Baseline = Baseline()
    notes: tuple[str, ...] = ()
    """What is allowed and hardly meant."""


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
    """What the hypothesis came to."""

    probes: tuple[ProbeRecord, ...]
    ended: Literal["", "leaseLost", "condemned", "takenOver", "halted"] = ""
    """Why it was not looked at to the end."""
    reason: str = ""
    leaked: tuple[float, ...] = ()
    """By sign: requests that met the fault after it was taken away."""


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
    """What the steps before have cost."""
    halt: HaltRule = "end"
    temporal_grace: float = 30.0


class HoldBeat(Wire):
    """What a hold heartbeats: enough to go on elsewhere."""

    state: str
    progress: ChaosProgress


class Held(Wire):
    """What a hold came to."""

    cause: HoldCause
    reason: str
    probes: tuple[ProbeRecord, ...] = ()
    effects: tuple[Effect, ...] = ()
    amplification: tuple[Amplification, ...] = ()
    exposure: Exposure = Exposure()
    burn: float | None = None


class ActRequest(Wire):
    """Takes one action, or puts back what can be put back of it."""

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
        """Refuses what must not start; counts what there is before anything is done."""
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
        """Puts back what can be put back."""
        signature_only()

    @activity.defn(name="chaos.archive")
    async def archive(self, report: ExperimentReport) -> str:
        """Keeps the report."""
        signature_only()
