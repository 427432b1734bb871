"""Every kill point times every event: in batches, once more where a rollout missed its point, added up in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.faults import batch
from tests.faults.cell import Cell
from tests.faults.events.event import Event
from tests.faults.walks import Point
from tests.faults.world.world import World

_TRIES = 4
"""Each with batches half as large: on a machine that is busy, fewer rollouts can be held at once."""
_SMALLEST = 4
_FEW = 3
"""Of an event's cells that may be late in the crowd."""
Say = Callable[[str], None]


@dataclass
class Campaign:
    """What was found so far. `missed`: points at which no rollout could be held when the event came."""

    cells: list[Cell] = field(default_factory=list)
    missed: list[tuple[Event, Point]] = field(default_factory=list)
    late: list[Cell] = field(default_factory=list)
    """Cells that were late in the crowd and in time by themselves."""

    @property
    def violations(self) -> int:
        """Cells that were not as promised."""
        return sum(bool(cell.violations) for cell in self.cells)

    async def strike(self, world: World, event: Event, points: Sequence[Point], say: Say) -> None:
        """One event over the points, in batches that fit the world."""
        left = list(points)
        for attempt in range(_TRIES):
            missed: list[Point] = []
            size = min(len(world.targets), max(_SMALLEST, len(world.targets) >> attempt))
            for first in range(0, len(left), size):
                part = left[first : first + size]
                cells = await batch.run(world, event, part)
                self.cells += [cell for cell in cells if cell.stood]
                missed += [cell.point for cell in cells if not cell.stood]
            left = missed
            if not left:
                break
        self.missed += [(event, point) for point in left]
        await self._alone(world, event)
        done = [cell for cell in self.cells if cell.event == event.name]
        wrong = [cell for cell in done if cell.violations]
        say(f"{event.name}: {len(done)} of {len(points)} points, {len(wrong)} violations, worst {shown(worst(done))}")
        for cell in wrong:
            say(f"    {cell.point} ({cell.operation}): {'; '.join(cell.violations)}")

    async def _alone(self, world: World, event: Event) -> None:
        """Plays the few that were merely late once more, each by itself.

        Sixty rollouts, their clients and their proxies share one machine, and what is promised is the nets' time, not
        the crowd's. Late again, or many at once, is a violation.
        """
        late = [cell for cell in self.cells if cell.event == event.name and cell.merely_late]
        for cell in late if len(late) <= _FEW else []:
            (again,) = await batch.run(world, event, [cell.point])
            if again.stood:
                self.cells[self.cells.index(cell)] = again
                self.late += [] if again.violations else [cell]


def worst(cells: Iterable[Cell], of: Callable[[Cell], float | None] = lambda cell: cell.restored) -> float | None:
    """The largest figure of the cells that have one."""
    return max((value for cell in cells if (value := of(cell)) is not None), default=None)


def over_ttl(cell: Cell, ttl: float) -> float | None:
    """Seconds from the lease's end to live until its lease was gone, where the guard alone was left to end it."""
    if cell.net != "guard" or cell.gone is None or cell.gone < cell.struck:
        return None
    return max(0.0, cell.gone - cell.struck - ttl)


def over_deadline(cell: Cell) -> float | None:
    """Seconds from the proxies' deadline to the last request that version 2 answered, where they alone were left."""
    if cell.net != "envoy" or cell.deadline is None or cell.restored is None:
        return None
    return max(0.0, cell.restored - (cell.deadline - cell.struck))


def shown(seconds: float | None) -> str:
    """For a table."""
    return "-" if seconds is None else f"{seconds:.2f} s"
