"""What a schedule's runs are told, rest upon, and leave behind."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal, Self

from autopilot.kinds import schedule_of
from autopilot.operations.common import Caller, InputLike
from autopilot.reports.experiment import ExperimentInput
from autopilot.spec.chaos.schedule import Freeze, ScheduleSpec
from autopilot.wire import Wire


def hand_id(schedule: str) -> str:
    """Workflow id of the run that a person asks for: one at a time."""
    return f"{schedule}/by-hand"


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


class Scheduled(Wire):
    """An operation that runs by a schedule: what must be known of it, and what its runs are started with."""

    workflow_id: str
    mesh: str
    namespace: str
    service: str
    deadline: float
    """Seconds within which a run ends."""
    schedule: ScheduleSpec
    summary: str = ""
    queue: bool = False
    input: dict[str, Any]
    """Of its workflow, as JSON."""

    @classmethod
    def of(cls, given: InputLike) -> Self:
        """What a schedule keeps of an operation's input.

        Raises:
            ValueError: it asks for no schedule.
        """
        spec = given.spec
        if (schedule := getattr(spec, "schedule", None)) is None:
            raise ValueError(f"{given.workflow_id} has no spec.schedule")
        return cls(
            workflow_id=given.workflow_id,
            mesh=given.mesh,
            namespace=given.namespace,
            service=spec.target.service,
            deadline=spec.deadline,
            schedule=schedule,
            summary=given.summary,
            queue=given.queue,
            input=given.model_dump(mode="json"),
        )

    def run_by(self, schedule: str, caller: Caller) -> Self:
        """The same as one run of the schedule starts it."""
        said = {"schedule": schedule, "caller": caller.model_dump(mode="json")}
        return self.model_copy(update={"input": self.input | said})


class ScheduledInput(Wire):
    """What a schedule hands to each of its runs."""

    experiment: ExperimentInput | None = None
    """What runs, where it is an experiment."""
    operation: Scheduled | None = None
    """What runs, where it is of another kind."""
    since: float = 0.0
    """Cron times before it are not reported, since the schedule did not exist. Seconds since the epoch."""
    pauses: tuple[Pause, ...] = ()
    """The last ones, so that what did not run meanwhile has its reason."""
    hand: ManualRun | None = None

    @cached_property
    def scheduled(self) -> Scheduled:
        """What runs.

        Raises:
            ValueError: it has no schedule.
        """
        if self.operation is not None:
            return self.operation
        if self.experiment is None:
            raise ValueError("neither an experiment nor an operation is scheduled")
        return Scheduled.of(self.experiment)

    @property
    def schedule(self) -> ScheduleSpec:
        """When it runs.

        Raises:
            ValueError: it has no schedule.
        """
        return self.scheduled.schedule

    @property
    def id(self) -> str:
        """The schedule's."""
        return schedule_of(self.scheduled.workflow_id)


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
