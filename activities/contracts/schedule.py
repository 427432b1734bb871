"""What a schedule's runs may ask of activities, and how an experiment pauses its schedule."""

from __future__ import annotations

from temporalio import activity

from activities.contracts.operation import signature_only
from autopilot.operations.common import Command
from autopilot.reports.experiment import ExperimentInput
from autopilot.reports.schedule import Counted, Decision, Missed, Running, RunRecord, Scheduled, ScheduledInput
from autopilot.wire import Wire


class AskRequest(Wire):
    """Asks whether an experiment runs now."""

    wanted: ScheduledInput
    run: str
    """Id of the workflow that asks."""
    scheduled: float
    """When the cron was due; seconds since the epoch."""
    after: float | None = None
    """Due times up to this one are reported already; None: since the schedule was made."""
    counted: Counted | None = None
    """What Temporal had counted by then."""
    waited_since: float | None = None
    """When it began to wait; None where it did not."""
    waited_for: str = ""


class Answer(Wire):
    """The decision, and the facts behind it."""

    decision: Decision
    now: float
    running: Running | None = None
    missed: tuple[Missed, ...] = ()
    more_missed: bool = False
    counted: Counted | None = None


class StartRequest(Wire):
    """Starts one run of the operation."""

    experiment: ExperimentInput | None = None
    """What is started, where it is an experiment; as earlier versions have it."""
    operation: Scheduled | None = None
    """What is started, where it is of another kind."""
    token: str
    """Token of the caller: the same token starts it once."""


class Started(Wire):
    """The run that was started; without one, `held` names the operation that runs already."""

    run_id: str = ""
    held: str = ""


class EndRunRequest(Wire):
    """Waits for the end of a run."""

    running: Running
    limit: float
    """Seconds after which the wait ends."""
    abort: Command | None = None
    """The command to send before the wait."""


class PauseRequest(Wire):
    """Pauses a schedule."""

    schedule: str
    note: str
    """Reason of the pause; shown to people and recorded for runs that are skipped meanwhile."""


class ScheduleSignatures:
    """What schedules do."""

    @activity.defn(name="schedule.ask")
    async def ask(self, request: AskRequest) -> Answer:
        """Looks at clock, calendar, mesh and the run before, and decides.

        In an activity, for rules and time zones change with the machine, and a replay must come to the same.
        """
        signature_only()

    @activity.defn(name="schedule.start")
    async def start(self, request: StartRequest) -> Started:
        """Starts the operation, unless a run of it is under way."""
        signature_only()

    @activity.defn(name="schedule.wait")
    async def wait(self, request: EndRunRequest) -> bool:
        """Waits for a run's end, long: on the queue of watches. Returns whether it ended."""
        signature_only()

    @activity.defn(name="schedule.archive")
    async def archive(self, record: RunRecord) -> str:
        """Keeps a record; returns the file's name."""
        signature_only()

    @activity.defn(name="schedule.pause")
    async def pause_after(self, request: PauseRequest) -> str:
        """Pauses a schedule; says so where it is paused already, or gone. Asked twice it pauses once."""
        signature_only()
