"""Finds the kill points: what each walk really passes when nobody stops it."""

from __future__ import annotations

import time
from collections.abc import Iterable

from tests.faults.batch import clear, rest
from tests.faults.cell import Cell
from tests.faults.events.all_events import EVENTS
from tests.faults.waiting import WaitedInVain
from tests.faults.walks import Point, Walk, distinct, points_of
from tests.faults.world.sampler import Sampler
from tests.faults.world.scene import Scene
from tests.faults.world.world import World


async def find(world: World, walks: Iterable[Walk]) -> list[Point]:
    """Walks every walk once, and numbers what it passed.

    Raises:
        WaitedInVain: a walk did not end as it should.
    """
    plain = EVENTS["nothing"]
    cells = [
        Cell(
            Point(walk, 0, "", 0.0, "before"),
            plain.name,
            plain.net,
            target,
            walk.operation(target, f"points-{walk.name}"),
        )
        for walk, target in zip(walks, world.targets, strict=False)
    ]
    sampler = Sampler(list(world.planes.values()))
    scene = Scene(world, cells, sampler)
    found: list[Point] = []
    async with sampler.looking(), scene.driven():
        for cell in cells:
            cell.reached = time.time()
        await scene.assemble(ttl=plain.ttl, heartbeat=5.0)
        if not await rest(scene, 25.0):
            raise WaitedInVain("the walks did not end by themselves")
        for cell in cells:
            if len(cell.point.walk.actions) != cell.actions:
                raise WaitedInVain(f"only {cell.actions} actions of walk {cell.point.walk.name} were done")
            passed = [
                (item.label, item.time - cell.started) for item in scene.passed if item.operation == cell.operation
            ]
            found += points_of(cell.point.walk, passed)
        await clear(scene)
    return distinct(found)
