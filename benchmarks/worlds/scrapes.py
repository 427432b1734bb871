"""Whole rollouts in scraped worlds: what `autopilot.telemetry.counter_deltas` makes of scrapes, judged tick by tick."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from autopilot.evidence import canary
from autopilot.evidence.model import Advance, Harm, Judge, StepRule
from autopilot.spec.canary import CanaryStep
from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.ticks import HubTick
from worlds.model import DEFAULT_STEPS, Step
from worlds.ours import DEFAULT, MIN_REQUESTS, boundaries, following
from worlds.outcome import End
from worlds.rule import LIMIT
from worlds.scraped import CANARY, STABLE, Scraped, Scraping

HISTORY = 600.0
"""Seconds of scrapes before the rollout: less than a rollout looks at, for each second takes a look."""


class ScrapedEnd(NamedTuple):
    """How one rollout ended."""

    end: End
    ended: float
    """Seconds after the rollout's begin."""
    failures: float
    """Failed requests of the canary's clients until then."""


def walk_scraped(
    world: Scraped,
    rng: np.random.Generator,
    judge: Judge = DEFAULT,
    steps: tuple[Step, ...] = DEFAULT_STEPS,
    *,
    history: float = HISTORY,
) -> ScrapedEnd:
    """Walks one rollout; seconds in which no series advanced give no tick, and the rollout waits.

    Args:
        world: where.
        rng: what the world is drawn from.
        judge: how it is judged.
        steps: weights and times.
        history: seconds of scrapes before the rollout.
    """
    run = world.begin(rng)
    bounds = boundaries(world.shape)
    judge, hub = following(judge, bounds), Differencer(canary=CANARY, stable=STABLE, wanted=bounds)
    past = [item.tick for item in map(hub.fold, run.past(history)) if isinstance(item, HubTick)]
    state = canary.observe(judge, canary.start(judge), past)
    for number, step in enumerate(steps):
        state = canary.begin_step(judge, state) if number else state
        state, verdict = _step(judge, state, run, hub, step)
        if isinstance(verdict, Advance):
            continue
        return ScrapedEnd("rolled_back" if isinstance(verdict, Harm) else "inconclusive", run.time, run.failures)
    return ScrapedEnd("promoted", run.time, run.failures)


def _step(
    judge: Judge, state: canary.JudgeState, run: Scraping, hub: Differencer, step: Step
) -> tuple[canary.JudgeState, canary.Verdict | None]:
    limit = CanaryStep(weight=50, hold=step.hold).limit
    rule = StepRule(hold=step.hold, min_requests=MIN_REQUESTS, limit=limit, alone=step.weight >= 1)
    while run.time < LIMIT:
        item = hub.fold(run.look(step.weight))
        if not isinstance(item, HubTick):
            continue
        state, verdict = canary.update(judge, rule, state, item.tick)
        if verdict is not None:
            return state, verdict
    return state, None
