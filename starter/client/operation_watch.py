"""Looks at one operation until it ends, however it ends; what `watch`, `status` and `apply --wait` share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autopilot.operations.common import Outcome
from starter.client.errors import ERROR

if TYPE_CHECKING:
    from temporalio.client import Client

    from autopilot.operations.common import ProgressLike, ReportLike, StatusLike

UNDECIDED = 3
CODES = {
    Outcome.PROMOTED: 0,
    Outcome.PASSED: 0,
    Outcome.REFUTED: 2,
    Outcome.VOID: UNDECIDED,
    Outcome.FAILED: ERROR,
    Outcome.ROLLED_BACK: 2,
    Outcome.INCONCLUSIVE: UNDECIDED,
    Outcome.ABORTED: 4,
    Outcome.TAKEN_OVER: 4,
}
"""Exit code by outcome; an operation that still runs is undecided."""

_WORST_FIRST = (ERROR, 2, 4, UNDECIDED, 0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An operation at one moment: running with a status, or ended with a report."""

    workflow_id: str
    status: StatusLike | None = None
    progress: ProgressLike | None = None
    report: ReportLike | None = None
    note: str = ""
    """Why there is no status, where a running operation does not answer."""

    @property
    def code(self) -> int:
        """The exit code that tells a pipeline how it stands."""
        return CODES[self.report.outcome] if self.report else UNDECIDED


def worst(codes: list[int]) -> int:
    """The exit code for several operations."""
    return next(code for code in _WORST_FIRST if code in codes)


async def look(client: Client, workflow_id: str) -> Snapshot:
    """The operation now.

    Raises:
        OperationError: there is no such operation, or it was closed from outside and left no report.
    """
    from starter.client import operations  # noqa: PLC0415

    try:
        return Snapshot(workflow_id, report=await operations.report(client, workflow_id))
    except operations.OperationUnfinished:
        pass
    try:
        status = await operations.status(client, workflow_id)
        return Snapshot(workflow_id, status, await operations.progress(client, workflow_id))
    except operations.OperationError as error:
        return Snapshot(workflow_id, note=str(error))  # it runs, and nobody answers for it: a worker may come back


async def follow(
    client: Client, workflow_id: str, *, timeout: float | None = None, every: float = 0.5
) -> AsyncIterator[Snapshot]:
    """Snapshots until the operation has ended, or `timeout` seconds are over; the last one is how it stands then."""
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        snapshot = await look(client, workflow_id)
        yield snapshot
        if snapshot.report is not None or (until is not None and time.monotonic() >= until):
            return
        await asyncio.sleep(every if until is None else max(0.0, min(every, until - time.monotonic())))
