"""What a schedule's runs are told, rest upon, and leave behind."""

from __future__ import annotations

from typing import Literal

from autopilot.operations.common import Caller
from autopilot.reports.experiment import ExperimentInput
from autopilot.spec.chaos.schedule import Freeze, ScheduleSpec
from autopilot.wire import Wire


def hand_id(schedule: str) -> str:
    """Workflow id of the run that a person asks for: one at a time."""
    return f"{schedule}/by-hand"


def schedule_id(mesh: str, namespace: str, name: str) -> str:
    """The id of an experiment's schedule in Temporal."""
    return f"chaos-schedule/{mesh}/{namespace}/{name}"


class ManualRun(Wire):
    """A person who wants a run now, whatever the cron says."""

    caller: Caller = Caller()
    reason: str = ""
    force: bool = False
    """Whether the schedule's own freeze is passed too; an administrator's never is."""


class Pause(Wire):
    """A time in which the schedule was told to rest."""

    since: float
    """Seconds since the epoch."""
    until: float | None = None
    reason: str = ""


class ScheduledInput(Wire):
    """What a schedule hands to each of its runs."""

    experiment: ExperimentInput
    since: float = 0.0
    """Cron times before it are not reported, since the schedule did not exist. Seconds since the epoch."""
    pauses: tuple[Pause, ...] = ()
    """The last ones, so that what did not run meanwhile has its reason."""
    hand: ManualRun | None = None

    @property
    def schedule(self) -> ScheduleSpec:
        """When it runs.

        Raises:
            ValueError: the experiment has no schedule.
        """
        if self.experiment.spec.schedule is None:
            raise ValueError(f"{self.experiment.workflow_id} has no spec.schedule")
        return self.experiment.spec.schedule

    @property
    def id(self) -> str:
        """The schedule's."""
        return schedule_id(self.experiment.mesh, self.experiment.namespace, self.experiment.name)


class Running(Wire):
    """A run of the same experiment that is under way."""

    workflow_id: str
    run_id: str
    schedule: str = ""
    """What started it; empty where a person or a program did."""
    since: float = 0.0
    """Seconds since the epoch."""


class Situation(Wire):
    """All that the decision rests upon."""

    schedule: str
    """Id of the schedule that asks."""
    scheduled: float
    """When the cron was due, or when a person asked; seconds since the epoch."""
    now: float
    hand: ManualRun | None = None
    running: Running | None = None
    waiting: str = ""
    """Another run that waits for the same."""
    waited: float | None = None
    """Seconds that this one has waited already; None where it has not."""
    told: float | None = None
    """Up to when earlier runs have dealt with what the cron was due for; None where there was none, or it waited."""
    refused: str = ""
    """Why the mesh lets nothing start: the stop button, a person who took the target over, whoever holds it."""
    frozen: tuple[Freeze, ...] = ()
    """The administrator's, in UTC."""


class Decision(Wire):
    """What is to happen."""

    kind: Literal["start", "skip", "wait", "replace"]
    """Start it; do not; wait for the end of the run before; end that first."""
    reason: str


class Missed(Wire):
    """Times at which the cron was due and no run began, for one and the same reason."""

    first: float
    last: float
    count: int
    reason: str


class Counted(Wire):
    """What Temporal counted of a schedule: what it came too late for, and what it dropped for a run under way."""

    late: int = 0
    dropped: int = 0


class RunRecord(Wire):
    """What one run of a schedule came to: its result in Temporal, and a line in the archive."""

    schedule: str
    run: str
    """Id of the workflow that decided."""
    scheduled: float
    """Seconds since the epoch, as all times here."""
    decided: float
    decision: Literal["started", "skipped", "waiting"]
    reason: str
    by: str = ""
    """Who asked, where it was not the cron."""
    experiment: str = ""
    """Workflow id of what was started."""
    experiment_run: str = ""
    waited: float = 0.0
    """Seconds for the run before."""
    missed: tuple[Missed, ...] = ()
    """Times before this one at which no run began."""
    more_missed: bool = False
    """Whether there are more than it tells of."""
    until: float = 0.0
    """What the cron was due for is told of up to here."""
    counted: Counted = Counted()
