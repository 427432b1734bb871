"""Worlds in which one arm has something of its own: restarts, bursts, leaks, late harm, cold starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from worlds.canaries import Cold, Failing, Leak
from worlds.events import Bursts, Restarts
from worlds.model import Step, World
from worlds.scenarios.families import PLAIN, failing, healthy, percent, slower

LATE = (0.01, 0.02, 0.05, 0.2)
"""Shares of errors that begin late."""
LAST = 0.9
"""From this weight on it is the last step, also where that leaves stable a small share."""


def restarts() -> Iterator[World]:
    """One of an arm's five pods fails for 2 s, about every ten or every two minutes, in each arm by itself."""
    yield from failing(World(name="restarts", group="pod restarts", influences=(Restarts(600.0),)))
    yield healthy(World(name="restarts-often", group="pod restarts", influences=(Restarts(120.0),)))


def bursts() -> Iterator[World]:
    """Clients whose requests all fail for a while: one in each rollout, or twelve an hour before and during it."""
    for size, seconds in ((10, 10), (20, 60), (50, 60)):
        one = World(name=f"burst-{size}-in-{seconds}s", group="client bursts", influences=(Bursts(size, seconds),))
        many = replace(
            one,
            name=f"bursts-known-{size}-in-{seconds}s",
            influences=(Bursts(size, seconds, every=300.0, begins=-1800.0),),
        )
        yield healthy(one)
        if size == 20:
            yield from failing(many)
        else:
            yield healthy(many)


def leaks() -> Iterator[World]:
    """Errors rise from 0.1 to 5 % over 20 minutes: in the default steps, and in steps that take as long."""
    leak = Leak(0.05, 1200.0)
    yield World(name="leak", group="leaks", truth="harmful", twin=PLAIN, influences=(leak,))
    slow = World(name="leak-slow", group="leaks", steps=tuple(Step(w, 240.0) for w in (0.05, 0.1, 0.25, 0.5, 1.0)))
    twin = healthy(slow)
    yield twin
    yield replace(slow, name="leak-slow-steps", truth="harmful", twin=twin.name, influences=(leak,))


def late() -> Iterator[World]:
    """Harm from the step of 50 % on, in the last step alone, or after five of ten minutes at 10 %."""
    for name, weight in (("from-50", 0.5), ("last", LAST)):
        for share in LATE:
            yield World(
                name=f"late-{name}-errors-{percent(share)}",
                group="late harm",
                truth="harmful",
                twin=PLAIN,
                harm=share,
                begins=None,
                influences=(Failing(share, from_weight=weight),),
            )
    long = World(name="late-5min", group="late harm", steps=(Step(0.1, 600.0), Step(0.5), Step(1.0)))
    yield from failing(long, (*LATE, 1.0), begins=300.0)


def cold() -> Iterator[World]:
    """Pods that are slow or fail while they are young: all of the canary's, after the start or at every step."""
    for name, start in {
        "slow-75s": Cold(75.0, slowdown=3.0),
        "slow-each-step": Cold(10.0, slowdown=3.0, every_step=True),
    }.items():
        world = World(name=f"cold-{name}", group="cold starts", influences=(start,))
        yield from slower(world, (2.0,))
        # The twin of both kinds of harm is the same world.
        yield from (one for one in failing(world, (1.0, 0.05)) if one.truth == "harmful")
    young = Cold(2.0, errors=0.2, every_step=True)
    yield from failing(World(name="cold-errors-each-step", group="cold starts", influences=(young,)))
