"""The half of the Mesh port that is the same for every provider: a ledger's and a commander's steps, each in a thread.

Ledgers are synchronous on purpose: a step is the same for a worker, a guard, and a test that plays a zombie.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

from autopilot.mesh.leases.overrides import NOBODY, Actor, Halt
from autopilot.mesh.model import (
    Aspect,
    Change,
    FaultSign,
    Holder,
    InjectFault,
    Lease,
    LeaseStatus,
    Receipt,
    Target,
)

_P = ParamSpec("_P")
_T = TypeVar("_T")
_THREADS = 16


class Ledger(Protocol):
    """Who holds what; see `autopilot.mesh.port.Mesh` for what each step means and raises."""

    def acquire(
        self,
        target: Target,
        aspects: Sequence[Aspect],
        *,
        operation: str,
        token: str,
        ttl: float,
        planned_end: float | None,
        queue: bool,
        by: Actor,
        asked: float,
    ) -> Lease:
        """Takes the lease."""
        ...

    def apply(self, lease: Lease, changes: Sequence[Change], by: Actor) -> Receipt:
        """Lays the changes over the base."""
        ...

    def condemn(self, lease: Lease, reason: str) -> None:
        """Harm was found."""
        ...

    def commit(self, lease: Lease, by: Actor) -> Receipt | None:
        """Makes the overlay the base."""
        ...

    def lift(self, lease: Lease, by: Actor) -> Receipt | None:
        """Takes the overlay away."""
        ...

    def leases(self) -> list[LeaseStatus]:
        """Every lease held."""
        ...


class Overrides(Protocol):
    """Orders of people."""

    def take_over(self, operation: str, by: Actor, until: float | None) -> list[Receipt]:
        """Restores what the operation holds, and keeps it."""
        ...

    def hand_back(self, target: Target, by: Actor) -> bool:
        """Lets operations have the target again."""
        ...

    def halt(self, halt: Halt) -> list[tuple[Holder, Receipt]]:
        """Starts a halt."""
        ...

    def unhalt(self, kind: str, namespace: str, by: Actor) -> bool:
        """Releases a halt."""
        ...

    def refused(self, target: Target, operation: str) -> str:
        """Why this operation could not start on the target now."""
        ...


class LedgerMesh:
    """A provider's mesh over its ledger and its commander; providers add what only they can do."""

    def __init__(self, ledger: Ledger, commander: Overrides) -> None:
        self._steps = ledger
        self._orders = commander
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="mesh")
        self._restores = ThreadPoolExecutor(_THREADS, thread_name_prefix="restore")

    async def in_thread(self, step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Runs a step in a thread of this mesh: a step that hangs does not block other meshes."""
        return await _run(self._threads, functools.partial(step, *args, **kwargs))

    async def close(self) -> None:
        """Releases the threads; running steps are completed."""
        for threads in (self._threads, self._restores):
            threads.shutdown(wait=False, cancel_futures=True)

    async def acquire(
        self,
        target: Target,
        aspects: Sequence[Aspect],
        *,
        operation: str,
        token: str,
        ttl: float,
        planned_end: float | None = None,
        queue: bool = False,
        by: Actor = NOBODY,
        asked: float = 0.0,
    ) -> Lease:
        """Takes the lease."""
        return await self.in_thread(
            self._steps.acquire,
            target,
            aspects,
            operation=operation,
            token=token,
            ttl=ttl,
            planned_end=planned_end,
            queue=queue,
            by=by,
            asked=asked,
        )

    async def apply(self, lease: Lease, changes: Sequence[Change], by: Actor = NOBODY) -> Receipt:
        """Lays the changes over the base."""
        return await self.in_thread(self._steps.apply, lease, changes, by)

    async def condemn(self, lease: Lease, reason: str) -> None:
        """Harm was found: the lease can no longer be renewed."""
        await self.in_thread(self._steps.condemn, lease, reason)

    async def signs(self, lease: Lease, changes: Sequence[Change]) -> list[FaultSign]:
        """How each fault is told in what proxies count: by its kind, where they have no names of ours."""
        del lease
        return [FaultSign(kind=one.fault.type) for one in changes if isinstance(one, InjectFault)]

    async def commit(self, lease: Lease, by: Actor = NOBODY) -> Receipt | None:
        """Makes the overlay the base."""
        return await self.in_thread(self._steps.commit, lease, by)

    async def lift(self, lease: Lease, by: Actor = NOBODY) -> Receipt | None:
        """Takes the overlay away, in a thread of its own: it waits for no other step, however many of them hang."""
        return await _run(self._restores, functools.partial(self._steps.lift, lease, by))

    async def leases(self) -> list[LeaseStatus]:
        """Every lease held."""
        return await self.in_thread(self._steps.leases)

    async def take_over(self, operation: str, by: Actor, until: float | None = None) -> list[Receipt]:
        """Restores what the operation holds, and keeps it from everybody until it is handed back."""
        return await self.in_thread(self._orders.take_over, operation, by, until)

    async def hand_back(self, target: Target, by: Actor) -> bool:
        """Lets operations have the target again."""
        return await self.in_thread(self._orders.hand_back, target, by)

    async def halt(self, halt: Halt) -> list[tuple[Holder, Receipt]]:
        """Starts a halt."""
        return await self.in_thread(self._orders.halt, halt)

    async def unhalt(self, kind: str, namespace: str, by: Actor) -> bool:
        """Releases a halt."""
        return await self.in_thread(self._orders.unhalt, kind, namespace, by)

    async def refused(self, target: Target, operation: str) -> str:
        """Why this operation could not start on the target now."""
        return await self.in_thread(self._orders.refused, target, operation)


async def _run(threads: ThreadPoolExecutor, step: Callable[[], _T]) -> _T:
    call = functools.partial(contextvars.copy_context().run, step)
    return await asyncio.get_running_loop().run_in_executor(threads, call)
