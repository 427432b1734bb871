"""Worlds in which nothing moves: little and much traffic, harm of the smallest promised size, latency, clusters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from worlds.model import World
from worlds.scenarios.families import failing, percent, slower
from worlds.shapes import Lognormal

SHAPES = {
    "1ms": Lognormal(0.001, 0.5),
    "5ms": Lognormal(0.005, 0.6),
    "40ms": Lognormal(0.04, 1.0),
    "130ms": Lognormal(0.13, 0.15),
    "1300ms": Lognormal(1.3, 0.2),
    "3200ms": Lognormal(3.2, 0.1),
    "10s": Lognormal(10.0, 0.3),
}


def traffic() -> Iterator[World]:
    """From 0.5 to 20,000 requests/s, and 100 requests/s of which nothing is known before."""
    for rate in (0.5, 1, 2, 5, 20, 100, 1000, 20000):
        family = list(failing(World(name=f"traffic-{rate:g}", group="traffic", rate=rate), (1.0, 0.2, 0.05, 0.02)))
        yield from family
        if rate == 100:
            yield from (world.without_history() for world in family)


def detect() -> Iterator[World]:
    """Harm of exactly the size that is to be found: twice stable's share, and at least 1 % more."""
    for rate in (40, 100, 300, 1000):
        for base in (0.001, 0.005, 0.02):
            world = World(name=f"detect-{rate}-base-{percent(base)}", group="detect", rate=rate, base=base)
            for one in failing(world, (max(2 * base, base + 0.01),)):
                yield one if one.truth == "healthy" else replace(one, at_detect=True)


def latency() -> Iterator[World]:
    """Fast, slow and narrow services, that become slower by half, twice or three times."""
    for name, shape in SHAPES.items():
        yield from slower(World(name=f"latency-{name}", group="latency", shape=shape), (1.5, 2.0, 3.0))


def clusters() -> Iterator[World]:
    """Failures that come together, wholly in one arm."""
    for mean in (2, 5):
        yield from failing(World(name=f"clusters-{mean}", group="clusters", base=0.005, cluster=float(mean)))
