"""Families of worlds: the same surroundings with a healthy canary, and with harmful ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from worlds.canaries import Failing, Times
from worlds.model import World

GROSS = (1.0, 0.2, 0.05)
"""Shares of errors that must be found in every surroundings."""
PLAIN = "traffic-100-healthy"
"""The world in which nothing happens."""


def percent(share: float) -> str:
    """0.02 as 2, 0.001 as 0.1: for names."""
    return f"{100 * share:g}"


def healthy(world: World) -> World:
    """The world as it stands, named and paired as the healthy one of a family."""
    name = f"{world.name}-healthy"
    return replace(world, name=name, twin=name, truth="healthy", begins=None)


def failing(world: World, shares: Sequence[float] = GROSS, *, begins: float = 0.0) -> Iterator[World]:
    """A healthy world, and one for each share of errors that the canary has from `begins` on.

    Args:
        world: the surroundings; its name is the family's.
        shares: of requests that fail, 0 to 1.
        begins: seconds after the rollout's first tick.
    """
    twin = healthy(world)
    yield twin
    for share in shares:
        harm = Failing(share, begins=begins)
        yield replace(
            world,
            name=f"{world.name}-errors-{percent(share)}",
            twin=twin.name,
            truth="harmful",
            harm=share,
            begins=begins,
            influences=(*world.influences, harm),
        )


def slower(world: World, factors: Sequence[float]) -> Iterator[World]:
    """A healthy world, and one for each factor by which the canary's requests take longer from the start on."""
    twin = healthy(replace(world, kind="latency"))
    yield twin
    for factor in factors:
        yield replace(
            world,
            name=f"{world.name}-slower-{factor:g}",
            twin=twin.name,
            kind="latency",
            truth="harmful",
            begins=0.0,
            influences=(*world.influences, Times(slowdown=factor)),
        )
