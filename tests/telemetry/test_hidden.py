"""What Envoy's counters hide, found in them all the same: hangs, resets, timeouts, retries, callers that leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from autopilot.telemetry.envoy.stats import EnvoyStats
from autopilot.telemetry.exposure import tally
from autopilot.telemetry.hub import Feed, Hub
from autopilot.telemetry.model import SeriesSample, Subject
from autopilot.telemetry.ticks import HubTick
from tests.telemetry.conftest import Lab

REVIEWS = Subject(mesh="local", namespace="shop", service="reviews", arms=("v1", "v2"))
DEAD = Subject(mesh="local", namespace="shop", service="reviews", arms=("v1", "dead"))
T = TypeVar("T")


@dataclass
class Seen:
    """What a feed has shown so far."""

    feed: Feed
    ticks: list[HubTick] = field(default_factory=list)

    async def during(self, work: Awaitable[T], *, and_for: float = 0.0) -> T:
        """Takes in ticks while something goes on, and for some seconds more."""
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        until = loop.time() + and_for
        while not task.done() or loop.time() < until:
            item = await anext(self.feed)
            if isinstance(item, HubTick):
                self.ticks.append(item)
            if not task.done():
                until = loop.time() + and_for
        return task.result()

    def slow(self, bound: int) -> float:
        return sum(item.tick.canary.slow[bound] for item in self.ticks)

    def total(self, name: str) -> float:
        return float(sum(getattr(item.tick.canary, name) for item in self.ticks))

    @property
    def exposure(self) -> tuple[float, float]:
        return sum(item.exposure.requests for item in self.ticks), sum(item.exposure.failures for item in self.ticks)


@asynccontextmanager
async def watching(
    envoy: Lab, subject: Subject = REVIEWS, canary: str = "v2", stable: str = "v1"
) -> AsyncIterator[Seen]:
    """Both arms have answered before, so that there are histograms."""
    await envoy.get("/v1/ok")
    await envoy.get("/v2/ok")
    await asyncio.sleep(0.3)
    async with (
        Hub(EnvoyStats({"web": envoy.admin})) as hub,
        hub.subscribe(subject, canary=canary, stable=stable, boundaries=(0.1, 0.5, 1.0), tick=0.5) as feed,
        asyncio.timeout(25),
    ):
        await anext(feed)
        yield Seen(feed)


async def sample(envoy: Lab, arm: str) -> SeriesSample:
    source = EnvoyStats({"web": envoy.admin})
    (found,) = await source.observe([Subject("local", "shop", "reviews", (arm,))])
    await source.close()
    return found.samples[0]


async def test_a_hang_is_late_long_before_its_timeout_and_once(envoy: Lab):
    async with watching(envoy) as seen:
        hung = asyncio.gather(*(envoy.get("/brief/hang") for _ in range(30)))
        await seen.during(asyncio.sleep(1.3))
        # Beyond what may be open anyhow, without company.
        assert 18 <= (late := seen.slow(0)) < 30
        assert (seen.total("requests"), seen.total("errors"), seen.exposure) == (0, 0, (30, 0))
        assert await seen.during(hung, and_for=1.0) == [[504]] * 30
        assert (seen.total("requests"), seen.total("errors"), seen.exposure) == (30, 30, (30, 30))
        assert seen.slow(0) == late, "its timeout is an error, and no second lateness"
    assert sum(sum(item.tick.stable.slow) for item in seen.ticks) == 0


async def test_callers_that_leave_take_no_evidence_along_and_make_none(envoy: Lab):
    async with watching(envoy) as seen:
        await seen.during(envoy.left("/v2/hang", 30, after=2.0), and_for=1.0)
        assert 18 <= (late := seen.slow(0)) < 30
        await seen.during(envoy.left("/v2/hang", 30, after=0.05), and_for=1.0)
        assert seen.slow(0) == late
        given, failed = seen.exposure
        assert 30 < given <= 60  # on a busy machine some leave before their request was sent
        assert (failed, seen.total("requests")) == (0, 0)


async def test_resets_are_errors_and_not_late(envoy: Lab):
    async with watching(envoy) as seen:
        await seen.during(envoy.get("/v2/reset", 5))
        await seen.during(envoy.get("/v2/ok", 5), and_for=1.0)
        assert (seen.slow(0), seen.total("errors"), seen.total("requests"), seen.total("timed")) == (0, 5, 10, 5)


async def test_refused_connections_are_given_and_failed(envoy: Lab):
    before = await sample(envoy, "dead")
    async with watching(envoy, DEAD, canary="dead") as seen:
        await seen.during(envoy.get("/dead", 3))
        await seen.during(envoy.get("/again", 2), and_for=1.0)
        assert seen.exposure == (5, 5)
        assert (seen.total("requests"), seen.total("errors"), seen.slow(0)) == (7, 7, 0)
    after = await sample(envoy, "dead")
    assert before.begun is not None
    assert after.begun is not None
    assert (after.begun - before.begun, after.given - before.given, after.active) == (7, 5, 0)


async def test_first_tries_that_fail_are_seen_though_every_user_is_served(envoy: Lab):
    async with watching(envoy, canary="v1", stable="v2") as seen:
        statuses = await seen.during(envoy.get("/v1/first", 20), and_for=1.0)
        assert statuses == [200] * 20
        assert (seen.total("requests"), seen.total("errors")) == (40, 20)
        assert seen.exposure == (20, 0)
        assert seen.slow(1) == 0


async def test_a_count_takes_what_stays_open_for_failed(envoy: Lab):
    source = EnvoyStats({"web": envoy.admin})
    loop = asyncio.get_running_loop()
    began = loop.time()
    (before,) = (await tally(source, REVIEWS, "v2")).values()
    assert loop.time() - began < 1.0, "nothing is open, so there is nothing to wait for"
    open_ones = asyncio.ensure_future(envoy.left("/v2/hang", 4, after=3.0))
    await asyncio.sleep(0.2)
    (after,) = (await tally(source, REVIEWS, "v2", patience=1.5)).values()
    await open_ones
    await source.close()
    assert (after[0] - before[0], after[1] - before[1]) == (4, 4)
