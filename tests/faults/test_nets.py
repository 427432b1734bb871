"""The quick form of `make crash`: every net once, at a few kill points, over real Envoys, Temporal, worker, guard."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults import batch
from tests.faults.campaign import over_deadline, over_ttl
from tests.faults.cell import Cell
from tests.faults.events.all_events import EVENTS
from tests.faults.events.event import SHORT, Event
from tests.faults.walks import WALKS, Point
from tests.faults.world.scene import Scene
from tests.faults.world.shape import Shape
from tests.faults.world.world import World, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

BEFORE_ACQUIRE = Point(WALKS["promoted"], 0, "before mesh.acquire 1", 0.2, "before")
IN_WATCH_1 = Point(WALKS["promoted"], 0, "during telemetry.watch 1", 1.3, "before")
AFTER_WATCH_1 = Point(WALKS["promoted"], 0, "after telemetry.watch 1", 1.7, "before")
IN_WATCH_2 = Point(WALKS["promoted"], 0, "during telemetry.watch 2", 2.6, "before")
BEFORE_APPLY = Point(WALKS["promoted"], 0, "before mesh.apply 2", 1.8, "before")
AFTER_COMMIT = Point(WALKS["promoted"], 0, "after mesh.commit 1", 3.2, "after")
AFTER_APPLY = Point(WALKS["promoted"], 0, "after mesh.apply 1", 0.7, "before")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crashed() -> AsyncIterator[World]:
    async with world(Shape(meshes=2, services=2, period=0.05)) as made:
        yield made


async def struck(crashed: World, name: str | Event, *points: Point) -> list[Cell]:
    """The cells of one event, all of which must have been at their points."""
    chosen = EVENTS[name] if isinstance(name, str) else name
    cells = await batch.run(crashed, chosen, points)
    missed = [str(cell.point) for cell in cells if not cell.stood]
    assert not missed, f"never got there: {missed}"
    return cells


def faults(cells: list[Cell]) -> list[str]:
    return [f"{cell.event}, {cell.point}: {wrong}" for cell in cells for wrong in cell.violations]


async def test_an_aborted_rollout_is_cleaned_up_within_a_second(crashed: World) -> None:
    cells = await struck(crashed, "abort by signal", IN_WATCH_1, IN_WATCH_2, AFTER_COMMIT)
    assert not faults(cells)


async def test_the_guard_child_restores_what_was_terminated_within_two(crashed: World) -> None:
    cells = await struck(crashed, "terminate", IN_WATCH_1, AFTER_APPLY, BEFORE_APPLY, IN_WATCH_2)
    assert not faults(cells)


async def test_a_lease_that_is_taken_after_its_rollout_was_terminated_ends(crashed: World) -> None:
    """No guard child knows of it: the guard process ends it when its time is over, and nobody may look before."""
    assert not faults(await struck(crashed, "terminate, a late write", BEFORE_ACQUIRE))


async def test_attempts_that_wake_up_late_land_nowhere(crashed: World) -> None:
    assert not faults(await struck(crashed, "attempts wake up after their successors", AFTER_APPLY, IN_WATCH_2))
    assert not faults(await struck(crashed, "aborted, attempts wake up late", AFTER_APPLY, IN_WATCH_2))


async def test_an_earlier_run_that_wakes_up_late_takes_nothing(crashed: World) -> None:
    assert not faults(await struck(crashed, "reset, the earlier run's attempts wake up late", AFTER_APPLY, IN_WATCH_2))


async def test_the_guard_process_restores_with_worker_and_temporal_dead(crashed: World) -> None:
    cells = await struck(crashed, "worker and Temporal dead", IN_WATCH_1, IN_WATCH_2)
    assert not faults(cells)
    assert all((over := over_ttl(cell, SHORT)) is not None and over <= 2 for cell in cells)


async def test_envoy_restores_with_everything_dead_and_a_missing_guard_is_noticed(crashed: World) -> None:
    """The suite must be able to fail: without the guard process, the lease is still there when it must be gone."""

    async def unguarded(scene: Scene) -> None:
        await crashed.guard.kill()
        await EVENTS["worker and Temporal dead"].strike(scene)

    event = Event("no guard", "envoy", unguarded, bound=1.0, patience=0.1)
    try:
        cells = await struck(crashed, event, IN_WATCH_1, IN_WATCH_2)
    finally:
        await crashed.guard.start()
    assert all("its lease went too late" in " ".join(cell.violations) for cell in cells)
    assert all((over := over_deadline(cell)) is not None and over <= 1 for cell in cells)
