"""Worlds seen through scrapes: counters of pods, each read at its own moments, some lost, one begun anew.

One rollout at a time: a run yields the observations that `autopilot.telemetry.counter_deltas.Differencer` folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from autopilot.evidence.statistics.arrays import Counts
from autopilot.telemetry.model import Counters, Observation, SeriesSample, Subject
from worlds.model import USUAL
from worlds.shapes import Shape

STABLE, CANARY = "stable", "canary"
SUBJECT = Subject(mesh="simulated", namespace="shop", service="reviews", arms=(STABLE, CANARY))
EPOCH = 1_000_000.0
"""What observations call the time of the rollout's first second."""
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histograms' buckets, in seconds."""
GROSS = (1.0, 0.2, 0.05)


@dataclass(frozen=True, kw_only=True)
class Scraped:
    """A scenario of one service whose pods are scraped. Times are seconds after the rollout's begin."""

    name: str
    truth: Literal["healthy", "harmful"] = "healthy"
    harm: float = float("nan")
    """The harmful canary's share of errors."""
    twin: str = ""
    """Name of the world that is the same with a healthy canary; its own where it is healthy."""
    rate: float = 100.0
    """Requests/s of the whole service."""
    base: float = 0.001
    """Share of requests that fail, in both arms."""
    interval: float = 15.0
    """Seconds between two scrapes of a series; at least `poll`."""
    poll: float = 1.0
    """Seconds between two looks at what has been scraped."""
    stable_pods: int = 5
    canary_pods: int = 1
    phases: bool = True
    """Each series is scraped at a phase of its own; else all at the same instant."""
    lost: float = 0.0
    """Share of scrapes that fail."""
    restart: tuple[str, float] | None = None
    """An arm whose first pod's counters begin anew at this time."""
    outage: tuple[float, float, float] | None = None
    """Begin, end, and the share of requests of both arms that fail meanwhile."""
    load: tuple[float, float, float] | None = None
    """Begin, end, and the factor of the rate meanwhile."""
    shape: Shape = USUAL

    def begin(self, rng: np.random.Generator) -> Scraping:
        """A run whose counters have been scraped for a while, with the canary at weight 0."""
        return Scraping(self, rng)


