"""Every world under our judge and under each peer's rule: how often, how fast, and what the canary's clients meet.

A version that is promoted goes on: so requests that meet a harmful canary are counted for an hour from the rollout's
begin, with all the traffic at the canary from the promotion on. Otherwise a rule that promotes at once would let the
fewest failures through. Harm counts as what it is: in worlds of kind latency every request to the canary is slow.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from autopilot.evidence.statistics.arrays import Counts
from worlds import ours, rule
from worlds.catalogue import catalogue
from worlds.model import World
from worlds.outcome import Outcome
from worlds.peers import PEERS
from worlds.scraped import Scraped, scraped_worlds
from worlds.scrapes import walk_scraped

HOUR = 3600.0
ALSO = 0.01
"""The larger alpha at which false rollbacks are counted as well."""
GROSS = (1.0, 0.2)
"""Shares of errors that may never be promoted."""
OURS = "ours"
_LOOKS = 20


@dataclass(frozen=True)
class Ends:
    """How rollouts of one world ended under one rule."""

    rollouts: int
    back: float
    """Share rolled back."""
    promoted: float
    also: float = 0.0
    """Share rolled back at an alpha of `ALSO`; of ours alone."""
    seconds: tuple[float, ...] = ()
    """Of those that were rolled back, from the begin of harm on."""
    met: float = 0.0
    """Mean failures (or slow requests) within the hour."""
    metrics: tuple[float, ...] = ()
    """Share rolled back for each metric."""

    def plus(self, other: Ends) -> Ends:
        """Both together."""
        n = self.rollouts + other.rollouts
        one, two = self.rollouts / n, other.rollouts / n
        metrics = zip(self.metrics, other.metrics, strict=True)
        return Ends(
            rollouts=n,
            back=one * self.back + two * other.back,
            promoted=one * self.promoted + two * other.promoted,
            also=one * self.also + two * other.also,
            seconds=self.seconds + other.seconds,
            met=one * self.met + two * other.met,
            metrics=tuple(one * first + two * second for first, second in metrics),
        )


@dataclass(frozen=True)
class Compared:
    """One world under every rule that walked it."""

    name: str
    group: str
    truth: str
    kind: str
    twin: str
    rate: float
    harm: float
    """Constant share of errors, or NaN."""
    at_detect: bool
    took: float
    """Seconds of computing."""
    ends: dict[str, Ends] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A world to walk so often; a part of its own draws differently."""

    name: str
    rollouts: int
    part: int = 0
    peers: int = 0
    """Rollouts of each peer."""


def run(task: Task) -> Compared:
    """Walks one world, for a pool."""
    began = time.process_time()
    scraped = scraped_worlds().get(task.name)
    if scraped is not None:
        return _scraped(scraped, task, began)
    world = catalogue()[task.name]
    walked = ours.walk(world, _rng(task), task.rollouts, also=ALSO)
    later = _later(world)
    mine = _ends(world, walked.outcome, later)
    metrics = tuple(float((walked.metric == number).mean()) for number in range(len(ours.DEFAULT.metrics)))
    ends = {OURS: Ends(**{**vars(mine), "also": float(walked.also.mean()), "metrics": metrics})}
    for peer in PEERS if task.peers else ():
        ends[peer.name] = _ends(world, rule.walk(peer, world, _rng(task), task.peers), later)
    return Compared(
        name=world.name, group=world.group, truth=world.truth, kind=world.kind, twin=world.twin, rate=world.rate,
        harm=world.harm, at_detect=world.at_detect, took=time.process_time() - began, ends=ends,
    )  # fmt: skip


def _rng(task: Task) -> np.random.Generator:
    return np.random.default_rng([crc32(task.name.encode()), task.part])


def _ends(world: World, outcome: Outcome, later: float) -> Ends:
    since = outcome.ended[outcome.rolled_back] - (world.begins or 0.0)
    return Ends(
        rollouts=outcome.ended.size,
        back=float(outcome.rolled_back.mean()),
        promoted=float(outcome.promoted.mean()),
        seconds=tuple(since.tolist()),
        met=float(_met(world, outcome, later).mean()),
    )


def _met(world: World, outcome: Outcome, later: float) -> Counts:
    until = outcome.requests if world.kind == "latency" else outcome.failures
    left = np.where(outcome.promoted, np.maximum(HOUR - outcome.ended, 0.0), 0.0)
    return np.asarray(until + left * later)


def _later(world: World) -> float:
    """What a promoted version's clients meet in a second, mean of the rest of the hour."""
    play = world.begin(np.random.default_rng(crc32(world.name.encode())), _LOOKS)
    found = []
    for number in range(_LOOKS):
        at = HOUR * (number + 1) / (_LOOKS + 1)
        canary, _ = play.tick_of(at, np.ones(_LOOKS), np.full(_LOOKS, at))
        found.append((canary.requests if world.kind == "latency" else canary.errors).mean())
    return float(np.mean(found)) / world.tick


def _scraped(world: Scraped, task: Task, began: float) -> Compared:
    rng = _rng(task)
    ends = [walk_scraped(world, rng) for _ in range(task.rollouts)]
    share = 0.0 if math.isnan(world.harm) else world.harm
    met = [
        one.failures + (max(HOUR - one.ended, 0.0) * world.rate * share if one.end == "promoted" else 0.0)
        for one in ends
    ]
    mine = Ends(
        rollouts=task.rollouts,
        back=float(np.mean([one.end == "rolled_back" for one in ends])),
        promoted=float(np.mean([one.end == "promoted" for one in ends])),
        also=float("nan"),
        seconds=tuple(one.ended for one in ends if one.end == "rolled_back"),
        met=float(np.mean(met)),
        metrics=(float("nan"), float("nan")),
    )
    return Compared(
        name=world.name, group="scraped", truth=world.truth, kind="errors", twin=world.twin, rate=world.rate,
        harm=world.harm, at_detect=False, took=time.process_time() - began, ends={OURS: mine},
    )  # fmt: skip
