"""How operations end: the exceptions that end one, and the outcome of each failure of an activity."""

from __future__ import annotations

from dataclasses import dataclass

from temporalio.exceptions import ApplicationError, FailureError

from autopilot.operations.common import Caller, Outcome

OUTCOMES = {
    "Condemned": Outcome.ROLLED_BACK,
    "TakenOver": Outcome.TAKEN_OVER,
    "LeaseLost": Outcome.INCONCLUSIVE,
    "StaleWrite": Outcome.INCONCLUSIVE,
}
"""Outcome by type of failure; any other failure means `Failed`."""


@dataclass(frozen=True)
class Ending:
    """How an operation ended, and why; `caller` where a command of a person or program ended it."""

    outcome: Outcome
    reason: str
    caller: Caller | None = None
    canceled: bool = False
    """Whether a cancel of the workflow ended it: Temporal then shows it as canceled."""


class EndOperation(Exception):
    """Ends an operation at any point of its code."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


class LeaseExpired(Exception):
    """The lease was lost and nobody ordered that: it may be taken again."""


def is_already_started(error: BaseException) -> bool:
    """Whether a child was not started because a workflow with its id is running."""
    return type(error).__name__ == "WorkflowAlreadyStartedError"


def failure_type(error: BaseException) -> str:
    """The type of the application error at the root of a failure, or an empty text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ApplicationError):
            return cause.type or ""
        cause = cause.__cause__
    return ""


def reason_of(error: BaseException) -> str:
    """The innermost message of a failure: what a person needs to read."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return cause.message if isinstance(cause, FailureError) else str(cause)
