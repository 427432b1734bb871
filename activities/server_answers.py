"""Tells whether the end of a call shows that Temporal's server answered: an error may be an answer too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from temporalio.service import RPCError, RPCStatusCode

TemporalState = Literal["answers", "refused", "hangs"]
"""`answers`: also with an error that only a server gives. `refused`: the connection was refused or broken, or the
server, or something in front of it, says that it is unavailable. `hangs`: no answer in time."""

_T = TypeVar("_T")

_PROOF: Final = frozenset(
    {
        RPCStatusCode.INVALID_ARGUMENT,
        RPCStatusCode.NOT_FOUND,
        RPCStatusCode.ALREADY_EXISTS,
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.FAILED_PRECONDITION,
        RPCStatusCode.ABORTED,
        RPCStatusCode.OUT_OF_RANGE,
        RPCStatusCode.UNIMPLEMENTED,
        RPCStatusCode.DATA_LOSS,
        RPCStatusCode.UNAUTHENTICATED,
    }
)
"""Statuses that a server chose; UNAVAILABLE, UNKNOWN and INTERNAL also come from proxies and broken connections."""
_SLOW: Final = frozenset({RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED})
"""What the SDK reports for a time-out of its own, and what a proxy reports for one of its upstream."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[_T]):
    """How a call ended.

    Attributes:
        state: what it says about the server.
        value: what was returned; None after an error.
        error: the error, for the log; empty where there is a value.
        status: the status of the error, where it has one.
    """

    state: TemporalState
    value: _T | None = None
    error: str = ""
    status: RPCStatusCode | None = None


async def ask(call: Awaitable[_T], limit: float) -> Answer[_T]:
    """Waits for a call, for `limit` seconds at most; errors of the call become part of the answer.

    The limit holds in addition to the call's own: the SDK's time-out is not kept where it retries a refused connection.
    """
    try:
        async with asyncio.timeout(limit):
            return Answer("answers", await call)
    except TimeoutError:
        return Answer("hangs", error=f"no answer within {limit:g} s")
    except RPCError as error:
        return Answer(_state(error.status), error=f"{error.status.name}: {error}", status=error.status)


def _state(status: RPCStatusCode) -> TemporalState:
    if status in _PROOF:
        return "answers"
    return "hangs" if status in _SLOW else "refused"
