"""Whatever dies, the mesh returns to what it was in time: every kill point of a rollout, every event, every net.

`--only NAME…` plays some events (to look into one), `--at TEXT…` those points whose names hold a text. `--part 1/4`
plays every fourth cell, `--part 2/4` the next: each point meets some of the events, each event some of the points.
Nothing is then recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recording import record

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.faults import defaults
from tests.faults.campaign import Campaign, over_deadline, over_ttl, shown, worst
from tests.faults.cell import Cell
from tests.faults.events.all_events import EVENTS
from tests.faults.events.event import SHORT, Event
from tests.faults.interleavings import shards
from tests.faults.interleavings.machine import Findings
from tests.faults.kill_points import find
from tests.faults.walks import WALKS, Point
from tests.faults.world.clocks import NoClocks
from tests.faults.world.shape import Shape
from tests.faults.world.world import World, world

# Two services a listener: every file that a proxy follows is a watch of the kernel's, of which a user has 128.
SHAPE = Shape(meshes=8, services=6, together=2)
INTERLEAVINGS, ON_ENVOYS = 500, 28
BOUNDS = {
    "clean-up": "1 s",
    "guard child": "2 s",
    "guard": "TTL + 2 s",
    "envoy": "deadline + 1 s",
    "lease": "TTL + 2 s",
    "none": "-",
}
_QUICK = ("clean-up", "guard child")
_BEGUN = time.monotonic()

Cells = Sequence[tuple[Event, Sequence[Point]]]
"""Events, each with the points that it meets."""


def say(text: str) -> None:
    """Progress, with the time it took."""
    print(f"[{time.monotonic() - _BEGUN:5.0f} s] {text}", flush=True)


@dataclass(frozen=True, slots=True)
class Part:
    """Which of all cells are played: every `of`-th, begun at another point for each event."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Part:
        """Reads `1/2`."""
        found = re.fullmatch(r"([1-9]\d?)/([1-9]\d?)", text)
        if found is None or int(found[1]) > int(found[2]):
            raise argparse.ArgumentTypeError(f"{text!r} is no part; write 1/2 or 2/2")
        return cls(int(found[1]), int(found[2]))

    def points(self, event: Event, points: Sequence[Point]) -> list[Point]:
        """Those that this event meets."""
        first = (self.number - 1 + list(EVENTS).index(event.name)) % self.of
        return list(points[first :: self.of])


async def quick_nets(found: Campaign, chosen: Cells, made: World) -> None:
    """Events whose nets answer within a second or two: nothing else may run beside them."""
    for event, points in chosen:
        if event.net in _QUICK:
            await found.strike(made, event, points, say)


def slow_nets(chosen: Cells) -> deque[tuple[Event, Sequence[Point]]]:
    """The others, mostly a matter of waiting, but for those that move clocks."""
    return deque((event, points) for event, points in chosen if event.net not in _QUICK and not event.moves_clocks)


async def lane(found: Campaign, left: deque[tuple[Event, Sequence[Point]]], made: World) -> None:
    """Plays in one world what no other lane has taken."""
    while left:
        event, points = left.popleft()
        await found.strike(made, event, points, say)


async def second_lane(found: Campaign, chosen: Cells, left: deque[tuple[Event, Sequence[Point]]]) -> None:
    """In a world of its own: first the events that move its clocks, then what the first lane has not taken."""
    await clocks(found, chosen)
    if left:
        async with world(SHAPE) as made:
            await lane(found, left, made)


async def clocks(found: Campaign, chosen: Cells) -> None:
    """Events that move a clock, in a world whose processes take theirs from a file."""
    moving = [(event, points) for event, points in chosen if event.moves_clocks]
    if not moving:
        return
    try:
        async with world(SHAPE, clocks=True) as made:
            for event, points in moving:
                await found.strike(made, event, points, say)
    except NoClocks as error:
        say(f"NOT COVERED: clocks cannot be moved here, {error}")
        found.missed += [(event, point) for event, points in moving for point in points]


