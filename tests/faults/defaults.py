"""Each net once at its defaults: two minutes to live, two minutes unattended. Mostly a matter of waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.faults import batch
from tests.faults.campaign import Campaign, Say, shown, worst
from tests.faults.cell import Cell
from tests.faults.events.all_events import EVENTS
from tests.faults.events.event import Event
from tests.faults.judge import LATE
from tests.faults.walks import Point
from tests.faults.world.scene import Scene
from tests.faults.world.shape import Shape
from tests.faults.world.world import World, world

TTL = 120.0
_POINTS = ("during telemetry.watch 1", "after telemetry.watch 1")


async def both_dead(scene: Scene) -> None:
    """Only the guard process is left."""
    await scene.sampler.look()
    scene.struck_now()
    await asyncio.gather(scene.world.worker.kill(), scene.world.temporal.kill())
    scene.go_all()
    await asyncio.sleep(TTL + 2.5)
    await scene.sampler.look()
    for cell in scene.cells:
        cell.gone = scene.sampler.gone.get(str(cell.target))
        if scene.sampler.leases_of(cell.target):
            cell.violations.append(f"its lease went {LATE}: it was there {TTL + 2.5:g} s after the event")
    await scene.world.temporal.start()
    await scene.world.worker.start()


async def all_dead(scene: Scene) -> None:
    """Only the proxies are left."""
    await asyncio.gather(scene.world.worker.kill(), scene.world.temporal.kill(), scene.world.guard.kill())
    await scene.sampler.look()
    scene.struck_now()
    scene.go_all()
    await asyncio.sleep(TTL + 2.5)
    await asyncio.gather(scene.world.temporal.start(), scene.world.guard.start())
    await scene.world.worker.start()


DEAD_BUT_THE_GUARD = Event("worker and Temporal dead, defaults", "guard", both_dead, TTL, TTL + 2, patience=40)
DEAD_BUT_ENVOY = Event("worker, Temporal and guard dead, defaults", "envoy", all_dead, TTL, 1.0, patience=40)


async def play(found: Campaign, points: Sequence[Point], say: Say) -> None:
    """Both long events at once, each in a world of its own."""
    chosen = [point for point in points if point.walk.name == "promoted" and point.label in _POINTS]
    await asyncio.gather(
        _one(found, chosen, say, DEAD_BUT_THE_GUARD, ("abort by signal", "terminate")),
        _one(found, chosen, say, DEAD_BUT_ENVOY, ()),
    )


async def _one(found: Campaign, points: Sequence[Point], say: Say, event: Event, first: Sequence[str]) -> None:
    async with world(Shape(meshes=1, services=len(points), period=0.2)) as made:
        for name in first:
            short = EVENTS[name]
            renamed = Event(
                f"{name}, defaults", short.net, short.strike, TTL, short.bound, short.lives, short.ends, patience=30
            )
            await _strike(found, made, renamed, points, say)
        await _strike(found, made, event, points, say)


async def _strike(found: Campaign, made: World, event: Event, points: Sequence[Point], say: Say) -> None:
    cells: list[Cell] = await batch.run(made, event, points)
    found.cells += [cell for cell in cells if cell.stood]
    found.missed += [(event, cell.point) for cell in cells if not cell.stood]
    say(f"{event.name}: {len(cells)} points, worst {shown(worst(cells))}")
    for cell in cells:
        if cell.violations:
            say(f"    {cell.point}: {'; '.join(cell.violations)}")
