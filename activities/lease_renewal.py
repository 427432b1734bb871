"""Renews a lease on behalf of an operation, for as long as that operation can still receive results.

Whichever long activity acts for the operation renews. It stops when it returns, when Temporal has been silent for the
operation's grace, and when the operation's workflow fails or is not polled for as long, or has ended: from then on
guards and proxies restore.

Renewals run in a task beside whoever judges, who never waits for a mesh: it is woken by the end of that task.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import structlog

from activities.contracts.operation import HaltRule
from activities.temporal_health import TemporalHealth
from autopilot.evidence.model import Inconclusive
from autopilot.mesh.errors import Condemned, LeaseLost, MeshError, TakenOver
from autopilot.mesh.leases.overrides import LeaseOrders
from autopilot.mesh.model import Lease
from autopilot.mesh.port import Mesh

_log = structlog.get_logger()

_LONGEST = 5.0
"""Maximum seconds between two renewals; a person's order or a higher priority takes effect within the same time."""
_RETRY = 0.5
"""Seconds after a renewal that failed; shorter where leases are short."""
_LIMIT = 10.0
"""Maximum seconds that one try may take before another is made."""
_AT_ONCE = 2
"""Tries under way at once. Each may hold a thread of the mesh, which restores need too, so they must not pile up."""
_CONDEMN = 1.0
"""Seconds that a verdict of harm waits for its lease to be condemned."""
_LINGER = 1.0
"""Seconds to wait for a cancelled renewal."""


class LeaseRenewer:
    """Renews one lease.

    Args:
        mesh: where it is held.
        lease: the lease.
        health: whether Temporal answers.
        grace: seconds without Temporal after which it is left to run out.
        halt: what the stop button means to whoever acts.
    """

    def __init__(self, mesh: Mesh, lease: Lease, health: TemporalHealth, *, grace: float, halt: HaltRule) -> None:
        self._mesh = mesh
        self._lease = lease
        self._health = health
        self._grace = grace
        self._halt = halt
        self._every = min(_LONGEST, lease.ttl / 10)
        self._limit = min(_LIMIT, lease.ttl / 4)
        self._renewed = -self._every
        self._tries: dict[asyncio.Task[LeaseOrders], float] = {}
        """Renewals under way → when each began."""
        self._left = False

    @contextlib.asynccontextmanager
    async def keeping(self) -> AsyncIterator[asyncio.Task[Inconclusive]]:
        """Renews in a task while the context lasts.

        Yields:
            The task. It ends with the reason as soon as the operation cannot go on, or with an error of ours.
        """
        task = asyncio.create_task(self.keep(), name=f"lease of {self._lease.target}")
        try:
            yield task
        finally:
            await _end([task, *self._tries])
            self._tries.clear()

    async def keep(self) -> Inconclusive:
        """Renews until the operation cannot go on; returns the reason."""
        while (found := await self.renew()) is None:
            due = self._renewed + self._every - time.monotonic()
            await asyncio.sleep(max(min(_RETRY, self._every), due))
        return found

    async def renew(self) -> Inconclusive | None:
        """Renews the lease when it is due; returns the reason where the operation cannot go on.

        A try that takes longer than a quarter of the lease's time to live is not waited for: it goes on, and the next
        call makes another.
        """
        if time.monotonic() - self._renewed < self._every:
            return None
        if self._unheard():
            return None  # no workflow would receive our verdict: let the guards restore
        if len(self._tries) < _AT_ONCE:
            attempt = asyncio.create_task(self._mesh.renew(self._lease), name=f"renewal of {self._lease.target}")
            self._tries[attempt] = time.monotonic()
        done, _ = await asyncio.wait(self._tries, timeout=self._limit, return_when=asyncio.FIRST_COMPLETED)
        found = [self._take(attempt) for attempt in done]
        return next((one for one in found if one is not None), None)

    async def condemn(self, reason: str) -> None:
        """Marks the lease as condemned, so that it cannot be renewed; a mesh that hangs is not waited for.

        The workflow restores in any case: condemning only helps where it cannot.
        """
        task = asyncio.create_task(self._mesh.condemn(self._lease, reason), name=f"condemn {self._lease.target}")
        try:
            done, _ = await asyncio.wait({task}, timeout=_CONDEMN)
        finally:
            if not task.done():
                _forget(task)
        if not done:
            _log.warning(
                "the lease could not be condemned in time; the operation is restored all the same",
                target=str(self._lease.target),
                seconds=_CONDEMN,
            )
            return
        with contextlib.suppress(MeshError):
            task.result()

    def _take(self, attempt: asyncio.Task[LeaseOrders]) -> Inconclusive | None:
        """Takes the end of one try."""
        began = self._tries.pop(attempt)
        try:
            standing = attempt.result()
        except LeaseLost as error:
            return Inconclusive(cause=_cause(error), reason=str(error))
        except MeshError:
            return None  # no answer, or a missing right: the next try follows soon, and the deadline stays
        self._renewed = max(self._renewed, began)
        return self._ordered(standing)

    def _ordered(self, standing: LeaseOrders) -> Inconclusive | None:
        if standing.yield_to:
            return Inconclusive(
                cause="takenOver",
                reason=f"{standing.yield_to}, which has a higher priority, takes {self._lease.target} over",
            )
        if standing.halted and self._halt == "end":
            return Inconclusive(cause="halted", reason=standing.halted)
        if not standing.halted and self._halt == "over":
            return Inconclusive(cause="stopped", reason="the halt was released")
        return None

    def _unheard(self) -> bool:
        workflow = self._health.workflow(self._lease.holder.operation)
        left = self._health.silent > self._grace or workflow.seconds > self._grace or workflow.over
        if left != self._left:
            self._left = left
            target, silent = str(self._lease.target), round(self._health.silent, 1)
            if left:
                _log.warning(
                    "the lease is left to expire: its operation would not receive a verdict",
                    target=target,
                    workflow=self._lease.holder.operation,
                    state=workflow.state,
                    temporal=self._health.state,
                    silent=silent,
                )
            else:
                _log.info("the lease is renewed again", target=target, workflow=self._lease.holder.operation)
        return left


def _cause(error: LeaseLost) -> Literal["leaseLost", "takenOver", "condemned"]:
    match error:
        case TakenOver():
            return "takenOver"
        case Condemned():
            return "condemned"
        case _:
            return "leaseLost"


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancels tasks and waits a moment for them; one that does not end is left alone, for its thread ends by itself."""
    for task in tasks:
        _forget(task)
    await asyncio.wait(tasks, timeout=_LINGER)


def _forget(task: asyncio.Task[Any]) -> None:
    """Cancels a task whose end interests nobody any more."""
    task.cancel()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