async def interleavings(part: Part) -> Findings:
    """Random ones, others in each part: most in memory, some over real proxies."""
    count, on_envoys = -(-INTERLEAVINGS // part.of), -(-ON_ENVOYS // part.of)
    seed = 10_000 * (part.number - 1)
    with tempfile.TemporaryDirectory(prefix="crash-", ignore_cleanup_errors=True) as folder:
        found = await shards.play(Path(folder), count, shards=6, first_seed=seed + 1, limit=600)
        say(f"{found.interleavings} interleavings in memory, {len(found.violations)} violations: {found.outcomes}")
    async with world(Shape(meshes=1, services=1), guard=False, worker=False) as made:
        (place,) = (plane.place for plane in made.planes.values())
        shard = shards.Shard("proxies", made.address, "default", place.file, on_envoys, seed + 1000, proxies=True)
        real = await shards.run(made.folder, [shard], limit=300)
        say(f"{real.interleavings} interleavings on Envoy, {len(real.violations)} violations: {real.outcomes}")
    found.interleavings += real.interleavings
    found.violations += real.violations
    return found


def table(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    """Net x kill points x operation x event, with the worst restore time of each."""
    rows = [("net", "must", "operation", "event", "kill points", "worst", "violations")]
    for net, usual in BOUNDS.items():
        for name, kind in dict.fromkeys((cell.event, cell.point.walk.kind) for cell in cells if cell.net == net):
            own = [cell for cell in cells if (cell.net, cell.event, cell.point.walk.kind) == (net, name, kind)]
            wrong = sum(bool(cell.violations) for cell in own)
            bound = "4 s" if net == "guard child" and "dead" in name else usual
            rows.append((net, bound, kind, name, str(len(own)), _figure(net, own), str(wrong)))
    return rows


def _figure(net: str, cells: Sequence[Cell]) -> str:
    """The worst restore time, counted as the net's bound is."""
    match net:
        case "clean-up" | "guard child":
            return shown(worst(cells))
        case "guard":
            ttl = defaults.TTL if "defaults" in cells[0].event else SHORT
            return f"TTL + {shown(worst(cells, lambda cell: over_ttl(cell, ttl)))}"
        case "envoy":
            return f"deadline + {shown(worst(cells, over_deadline))}"
    return "-"


def restore_wait(cell: Cell) -> float:
    """Seconds from the event until the operation's restore began; 0 where it had nothing to restore."""
    return cell.restore_began or 0.0


async def play(
    events: Sequence[Event], part: Part, at: Sequence[str], *, whole: bool
) -> tuple[Campaign, int, Findings]:
    """Everything; what waits long is played side by side."""
    found = Campaign()
    async with world(SHAPE) as made:
        points = await find(made, WALKS.values())
        say(f"{len(points)} kill points in {len(WALKS)} walks")
        points = [point for point in points if not at or any(text in str(point) for text in at)]
        chosen = [(event, part.points(event, points)) for event in events]
        long = [defaults.play(found, points, say)] if whole else []
        await quick_nets(found, chosen, made)
        left = slow_nets(chosen)
        async with asyncio.TaskGroup() as lanes:
            for one in (*long, lane(found, left, made), second_lane(found, chosen, left)):
                lanes.create_task(one)
    played = await interleavings(part) if whole else Findings()
    return found, len(points), played


def main() -> int:
    """Plays, prints the table, records, and says by its exit code whether all was as promised."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", metavar="EVENT", choices=sorted(EVENTS))
    parser.add_argument("--part", type=Part.parse, default=Part(), metavar="K/N")
    parser.add_argument("--at", nargs="+", metavar="TEXT", default=[])
    given = parser.parse_args()
    only, part = given.only, given.part
    whole = not (only or given.at)
    chosen = [EVENTS[name] for name in only] if only else list(EVENTS.values())
    found, points, played = asyncio.run(play(chosen, part, given.at, whole=whole))
    violations = found.violations + len(played.violations)
    covered = points - len({(point.walk.name, point.label) for _, point in found.missed})
    for event, point in found.missed:
        say(f"NOT COVERED: {event.name}, {point}")
    for cell in found.cells:
        for violation in cell.violations:  # said when they were found too, a long way up
            say(f"VIOLATION: {cell.event}, {cell.point} ({cell.operation}): {violation}")
    for violation in played.violations:
        say(f"VIOLATION: {'; '.join(violation['wrong'])}: {' → '.join(violation['steps'])}")
    for cell in found.late:
        say(f"late in the crowd, in time by itself: {cell.event}, {cell.point}: {'; '.join(cell.violations)}")
    say(f"{len(found.cells)} cells, {violations} violations")
    waited = max((cell for cell in found.cells if "slot" in cell.event), key=restore_wait, default=None)
    if waited is not None:
        say(f"the longest wait of a restore while every slot was taken: {restore_wait(waited):.2f} s, {waited.point}")
    cleaned = [cell for cell in found.cells if cell.net == "clean-up"]
    terminated = [cell for cell in found.cells if cell.net == "guard child" and "dead" not in cell.event]
    figures = {
        "kill_points": points,
        "covered": covered,
        "cells": len(found.cells),
        "interleavings": played.interleavings,
        "violations": violations,
        "late_in_the_crowd": len(found.late),
        "late_writes_landed": sum(len(cell.landed) for cell in found.cells),
        "lost_reports": sum(cell.lost_reports for cell in found.cells),
        "worst_restore_wait_s": round(restore_wait(waited), 2) if waited else 0.0,
        "worst_judge_stall_s": round(max((cell.stall for cell in found.cells), default=0.0), 2),
        "worst_cleanup_s": round(worst(cleaned) or 0.0, 2),
        "worst_terminate_s": round(worst(terminated) or 0.0, 2),
        "worst_lease_over_ttl_s": round(
            worst(found.cells, lambda c: over_ttl(c, defaults.TTL if "defaults" in c.event else SHORT)) or 0.0, 2
        ),
        "worst_envoy_over_deadline_s": round(worst(found.cells, over_deadline) or 0.0, 2),
        "seconds": round(time.monotonic() - _BEGUN),
    }
    if not whole or part != Part():
        say(", ".join(f"{name} {value:g}" for name, value in figures.items()))
    else:
        record("crash", "make crash", figures, table(found.cells), "Whatever dies, the mesh returns")
    return 1 if violations or found.missed else 0


if __name__ == "__main__":
    sys.exit(main())
