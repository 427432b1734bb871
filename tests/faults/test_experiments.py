"""Experiments in the quick form of the crash suite: whatever dies, nobody meets the fault any more in time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults import batch
from tests.faults.campaign import over_deadline, over_ttl
from tests.faults.cell import Cell
from tests.faults.events.all_events import EVENTS
from tests.faults.events.event import SHORT
from tests.faults.walks import WALKS, Point
from tests.faults.world.shape import Shape
from tests.faults.world.world import World, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

IN_HOLD = Point(WALKS["experiment-aborted"], 0, "during chaos.hold 1", 2.5, "before")
AFTER_APPLY = Point(WALKS["experiment"], 0, "after mesh.apply 1", 2.0, "before")
AFTER_HOLD = Point(WALKS["experiment"], 0, "after chaos.hold 1", 3.7, "before")
BEFORE_LIFT = Point(WALKS["experiment"], 0, "before mesh.lift 1", 3.8, "before")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crashed() -> AsyncIterator[World]:
    async with world(Shape(meshes=2, services=2, period=0.05)) as made:
        yield made


async def struck(crashed: World, name: str, *points: Point) -> list[Cell]:
    """The cells of one event, all of which must have been at their points."""
    cells = await batch.run(crashed, EVENTS[name], points)
    missed = [str(cell.point) for cell in cells if not cell.stood]
    assert not missed, f"never got there: {missed}"
    met = [cell for cell in cells if cell.seen and any(answer.canary for answer in cell.seen.answers)]
    assert name != "nothing" or met, "the fault was never met: nothing was tried"
    return cells


def faults(cells: list[Cell]) -> list[str]:
    return [f"{cell.event}, {cell.point}: {wrong}" for cell in cells for wrong in cell.violations]


async def test_standing_at_a_point_changes_nothing(crashed: World) -> None:
    assert not faults(await struck(crashed, "nothing", AFTER_APPLY, AFTER_HOLD, BEFORE_LIFT))


@pytest.mark.parametrize("event", ["abort by signal", "terminate"])
async def test_whoever_ends_it_the_mesh_heals_at_once(crashed: World, event: str) -> None:
    assert not faults(await struck(crashed, event, IN_HOLD, AFTER_APPLY, AFTER_HOLD, BEFORE_LIFT))


async def test_the_guard_process_heals_with_worker_and_temporal_dead(crashed: World) -> None:
    cells = await struck(crashed, "worker and Temporal dead", IN_HOLD, AFTER_APPLY, AFTER_HOLD)
    assert not faults(cells)
    assert all((over := over_ttl(cell, SHORT)) is not None and over <= 2 for cell in cells)


async def test_the_proxies_heal_with_everything_dead(crashed: World) -> None:
    cells = await struck(crashed, "worker, Temporal and guard dead", IN_HOLD, AFTER_APPLY, AFTER_HOLD)
    assert not faults(cells)
    assert all((over := over_deadline(cell)) is not None and over <= 1 for cell in cells)
