"""The quick form of the benchmark: every world with few rollouts and fixed seeds, to see that the judge is not blind.

It judges what a world is about, errors or latency, in ticks of 5 s where nothing depends on seconds. So its shares are
coarse, and no figures of the documentation come from it.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from autopilot.evidence.model import Judge
from worlds.catalogue import catalogue
from worlds.compared import GROSS
from worlds.figures import BOUNDS, SEEING
from worlds.model import World
from worlds.ours import DEFAULT, walk
from worlds.scraped import Scraped, scraped_worlds
from worlds.scrapes import walk_scraped

HEALTHY, HARMFUL = 24, 6
"""Rollouts of a healthy world, and of one with harm of detect size; of other harmful worlds."""
TICK = 5.0
FOUND = 0.05
"""Constant errors of this share and more must be found..."""
BUSY = 20.0
"""...where there are so many requests/s."""
SCRAPED_HISTORY = 120.0
LEAST_FOUND, LEAST_PROMOTED = 0.9, 0.75


@dataclass(frozen=True)
class Seen:
    """How a world's rollouts ended: numbers of them."""

    name: str
    group: str
    rollouts: int
    back: int
    promoted: int
    took: float
    """Seconds of computing."""


def groups() -> dict[str, list[str]]:
    """Names of worlds by group."""
    found: dict[str, list[str]] = {}
    for world in catalogue().values():
        found.setdefault(world.group, []).append(world.name)
    found["scraped"] = list(scraped_worlds())
    return found


def look(name: str) -> Seen:
    """Walks one world, for a pool."""
    began = time.process_time()
    world = catalogue().get(name)
    if world is None:
        scraped = scraped_worlds()[name]
        poll = min(TICK, scraped.interval)
        end = walk_scraped(replace(scraped, poll=poll), _rng(name), _judge("errors"), history=SCRAPED_HISTORY).end
        return Seen(name, "scraped", 1, end == "rolled_back", end == "promoted", time.process_time() - began)
    n = HEALTHY if world.truth == "healthy" or world.at_detect else HARMFUL
    outcome = walk(_coarse(world), _rng(name), n, _judge(world.kind)).outcome
    back, promoted = int(outcome.rolled_back.sum()), int(outcome.promoted.sum())
    return Seen(name, world.group, n, back, promoted, time.process_time() - began)


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(crc32(name.encode()))


def _judge(kind: str) -> Judge:
    return DEFAULT.model_copy(update={"metrics": tuple(one for one in DEFAULT.metrics if one.kind == kind)})


def _coarse(world: World) -> World:
    """Longer ticks where the canary is not at once known by its first seconds."""
    gross = world.harm in GROSS and world.begins == 0.0
    return world if gross else replace(world, tick=TICK)


def faults(seen: Sequence[Seen]) -> list[str]:
    """What is wrong with the judge, in words; shares of detect size are judged over all worlds given."""
    told = []
    known: dict[str, World | Scraped] = {**catalogue(), **scraped_worlds()}
    missed = [one for one in seen if getattr(known[one.name], "at_detect", False)]
    for one in seen:
        world = known[one.name]
        if world.truth == "healthy":
            told += _of_healthy(one, world.rate)
        elif world.harm in GROSS and world.rate >= SEEING and one.promoted:
            told.append(f"{one.name}: blind, {one.promoted} of {one.rollouts} promoted")
        elif _must_be_found(world) and one.back < LEAST_FOUND * one.rollouts:
            told.append(f"{one.name}: {one.back} of {one.rollouts} found")
    rollouts, promoted = sum(one.rollouts for one in missed), sum(one.promoted for one in missed)
    if promoted > BOUNDS["worst_missed_at_detect"] * max(1, rollouts):
        told.append(f"harm of detect size: {promoted} of {rollouts} promoted")
    return told


def _of_healthy(one: Seen, rate: float) -> list[str]:
    told = []
    if one.back > KNOWN_FALSE.get(one.name, 0):
        told.append(f"{one.name}: healthy, {one.back} of {one.rollouts} rolled back")
    elif rate >= BUSY and one.promoted < LEAST_PROMOTED * one.rollouts and one.name not in KNOWN_FALSE:
        told.append(f"{one.name}: healthy, only {one.promoted} of {one.rollouts} promoted")
    return told


def _must_be_found(world: World | Scraped) -> bool:
    late = isinstance(world, World) and world.begins is None
    return not late and not math.isnan(world.harm) and world.harm >= FOUND and world.rate >= BUSY


KNOWN_FALSE = {
    # One pod's failures, or one client's, are in one arm alone and last longer than a window: phi knows nothing of it.
    "restarts-healthy": 1,
    "restarts-often-healthy": 4,
    "burst-10-in-10s-healthy": 2,
    "burst-20-in-60s-healthy": 2,
    "burst-50-in-60s-healthy": 6,
    "bursts-known-20-in-60s-healthy": 1,
    "bursts-known-50-in-60s-healthy": 5,
    # A fifth of the first requests fail, of a few dozen.
    "cold-errors-each-step-healthy": 1,
    # In the last step there is no stable that would have the outage, too.
    "outage-shared-last-step-healthy": HEALTHY,
}
"""Worlds in which healthy canaries are rolled back, and of `HEALTHY` rollouts how many may be (docs/evidence.md)."""


def main(processes: int = 2) -> int:
    """Looks at every world; 1 where something is wrong."""
    began = time.perf_counter()
    names = [name for group in groups().values() for name in group]
    with ProcessPoolExecutor(processes) as pool:
        seen = []
        for one in pool.map(look, names, chunksize=4):
            seen.append(one)
            if "--progress" in sys.argv:
                print(f"{one.name:44} {one.back:3} {one.promoted:3} of {one.rollouts:3} {one.took:6.2f} s", flush=True)
    told = faults(seen)
    print(*told, sep="\n")
    print(f"{len(seen)} worlds, {len(told)} faults, {time.perf_counter() - began:.0f} s")
    return 1 if told else 0
