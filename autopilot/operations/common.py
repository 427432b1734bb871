"""What all kinds of operations share: how they end, what they do, who commands them, and the commands.

A command line that only commands an operation imports this module and no specification: keep it light.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

from autopilot.wire import Wire


class Outcome(StrEnum):
    """How an operation can end. Whatever is not `Promoted` has been restored."""

    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    PASSED = "Passed"
    """The hypothesis of an experiment held."""
    REFUTED = "Refuted"
    """It did not hold."""
    VOID = "Void"
    """An experiment tried nothing: its fault was not seen to take effect, or it could not begin."""
    INCONCLUSIVE = "Inconclusive"
    ABORTED = "Aborted"
    TAKEN_OVER = "TakenOver"
    """A person, the stop button or an operation of a higher priority took the target."""
    FAILED = "Failed"


class Phase(StrEnum):
    """What an operation is doing."""

    STARTING = "Starting"
    QUEUED = "Queued"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    WAITING = "WaitingForApproval"
    UNDECIDED = "Undecided"
    HALTED = "Halted"
    COMMITTING = "Committing"
    RESTORING = "Restoring"
    CHECKING = "Checking"
    """The hypothesis of an experiment, before its method or after the restore."""
    ENDED = "Ended"


class Caller(Wire):
    """Who asks for something; `verified` only where a token proved it."""

    who: str = "unknown"
    verified: bool = False


NO_REASON = "no reason given"
"""Stands in reports and records where a reason was asked for and none was given: in an emergency none is needed."""


class Command(Wire):
    """A person's or program's word to a running operation (pause, resume, abort)."""

    caller: Caller = Caller()
    reason: str = ""


class Approval(Command):
    """Lets an operation pass the gate it waits at; `gate` is the step's number from 1, or 0 for the one it waits at."""

    gate: int = 0


class Promotion(Command):
    """Goes past this pause; `full` skips every step that is left, and must say why."""

    full: bool = False


class Exposure(Wire):
    """What users met through the canary arm."""

    requests: float = 0.0
    failures: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Exposure) -> Exposure:
        return Exposure(
            requests=self.requests + other.requests,
            failures=self.failures + other.failures,
            seconds=self.seconds + other.seconds,
        )


class Event(Wire):
    """One line of an operation's timeline."""

    time: float
    text: str
    who: str = ""
    number: int = 0
    """Of the line in its operation, from 1: what is told once is told apart by it. 0 in lines of earlier versions."""


class ProgressLike(Protocol):
    """A value of any kind of operation; by itself, a watch under way."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """As plain values."""
        ...


class InputLike(ProgressLike, Protocol):
    """What starts an operation, of any kind."""

    @property
    def workflow_id(self) -> str:
        """One live operation a resource."""
        ...

    @property
    def mesh(self) -> str:
        """Name of the mesh."""
        ...

    @property
    def namespace(self) -> str:
        """Of the target."""
        ...

    @property
    def spec(self) -> Any:
        """With a `target.service`; of what may be scheduled, with a `deadline` and a `schedule`."""
        ...

    @property
    def queue(self) -> bool:
        """Whether to wait in turn where another operation holds the target."""
        ...

    @property
    def summary(self) -> str:
        """What Temporal's UI shows beside the id."""
        ...


class StatusLike(ProgressLike, Protocol):
    """An operation as it stands, of any kind."""

    @property
    def workflow_id(self) -> str:
        """Its id."""
        ...

    @property
    def phase(self) -> Phase:
        """What it is doing."""
        ...

    @property
    def started(self) -> float:
        """Seconds since the epoch."""
        ...

    @property
    def timeline(self) -> tuple[Event, ...]:
        """What happened."""
        ...

    @property
    def standing(self) -> str:
        """How far it has come, in a few words."""
        ...


class ReportLike(ProgressLike, Protocol):
    """The result of an operation of any kind."""

    @property
    def workflow_id(self) -> str:
        """Its id."""
        ...

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        ...

    @property
    def reason(self) -> str:
        """Why."""
        ...

    @property
    def started(self) -> float:
        """Seconds since the epoch."""
        ...

    @property
    def ended(self) -> float:
        """Seconds since the epoch."""
        ...

    @property
    def timeline(self) -> tuple[Event, ...]:
        """What happened."""
        ...

    @property
    def audit(self) -> tuple[str, ...]:
        """Digests of the audit records of every change it made, in their order."""
        ...
