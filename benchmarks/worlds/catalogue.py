"""All worlds in which judges are compared, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from worlds.model import World
from worlds.scenarios import canaries, moving, still

FAMILIES: tuple[Callable[[], Iterator[World]], ...] = (
    moving.incidents,
    moving.outages,
    moving.wandering,
    moving.diurnal,
    moving.load_steps,
    canaries.restarts,
    canaries.bursts,
    canaries.leaks,
    canaries.late,
    canaries.cold,
    still.traffic,
    still.detect,
    still.latency,
    still.clusters,
)


def catalogue() -> dict[str, World]:
    """Every world by its name; the twin of each is among them.

    Raises:
        ValueError: two worlds have the same name, or a twin is missing.
    """
    found: dict[str, World] = {}
    for family in FAMILIES:
        for world in family():
            if world.name in found:
                raise ValueError(f"two worlds are called {world.name}")
            found[world.name] = world
    lacking = sorted(world.name for world in found.values() if world.twin not in found)
    if lacking:
        raise ValueError(f"the healthy twin is missing of: {', '.join(lacking)}")
    return found
