"""Commands that any operation accepts, and what it reports: phase, timeline, details in Temporal's UI."""

from __future__ import annotations

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate
from temporalio.exceptions import ApplicationError

from autopilot.operations.common import NO_REASON, Caller, Command, Event, Phase
from workflows.endings import Ending

KIND = SearchAttributeKey.for_keyword("AutopilotKind")
PHASE = SearchAttributeKey.for_keyword("AutopilotPhase")
OUTCOME = SearchAttributeKey.for_keyword("AutopilotOutcome")


class Commanded:
    """Handles commands and keeps the timeline."""

    def __init__(self, caller: Caller | None = None) -> None:
        self.caller = caller or Caller()
        self.phase = Phase.STARTING
        self.ending: Ending | None = None
        self.timeline: list[Event] = []
        self._paused: Command | None = None
        self._aborted: Command | None = None
        self._resumes = 0

    def details(self) -> str:
        """Markdown for Temporal's UI."""
        raise NotImplementedError

    # Reporting progress

    def enter(self, phase: Phase, text: str, who: str = "") -> None:
        """Changes the phase, and shows it in the timeline, the search attributes and the UI."""
        changed, self.phase = phase is not self.phase, phase
        self.note(text, who)
        if changed:
            _index(PHASE.value_set(phase.value))

    def note(self, text: str, who: str = "") -> None:
        """One more line in the timeline."""
        self.timeline.append(Event(time=workflow.time(), text=text, who=who))
        workflow.set_current_details(self.details())

    def _end(self, ending: Ending) -> Ending:
        self.ending = ending
        self.phase = Phase.ENDED
        self.note(f"{ending.outcome.value}: {ending.reason}")
        _index(PHASE.value_set(Phase.ENDED.value), OUTCOME.value_set(ending.outcome.value))
        return ending

    # Commands

    @workflow.update(name="pause", description="Hold the step: the lease is kept, and harm still restores the base")
    async def pause(self, command: Command) -> str:
        """Holds the operation after the current step."""
        self._hear_pause(command)
        return f"paused in phase {self.phase.value}"

    @pause.validator
    def _may_pause(self, command: Command) -> None:
        self._refuse_when_over("pause")
        if self._paused is not None:
            raise ApplicationError(f"already paused by {self._paused.caller.who}", type="Refused")

    @workflow.update(name="resume", description="Continue after a pause")
    async def resume(self, command: Command) -> str:
        """Ends a pause."""
        self._hear_resume(command)
        return "resumed"

    @resume.validator
    def _may_resume(self, command: Command) -> None:
        self._refuse_when_over("resume")
        if self._paused is None and self.phase is not Phase.UNDECIDED:
            raise ApplicationError(f"nothing to resume: the phase is {self.phase.value}, not paused", type="Refused")

    @workflow.update(name="abort", description="Restore the base, then end as Aborted")
    async def abort(self, command: Command) -> str:
        """Restores and ends; returns when the base configuration is restored."""
        self._hear_abort(command)
        await workflow.wait_condition(lambda: self.phase is Phase.ENDED)
        return f"{self.ending.outcome.value}: {self.ending.reason}" if self.ending else "ended"

    @abort.validator
    def _may_abort(self, command: Command) -> None:
        self._refuse_when_over("abort")
        if self.phase is Phase.COMMITTING:
            raise ApplicationError("too late to abort: the rollout is being committed", type="Refused")

    @workflow.signal(name="pause", description="Hold the current step")
    def pause_signal(self, command: Command) -> None:
        """`pause` for programs that send signals."""
        if self._paused is None:
            self._hear_pause(command)

    @workflow.signal(name="resume", description="Continue after a pause")
    def resume_signal(self, command: Command) -> None:
        """`resume` for programs that send signals."""
        self._hear_resume(command)

    @workflow.signal(name="abort", description="Restore the base, then end as Aborted")
    def abort_signal(self, command: Command) -> None:
        """`abort` for programs that send signals."""
        self._hear_abort(command)

    def _hear_pause(self, command: Command) -> None:
        self._paused = command
        self.note(f"paused{because(command)}", command.caller.who)

    def _hear_resume(self, command: Command) -> None:
        self._paused = None
        self._resumes += 1
        self.note(f"resumed{because(command)}", command.caller.who)

    def _hear_abort(self, command: Command) -> None:
        if self._aborted is None and self.phase is not Phase.ENDED:
            self._aborted = command
            self.note(f"abort: {command.reason.strip() or NO_REASON}", command.caller.who)

    def _refuse_when_over(self, verb: str) -> None:
        if self.phase is Phase.ENDED or self.phase is Phase.RESTORING:
            raise ApplicationError(f"nothing to {verb}: the operation is {self.phase.value.lower()}", type="Refused")


def _index(*updates: SearchAttributeUpdate[str]) -> None:
    """Updates search attributes where the starter set them; a server without them would block the workflow."""
    if workflow.info().typed_search_attributes.get(KIND) is not None:
        workflow.upsert_search_attributes(updates)


def because(command: Command) -> str:
    """The reason of a command, as the end of a sentence."""
    return f": {command.reason}" if command.reason else ""
