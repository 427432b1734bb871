"""A world: one scenario of traffic, failures and latency, drawn for many rollouts at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

import numpy as np

from autopilot.evidence.statistics.arrays import BatchArm, Counts
from worlds.moment import Condition, Influence, Moment, Rows
from worlds.shapes import Lognormal, Shape

Group = Literal[
    "incidents", "shared outages", "wandering", "diurnal", "load steps", "pod restarts", "client bursts", "leaks",
    "late harm", "cold starts", "traffic", "latency", "detect", "clusters",
]  # fmt: skip


class Step(NamedTuple):
    """One weight of a rollout."""

    weight: float
    """The canary's share of the traffic, 0 to 1."""
    hold: float = 60.0
    """Seconds at this weight, at least."""


DEFAULT_STEPS = tuple(Step(weight) for weight in (0.05, 0.10, 0.25, 0.50, 1.0))
USUAL = Lognormal(0.04, 0.8)
"""Latency of most worlds: a median of 40 ms, and a 99th percentile of 260 ms."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A scenario. Times are seconds after the rollout's first tick; negative ones are before it."""

    name: str
    """What results are kept under."""
    group: Group
    rate: float = 100.0
    """Usual requests/s of the whole service."""
    base: float = 0.001
    """Usual share of requests that fail, in both arms."""
    tick: float = 1.0
    """Seconds a tick of the rollout covers."""
    past_tick: float = 5.0
    """Seconds a tick before the rollout covers."""
    history: float = 1800.0
    """Seconds of stable alone before the rollout."""
    truth: Literal["healthy", "harmful"] = "healthy"
    kind: Literal["errors", "latency"] = "errors"
    """What a harmful canary does worse."""
    harm: float = float("nan")
    """The harmful canary's share of errors where it is constant, else NaN."""
    at_detect: bool = False
    """The harm is exactly of the smallest size that the judge promises to find: max(2 p, p + 1 %)."""
    begins: float | None = 0.0
    """When harm begins; None where it depends on the weight, or where there is no harm."""
    twin: str = ""
    """Name of the world that is the same with a healthy canary; its own where it is healthy."""
    steps: tuple[Step, ...] = DEFAULT_STEPS
    """The walk that the scenario is meant for."""
    cluster: float = 1.0
    """Mean number of failures that come together, wholly in one arm; sizes are geometric."""
    shape: Shape = USUAL
    """Healthy latency."""
    influences: tuple[Influence, ...] = ()
    """What changes rates, in the order in which it applies."""
    boundaries: tuple[float, ...] = ()
    """Latency boundaries in seconds, ascending; `slow` counts the requests above each."""

    def __post_init__(self) -> None:
        if any(before >= after for before, after in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"boundaries must ascend: {self.boundaries}")

    def with_boundaries(self, boundaries: tuple[float, ...]) -> Self:
        """The same world, with latency counted at these boundaries (seconds, ascending).

        Raises:
            ValueError: they do not ascend.
        """
        return replace(self, boundaries=tuple(boundaries))

    def without_history(self) -> Self:
        """The same world, of which nothing is known before the rollout."""
        twin = f"{self.twin}-no-history" if self.twin else ""
        return replace(self, name=f"{self.name}-no-history", twin=twin, history=0.0)

    def begin(self, rng: np.random.Generator, n: int) -> Play:
        """A run of n rollouts in this world; new generators of the same seed draw the same."""
        return Play(self, rng, n)


