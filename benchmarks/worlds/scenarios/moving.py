"""Worlds in which both arms move alike: incidents, outages, wandering rates, hours of the day, load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from worlds.canaries import Times
from worlds.model import World
from worlds.moving import Diurnal, Incident, LoadStep, Together, Wander
from worlds.scenarios.families import failing, healthy, slower

OUTAGE = 90.0
"""When a shared outage, or a change of load, begins in mid-rollout."""


def incidents() -> Iterator[World]:
    """Stable failed before the rollout: all of it for a while, or one of its five pods."""
    for seconds in (10, 60, 300):
        before = Incident(-1200.0, seconds, 0.45, "stable")
        yield from failing(World(name=f"incident-{seconds}s", group="incidents", influences=(before,)))
    just = Incident(-70.0, 10.0, 0.45, "stable")
    yield from failing(World(name="incident-minute-before", group="incidents", influences=(just,)))
    pod = Incident(-900.0, 5.0, 0.2, "stable")
    yield from failing(World(name="incident-pod-5s", group="incidents", influences=(pod,)))


def outages() -> Iterator[World]:
    """Both arms fail together in mid-rollout; where the canary is harmful, it fails from half a minute later on.

    Or in the last step, in which there is no stable to compare with.
    """
    for name, seconds, share in (("10s", 10.0, 0.4), ("30s", 30.0, 0.4), ("total-30s", 30.0, 1.0)):
        together = Incident(OUTAGE, seconds, share)
        world = World(name=f"outage-shared-{name}", group="shared outages", influences=(together,))
        yield from failing(world, begins=OUTAGE + seconds + 30.0)
    last = (Together(0.9, 30.0, 0.4),)
    yield healthy(World(name="outage-shared-last-step", group="shared outages", influences=last))


def wandering() -> Iterator[World]:
    """Stable's errors, or its latency, wander, and the canary's with them."""
    for rate in (100, 1000, 10000):
        for deviation in (0.1, 0.3):
            moves = (Wander("errors", deviation),)
            world = World(
                name=f"wander-{100 * deviation:g}-at-{rate}", group="wandering", rate=rate, base=0.01, influences=moves
            )
            twin = healthy(world)
            yield twin
            yield replace(
                world,
                name=f"{world.name}-errors-twice",
                twin=twin.name,
                truth="harmful",
                influences=(*moves, Times(errors=2.0)),
            )
    for deviation in (0.1, 0.2):
        latency = (Wander("latency", deviation),)
        world = World(name=f"wander-latency-{100 * deviation:g}", group="wandering", influences=latency)
        yield from slower(world, (1.5, 2.0))


def diurnal() -> Iterator[World]:
    """Load and errors follow the hours of a day, or move as much within an hour."""
    for name, hours in (("day", Diurnal(0.6, 0.5)), ("hour", Diurnal(0.6, 0.5, period=3600.0))):
        yield from failing(World(name=f"diurnal-{name}", group="diurnal", base=0.005, influences=(hours,)))


def load_steps() -> Iterator[World]:
    """The load changes tenfold in mid-rollout, for a minute or for good, and may make both arms slower."""
    for name, step in {
        "up-minute": LoadStep(OUTAGE, 60.0, 10.0),
        "up": LoadStep(OUTAGE, 1e9, 10.0),
        "down": LoadStep(OUTAGE, 1e9, 0.1),
    }.items():
        yield from failing(World(name=f"load-{name}", group="load steps", influences=(step,)))
    strained = LoadStep(OUTAGE, 60.0, 10.0, slowdown=2.0)
    yield healthy(World(name="load-up-strained", group="load steps", kind="latency", influences=(strained,)))
