"""The benchmark's judge of many rollouts says what the judge of one says, at the same tick."""

from __future__ import annotations

import numpy as np
import pytest
from worlds.catalogue import catalogue
from worlds.model import Step, World
from worlds.ours import DEFAULT, boundaries, following, walk

from autopilot.evidence import canary
from autopilot.evidence.model import Advance, ArmTick, Harm, StepRule, Tick
from autopilot.evidence.statistics.arrays import BatchArm
from autopilot.spec.canary import CanaryStep

STEPS = (Step(0.1, 20.0), Step(0.5, 20.0), Step(1.0, 20.0))
WORLDS = catalogue()


def arm(drawn: BatchArm) -> ArmTick:
    return ArmTick(
        requests=drawn.requests[0], errors=drawn.errors[0], timed=drawn.timed[0], slow=tuple(drawn.slow[0].tolist())
    )


def scalar(world: World, seed: int) -> tuple[str, float, float]:
    """How one rollout ended, when, and how many requests its canary had."""
    bounds = boundaries(world.shape)
    judge, play = following(DEFAULT, bounds), world.with_boundaries(bounds).begin(np.random.default_rng(seed), 1)
    past = [Tick(time=0, seconds=seconds, stable=arm(drawn)) for drawn, seconds in play.past()]
    state, time, requests = canary.observe(judge, canary.start(judge), past), 0.0, 0.0
    for number, step in enumerate(STEPS):
        state = canary.begin_step(judge, state) if number else state
        limit = CanaryStep(weight=50, hold=step.hold).limit
        rule = StepRule(hold=step.hold, min_requests=100, limit=limit, alone=step.weight >= 1)
        verdict, since = None, time
        while verdict is None:
            drawn = play.tick_of(time, np.array([step.weight]), np.array([time - since]))
            time += world.tick
            tick = Tick(time=1000 + time, seconds=world.tick, canary=arm(drawn[0]), stable=arm(drawn[1]))
            requests += tick.canary.requests
            state, verdict = canary.update(judge, rule, state, tick)
        if isinstance(verdict, Harm):
            return "rolled back", time, requests
        if not isinstance(verdict, Advance):
            return "inconclusive", time, requests
    return "promoted", time, requests


@pytest.mark.parametrize(
    "name",
    [
        "traffic-1000-healthy", "traffic-100-errors-5", "traffic-100-errors-2-no-history", "traffic-20-errors-20",
        "outage-shared-30s-errors-100", "incident-10s-errors-20", "latency-40ms-slower-2", "latency-5ms-slower-1.5",
    ],
)  # fmt: skip
def test_many_at_once_are_judged_as_one(name: str) -> None:
    for seed in (1, 2):
        outcome = walk(WORLDS[name], np.random.default_rng(seed), 1, steps=STEPS).outcome
        end = next(
            end
            for end, flags in (
                ("rolled back", outcome.rolled_back),
                ("promoted", outcome.promoted),
                ("inconclusive", outcome.inconclusive),
            )
            if flags[0]
        )
        assert (end, outcome.ended[0], outcome.requests[0]) == scalar(WORLDS[name], seed)
