"""Whole rollouts under a rule that is looked at from outside: what a rule must answer, and the walk."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from autopilot.evidence.statistics.arrays import BatchArm
from worlds.model import Step, World
from worlds.moment import Flags
from worlds.outcome import Outcome, Tally

LIMIT = 7200.0
"""Seconds after which a rollout that has not ended is inconclusive."""
SLACK = 1e-6
"""Seconds by which sums of ticks may miss a time."""


class Look(NamedTuple):
    """What a rule does with each rollout after a tick, shape (n,) each; `back` counts where several are set."""

    back: Flags
    up: Flags
    """Goes on with the next step, or is promoted after the last."""


class Judging(Protocol):
    """A rule in one run of n rollouts."""

    def fold(self, canary: BatchArm, stable: BatchArm, time: float) -> Look | None:
        """Takes a tick that ends `time` seconds after the first began; None where it looks at nothing yet."""
        ...


class Rule(Protocol):
    """A tool's way to judge rollouts."""

    @property
    def name(self) -> str:
        """What results are kept under."""
        ...

    def boundaries(self, world: World) -> tuple[float, ...]:
        """The latency boundaries it needs, in seconds, ascending."""
        ...

    def rungs(self, steps: tuple[Step, ...]) -> tuple[float, ...]:
        """The weights (0 to 1) that it goes through one by one for these steps."""
        ...

    def begin(self, n: int, steps: tuple[Step, ...]) -> Judging:
        """Judges n new rollouts."""
        ...


def walk(rule: Rule, world: World, rng: np.random.Generator, n: int, steps: tuple[Step, ...] | None = None) -> Outcome:
    """Walks n rollouts through a world until each has ended.

    Args:
        rule: who judges.
        world: where.
        rng: what the world is drawn from.
        n: number of rollouts.
        steps: weights and times; by default those that the world is meant for.
    """
    steps = world.steps if steps is None else steps
    play = world.with_boundaries(rule.boundaries(world)).begin(rng, n)
    weights, judging, tally = np.array(rule.rungs(steps)), rule.begin(n, steps), Tally(n)
    rung, risen, time = np.zeros(n, dtype=np.intp), np.zeros(n), 0.0
    while tally.running.any() and time < LIMIT:
        canary, stable = play.tick_of(time, weights[rung], time - risen)
        time += world.tick
        tally.count(canary)
        look = judging.fold(canary, stable, time)
        if look is None:
            continue
        tally.end(look.back, "rolled_back", at=time, weight=weights[rung])
        last = rung == weights.size - 1
        tally.end(look.up & last, "promoted", at=time, weight=weights[rung])
        before = weights[rung]
        rung += look.up & ~last & tally.running
        risen = np.where(weights[rung] > before, time, risen)
    tally.end(tally.running, "inconclusive", at=time, weight=weights[rung])
    return tally.outcome()