class Play:
    """One run of n rollouts. `past` comes first if it is wanted at all, then ticks in the order of time."""

    def __init__(self, world: World, rng: np.random.Generator, n: int) -> None:
        self.world, self.n = world, n
        # Streams of their own: requests and failures are the same whether the past and latency are looked at or not.
        own, self._past, self._counts, self._latency = rng.spawn(4)
        self._boundaries = np.asarray(world.boundaries, dtype=float)
        streams = own.spawn(len(world.influences))
        self._acting = [influence.begin(stream, n) for influence, stream in zip(world.influences, streams, strict=True)]

    def past(self) -> Iterator[tuple[BatchArm, float]]:
        """Stable's ticks before the rollout, oldest first, each with the seconds it covers; arms of shape (n,)."""
        world, nobody = self.world, np.zeros(self.n)
        for number in range(round(world.history / world.past_tick)):
            time = number * world.past_tick - world.history
            moment = self._moment(time, world.past_tick, nobody, np.full(self.n, np.inf))
            yield self._drawn(self._past, moment, moment.stable, 1.0 - nobody), world.past_tick

    def tick_of(self, t: float, weight: Counts, into: Counts) -> tuple[BatchArm, BatchArm]:
        """The tick that begins `t` seconds after the first one.

        Args:
            t: seconds, the same for all rollouts.
            weight: the canary's share of the traffic in each rollout, 0 to 1, shape (n,).
            into: seconds from the last rise of its weight until `t`, shape (n,).

        Returns:
            Canary and stable: arms of shape (n,), with `slow` of shape (n, B).
        """
        weight = np.asarray(weight, dtype=float)
        moment = self._moment(t, self.world.tick, weight, np.asarray(into, dtype=float))
        canary = self._drawn(self._counts, moment, moment.canary, weight)
        return canary, self._drawn(self._counts, moment, moment.stable, 1.0 - weight)

    def keep(self, rows: Rows) -> None:
        """Goes on with these rollouts alone, by position; arrays have `len(rows)` rows from now on."""
        self.n = len(rows)
        for acting in self._acting:
            acting.keep(rows)

    def _moment(self, time: float, seconds: float, weight: Counts, into: Counts) -> Moment:
        n, base = self.n, self.world.base
        canary, stable = (Condition(np.full(n, base), np.ones(n), np.zeros(n)) for _ in range(2))
        moment = Moment(time, seconds, weight, into, np.ones(n), canary, stable)
        for acting in self._acting:
            acting.act(moment)
        return moment

    def _drawn(self, rng: np.random.Generator, moment: Moment, arm: Condition, share: Counts) -> BatchArm:
        expected = self.world.rate * moment.load * share * moment.seconds
        requests = rng.poisson(expected)
        chance = np.clip(arm.errors, 0.0, 1.0)
        if self.world.cluster > 1:
            errors = np.where(chance < 1, self._clustered(rng, expected * chance), requests)
            # A cluster brings its requests along, so that none is cut where there are few requests.
            requests = np.maximum(requests, errors)
        else:
            errors = rng.binomial(requests, chance)
        slow = self._slow(requests, arm.slowdown)
        if arm.extra.any():
            extra = rng.poisson(arm.extra)
            requests, errors = requests + extra, errors + extra
        counted = requests.astype(float)
        return BatchArm(requests=counted, errors=errors.astype(float), timed=counted, slow=slow)

    def _clustered(self, rng: np.random.Generator, expected: Counts) -> Rows:
        """Failures in clusters of geometric size, whose sum over k clusters is k more than negative binomial."""
        number = rng.poisson(expected / self.world.cluster)
        more = rng.negative_binomial(np.maximum(number, 1), 1.0 / self.world.cluster)
        return np.asarray(np.where(number > 0, number + more, 0))

    def _slow(self, requests: Rows, slowdown: Counts) -> Counts:
        """Of those above one boundary, how many are above the next."""
        slow = np.zeros((self.n, self._boundaries.size))
        if not self._boundaries.size:
            return slow
        shares = self.world.shape.slower(self._boundaries, slowdown)
        left, before = requests, np.ones(self.n)
        for index in range(self._boundaries.size):
            share = shares[:, index]
            chance = np.divide(share, before, out=np.zeros(self.n), where=before > 0)
            left, before = self._latency.binomial(left, np.minimum(chance, 1.0)), share
            slow[:, index] = left
        return slow
