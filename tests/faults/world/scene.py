"""One batch of rollouts on the stage: brings them to their points, does to them what their walks do, lets them go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from autopilot.mesh.model import Target
from autopilot.operations.common import Caller, Command
from tests.faults.cell import Cell
from tests.faults.waiting import WaitedInVain, until
from tests.faults.walks import WATCHES, Action
from tests.faults.world.control import Passed
from tests.faults.world.sampler import Sampler
from tests.faults.world.world import World

_WORD = Command(caller=Caller(who="crash suite"), reason="the crash suite says so")
BETWEEN = 0.06
"""Seconds between events that strike rollouts one by one: the suite is to measure the nets, not its own crowd."""


class Scene:
    """The batch; `cells` are all on different services."""

    def __init__(self, world: World, cells: Sequence[Cell], sampler: Sampler) -> None:
        self.world = world
        self.cells = list(cells)
        self.sampler = sampler
        self.passed: list[Passed] = []
        self._by_operation = {cell.operation: cell for cell in cells}
        self._failing: set[Target] = set()
        self._free: set[str] = set()
        self._due: list[Cell] = []

    async def assemble(self, *, ttl: float, heartbeat: float, grace: float = 120.0, limit: float = 8.0) -> None:
        """Starts every rollout so that all come to their points together, and waits until they stand there."""
        furthest = max(cell.point.offset for cell in self.cells)
        begun = time.monotonic()
        for cell in sorted(self.cells, key=lambda cell: -cell.point.offset):
            await asyncio.sleep(max(0.0, furthest - cell.point.offset - (time.monotonic() - begun)))
            if cell.point.label:
                self.world.control.stop_at(cell.operation, cell.point.label)
            name = cell.operation.rpartition("/")[2]
            cell.started = time.time()
            await cell.point.walk.start(self.world.client, cell.target, name, ttl=ttl, heartbeat=heartbeat, grace=grace)
        with contextlib.suppress(WaitedInVain):  # whoever does not get there is not covered, and says so
            await until(lambda: all(cell.reached for cell in self.cells), "points", limit=limit, every=0.02)

    @contextlib.asynccontextmanager
    async def driven(self) -> AsyncIterator[None]:
        """Follows the rollouts and does what their walks do, while the context lasts."""
        task = asyncio.create_task(self._drive(), name="walks")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # What events are made of

    async def each(
        self, strike: Callable[[Cell], Awaitable[object]], *, later: float = 0.0, between: float = BETWEEN
    ) -> None:
        """Strikes one after the other; each may go on `later` seconds after its own event."""
        tasks = []
        for cell in self.cells:
            cell.strike(time.time())
            await strike(cell)
            if later:
                tasks.append(asyncio.create_task(self._go_later(cell, later)))
            else:
                self.go(cell)
            await asyncio.sleep(between)
        await asyncio.gather(*tasks)

    def struck_now(self) -> None:
        """The event struck all at once, now."""
        now = time.time()
        for cell in self.cells:
            cell.strike(now)
            status = self.sampler.held.get(str(cell.target))
            cell.deadline = status.deadline if status else None

    def go(self, cell: Cell) -> None:
        """It is held no longer."""
        self.world.control.go(cell.operation)
        self._free.add(cell.operation)

    def go_all(self) -> None:
        """None is held any longer."""
        for cell in self.cells:
            self.go(cell)

    async def say(self, cell: Cell, verb: str) -> None:
        """Sends one signal; nobody may be there to hear it."""
        await self.tolerant(self.handle(cell).signal(verb, _WORD))

    def restore_began(self, cell: Cell) -> float | None:
        """Seconds from the event to the begin of the workflow's own restore; None where there was none after it."""
        return next(
            (
                item.time - cell.struck
                for item in self.passed
                if item.operation == cell.operation and item.time > cell.struck and item.label == "before mesh.lift 1"
            ),
            None,
        )

    def handle(self, cell: Cell) -> WorkflowHandle[object, object]:
        """The rollout in Temporal."""
        return self.world.client.get_workflow_handle(cell.operation)

    @staticmethod
    async def tolerant(call: Awaitable[object]) -> None:
        """Whatever has ended need not be ended again."""
        try:
            await call
        except RPCError as error:
            if error.status not in (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION):
                raise

    # Following

    async def _go_later(self, cell: Cell, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.go(cell)

    async def _drive(self) -> None:
        while True:
            for item in self.world.control.news():
                self.passed.append(item)
                cell = self._by_operation.get(item.operation)
                if cell is None:
                    continue
                if item.held:
                    cell.reached = item.time
                if item.label.startswith(WATCHES):
                    self._due.append(cell)
            held = [cell for cell in self._due if self._stands_at_watch(cell)]
            due, self._due = [cell for cell in self._due if cell not in held], held
            for cell in due:
                with contextlib.suppress(RPCError):
                    await self._act(cell)
            await asyncio.sleep(0.02)

    def _stands_at_watch(self, cell: Cell) -> bool:
        """Held in the midst of the very watch at which its next action is due: that comes after the event."""
        return cell.reached is not None and cell.point.label.startswith(WATCHES) and cell.operation not in self._free

    async def _act(self, cell: Cell) -> None:
        actions = cell.point.walk.actions
        if cell.actions >= len(actions):
            return
        action: Action = actions[cell.actions]
        cell.actions += 1
        match action:
            case "harm":
                self._failing.add(cell.target)
                self.world.fails(self._failing)
            case "terminate":
                await self.tolerant(self.handle(cell).terminate("the walk ends so"))
            case "abort" | "pause" | "resume":
                await self.say(cell, action)
