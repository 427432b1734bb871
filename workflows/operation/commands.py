"""Commands that any operation accepts, and what it reports: phase, timeline, details in Temporal's UI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, SearchAttributeKey, SearchAttributeUpdate
from temporalio.exceptions import ApplicationError

from autopilot.operations.bounds import Timeline, bounded
from autopilot.operations.common import NO_REASON, Caller, Command, Event, Phase
from workflows.operation.outcomes import Ending
from workflows.operation.ui_details import LINES

KIND = SearchAttributeKey.for_keyword("AutopilotKind")
PHASE = SearchAttributeKey.for_keyword("AutopilotPhase")
C = TypeVar("C", bound=Command)
OUTCOME = SearchAttributeKey.for_keyword("AutopilotOutcome")


NOTHING = RawValue(Payload(metadata={"encoding": b"binary/null"}))
"""The argument of a signal that has none."""


class Unreadable(ValueError):
    """What a signal says is no command. Arguments are read here, for the SDK drops a signal that it cannot read."""


class Commanded:
    """Handles commands and keeps the timeline."""

    def __init__(self, caller: Caller | None = None) -> None:
        self.caller = caller or Caller()
        self.phase = Phase.STARTING
        self.ending: Ending | None = None
        self._timeline = Timeline()
        self._paused: Command | None = None
        self._aborted: Command | None = None
        self._resumes = 0
        self._shown = True
        """Whether the details are those of the last line."""

    @property
    def timeline(self) -> tuple[Event, ...]:
        """What happened, line by line."""
        return self._timeline.events()

    @property
    def last_lines(self) -> tuple[Event, ...]:
        """The end of it, for the details: thousands of commands may come at once."""
        return self._timeline.last(LINES)

    def details(self) -> str:
        """Markdown for Temporal's UI."""
        return f"**{self.phase.value}**"

    # Reporting progress

    def enter(self, phase: Phase, text: str, who: str = "") -> None:
        """Changes the phase, and shows it in the timeline, the search attributes and the UI."""
        changed, self.phase = phase is not self.phase, phase
        self.note(text, who)
        if changed:
            _index(PHASE.value_set(phase.value))

    def note(self, text: str, who: str = "") -> None:
        """One more line in the timeline."""
        self._timeline.add(workflow.time(), text, who)
        if self._shown:
            # Once for all that one workflow task brings: of a flood of signals each would make the details anew, and
            # the SDK allows a task two seconds.
            self._shown = False
            asyncio.get_running_loop().call_soon(self._show)

    def _show(self) -> None:
        self._shown = True
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
        refuse(self._no_pause())

    @workflow.update(name="resume", description="Continue after a pause")
    async def resume(self, command: Command) -> str:
        """Ends a pause."""
        self._hear_resume(command)
        return "resumed"

    @resume.validator
    def _may_resume(self, command: Command) -> None:
        refuse(self._no_resume())

    @workflow.update(name="abort", description="Restore the base, then end as Aborted")
    async def abort(self, command: Command) -> str:
        """Restores and ends; returns when the base configuration is restored."""
        self._hear_abort(command)
        await workflow.wait_condition(lambda: self.phase is Phase.ENDED)
        return f"{self.ending.outcome.value}: {self.ending.reason}" if self.ending else "ended"

    @abort.validator
    def _may_abort(self, command: Command) -> None:
        refuse(self.is_over("abort") or self._too_late("abort"))

    @workflow.signal(name="pause", description="Hold the current step")
    def pause_signal(self, command: RawValue = NOTHING) -> None:
        """`pause` for programs that send signals: checked as the update is; a refusal is a line in the timeline."""
        self.by_signal("pause", Command, command, lambda _: self._no_pause(), self._hear_pause)

    @workflow.signal(name="resume", description="Continue after a pause")
    def resume_signal(self, command: RawValue = NOTHING) -> None:
        """`resume` for programs that send signals."""
        self.by_signal("resume", Command, command, lambda _: self._no_resume(), self._hear_resume)

    @workflow.signal(name="abort", description="Restore the base, then end as Aborted")
    def abort_signal(self, command: RawValue = NOTHING) -> None:
        """`abort` for programs that send signals. It restores, whatever it says besides, and waits for a commit."""
        try:
            told = _read(Command, command)
        except Unreadable:
            told = Command(reason="aborted by a signal whose reason cannot be read")
        self._hear_abort(told)

    def by_signal(
        self,
        verb: str,
        kind: type[C],
        told: Any,
        refusal: Callable[[C], str],
        hear: Callable[[C], None],
    ) -> None:
        """Takes a signal as the update of the same name would be taken; a plain text is the reason."""
        try:
            command = _read(kind, told)
        except Unreadable as error:
            self.note(f"ignored: {verb} by signal, which cannot be read: {error}")
            return
        if why := refusal(command):
            self.note(f"ignored: {verb} by signal: {why}", command.caller.who)
        else:
            hear(command)

    def _hear_pause(self, command: Command) -> None:
        self._paused = bounded(command)
        self.note(f"paused{because(self._paused)}", self._paused.caller.who)

    def _hear_resume(self, command: Command) -> None:
        self._paused = None
        self._resumes += 1
        self.note(f"resumed{because(bounded(command))}", command.caller.who)

    def _hear_abort(self, command: Command) -> None:
        if self._aborted is None and self.phase is not Phase.ENDED:
            self._aborted = command = bounded(command)
            self.note(f"abort: {command.reason.strip() or NO_REASON}", command.caller.who)

    # Why a command is refused; empty where it is not

    def _no_pause(self) -> str:
        if self._paused is not None:
            return f"already paused by {self._paused.caller.who}"
        return self.is_over("pause") or self._too_late("pause")

    def _no_resume(self) -> str:
        if self._paused is None and self.phase is not Phase.UNDECIDED:
            return self.is_over("resume") or f"nothing to resume: the phase is {self.phase.value}, not paused"
        return self.is_over("resume")

    def _too_late(self, verb: str) -> str:
        return f"too late to {verb}: the rollout is being committed" if self.phase is Phase.COMMITTING else ""

    def is_over(self, verb: str) -> str:
        """Why nothing can be commanded any more."""
        over = self.phase in (Phase.ENDED, Phase.RESTORING)
        return f"nothing to {verb}: the operation is {self.phase.value.lower()}" if over else ""


def refuse(why: str) -> None:
    """Refuses an update.

    Raises:
        ApplicationError: there is a reason to.
    """
    if why:
        raise ApplicationError(why, type="Refused")


def _read(kind: type[C], told: Any) -> C:
    try:
        # Where there is more than one argument the SDK reads them all, whatever their types are.
        value = workflow.payload_converter().from_payload(told.payload) if isinstance(told, RawValue) else told
    except (KeyError, RuntimeError, ValueError) as error:
        raise Unreadable(f"its argument is no JSON: {error}") from error
    if value is None:
        return kind()
    try:
        return kind(reason=value) if isinstance(value, str) else kind.model_validate(value)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise Unreadable(f"{'.'.join(map(str, wrong['loc'])) or 'argument'}: {wrong['msg']}") from error


def _index(*updates: SearchAttributeUpdate[str]) -> None:
    """Updates search attributes where the starter set them; a server without them would block the workflow."""
    if workflow.info().typed_search_attributes.get(KIND) is not None:
        workflow.upsert_search_attributes(updates)


def because(command: Command) -> str:
    """The reason of a command, as the end of a sentence."""
    return f": {command.reason}" if command.reason else ""