class Scraping:
    """One run. All series have been scraped once before the first look, unless every scrape was lost."""

    def __init__(self, world: Scraped, rng: np.random.Generator) -> None:
        self.world, self._rng = world, rng
        self._arms = [STABLE] * world.stable_pods + [CANARY] * world.canary_pods
        self._is_canary = np.array([arm == CANARY for arm in self._arms])
        pods = len(self._arms)
        self._due = np.full(pods, -2 * world.interval)
        if world.phases:
            self._due += rng.uniform(0.0, world.interval, pods)
        self._buckets = -np.diff(world.shape.slower(np.array(BOUNDS), np.ones(1))[0], prepend=1.0, append=0.0)
        self._requests, self._errors = np.zeros(pods), np.zeros(pods)
        self._histogram = np.zeros((pods, len(BOUNDS) + 1))
        self._scraped: dict[int, SeriesSample] = {}
        self.time = -2 * world.interval
        """Seconds after the rollout's begin, up to which counters have run."""
        self.requests, self.failures = 0.0, 0.0
        """What the canary's clients met so far."""
        while self.time < -1e-6:
            self._run(0.0, min(world.poll, -self.time))
        self.time = 0.0

    def past(self, seconds: float) -> Iterator[Observation]:
        """Looks at stable alone for a time before the rollout; the rollout begins after it."""
        shift = round(seconds / self.world.poll) * self.world.poll
        self.time -= shift
        self._due -= shift
        self._scraped = {pod: replace(one, time=one.time - shift) for pod, one in self._scraped.items()}
        while self.time < -1e-6:
            yield self.look(0.0)
        self.time = 0.0

    def look(self, weight: float) -> Observation:
        """Lets one `poll` pass with this share of the traffic (0 to 1) at the canary, and looks at the last scrapes."""
        self._run(weight, self.world.poll)
        samples = tuple(self._scraped[pod] for pod in sorted(self._scraped))
        return Observation(subject=SUBJECT, time=EPOCH + self.time, samples=samples)

    def _run(self, weight: float, seconds: float) -> None:
        """Counts until the scrapes that fall into this time, takes them, and counts on."""
        end = self.time + seconds
        self._restart(end)
        now = self._due < end
        until = np.where(now, np.maximum(self._due - self.time, 0.0), seconds)
        self._count(weight, until)
        for pod in np.flatnonzero(now):
            if self._rng.random() >= self.world.lost:
                self._scraped[int(pod)] = self._sample(int(pod))
        self._due[now] += self.world.interval
        self._count(weight, seconds - until)
        self.time = end

    def _restart(self, end: float) -> None:
        if self.world.restart is None:
            return
        arm, at = self.world.restart
        if self.time <= at < end:
            pod = self._arms.index(arm)
            self._requests[pod] = self._errors[pod] = 0.0
            self._histogram[pod] = 0.0

    def _count(self, weight: float, seconds: Counts) -> None:
        """Adds what each pod does in so many seconds, shape (pods,)."""
        world = self.world
        share = np.where(self._is_canary, weight / world.canary_pods, (1.0 - weight) / world.stable_pods)
        requests = self._rng.poisson(world.rate * self._now(world.load, 1.0) * share * seconds)
        errors = np.full(share.size, self._now(world.outage, world.base))
        if world.truth == "harmful":
            errors[self._is_canary] = np.maximum(errors[self._is_canary], world.harm)
        failed = self._rng.binomial(requests, errors)
        self._requests += requests
        self._errors += failed
        self._histogram += self._rng.multinomial(requests, self._buckets)
        if weight > 0:
            self.requests += float(requests[self._is_canary].sum())
            self.failures += float(failed[self._is_canary].sum())

    def _now(self, change: tuple[float, float, float] | None, usual: float) -> float:
        """The figure that a change brings while it lasts; changes begin and end with looks."""
        if change is None or not change[0] - 1e-6 <= self.time < change[1] - 1e-6:
            return usual
        return change[2]

    def _sample(self, pod: int) -> SeriesSample:
        cumulative = np.cumsum(self._histogram[pod])
        counters = Counters(
            requests=float(self._requests[pod]),
            errors=float(self._errors[pod]),
            timed=float(cumulative[-1]),
            buckets=tuple(zip(BOUNDS, cumulative[:-1].tolist(), strict=True)),
        )
        return SeriesSample(
            series=f"pod {self._arms[pod]}-{pod}",
            arm=self._arms[pod],
            time=EPOCH + float(self._due[pod]),
            started=None,  # Prometheus does not know it.
            attempt=counters,
            user=counters,
        )


def scraped_worlds() -> dict[str, Scraped]:
    """Every scraped world by its name; the twin of each harmful one is among them."""
    outage = (110.0, 140.0, 0.4)
    surroundings = [Scraped(name=f"scraped-{interval:g}s", interval=interval) for interval in (1.0, 5.0, 15.0, 30.0)]
    for pods in (1, 5, 30):
        pod = Scraped(name=f"scraped-pods-{pods}", stable_pods=pods)
        surroundings.append(replace(pod, name=f"{pod.name}-outage", outage=outage))
        surroundings.append(replace(pod, name=f"{pod.name}-load", load=(110.0, 170.0, 10.0)))
    lossy = Scraped(name="scraped-lossy", lost=0.3)
    surroundings += [
        replace(lossy, name="scraped-lossy-outage", outage=outage),
        replace(lossy, name="scraped-lossy-one-phase-outage", outage=outage, phases=False),
        Scraped(name="scraped-one-phase-outage", outage=outage, phases=False),
        Scraped(name="scraped-restart-stable", restart=(STABLE, 150.0)),
        Scraped(name="scraped-restart-canary", restart=(CANARY, 150.0)),
    ]
    found: dict[str, Scraped] = {}
    for world in surroundings:
        twin = f"{world.name}-healthy"
        found[twin] = replace(world, name=twin, twin=twin)
        for share in GROSS:
            name = f"{world.name}-errors-{100 * share:g}"
            found[name] = replace(world, name=name, twin=twin, truth="harmful", harm=share)
    return found
