"""The hub: one poll for all, every tick heard of, nothing lost, nobody held up."""

from __future__ import annotations

import asyncio
import time

import pytest

from autopilot.telemetry.hub import Feed, Hub
from autopilot.telemetry.model import Observation, Subject, TelemetryError, TelemetrySource
from autopilot.telemetry.ticks import Gap, HubTick
from tests.telemetry.fakes import RATINGS, REVIEWS, ScriptedSource, counters, sample, seen

TICK = 0.5


def rising(number: int, subject: Subject) -> Observation:
    """Ten requests of stable and one of the canary a poll."""
    now = time.time()
    pair = (sample("v1", now, counters(10.0 * number)), sample("v2", now, counters(1.0 * number)))
    return seen(now, *pair, subject=subject)


async def take(feed: Feed, count: int) -> list[HubTick | Gap]:
    async with asyncio.timeout(count * TICK + 5):
        return [await anext(feed) for _ in range(count)]


def test_the_script_is_a_source():
    assert isinstance(ScriptedSource(rising), TelemetrySource)


async def test_ticks_come_after_a_first_gap():
    source = ScriptedSource(rising)
    async with Hub(source) as hub, hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=TICK) as feed:
        first, *rest = await take(feed, 4)
    assert isinstance(first, Gap)
    assert all(isinstance(item, HubTick) for item in rest)
    assert [item.tick.stable.requests for item in rest if isinstance(item, HubTick)] == [10, 10, 10]
    assert [item.measured for item in rest if isinstance(item, HubTick)] == [1 / 11] * 3
    assert all(0.3 < item.tick.seconds < 1 for item in rest if isinstance(item, HubTick))
    assert source.closed


async def test_many_feeds_share_one_poll_of_each_subject():
    source = ScriptedSource(rising)
    async with (
        Hub(source) as hub,
        hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=TICK) as one,
        hub.subscribe(RATINGS, canary="v2", stable="v1", tick=TICK) as two,
        hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=TICK) as three,
    ):
        await asyncio.gather(take(one, 3), take(two, 3), take(three, 3))
        assert 3 <= len(source.polls) <= 4
        assert all(poll == (REVIEWS, RATINGS) for poll in source.polls)


async def test_polling_stops_with_the_last_feed_and_begins_again():
    source = ScriptedSource(rising)
    async with Hub(source) as hub:
        async with hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=TICK) as feed:
            await take(feed, 1)
        polls = len(source.polls)
        await asyncio.sleep(1.5 * TICK)
        assert len(source.polls) == polls
        async with hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=TICK) as feed:
            assert isinstance((await take(feed, 2))[1], HubTick)


async def test_a_slow_consumer_loses_nothing_and_holds_nobody_up():
    source = ScriptedSource(rising)
    async with (
        Hub(source) as hub,
        hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=TICK) as slow,
        hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=TICK) as quick,
    ):
        await take(slow, 1)
        steps = await take(quick, 4)
        merged = (await take(slow, 1))[0]
    assert isinstance(merged, HubTick)
    found = [item for item in steps if isinstance(item, HubTick)]
    assert len(found) == 3
    assert merged.tick.stable.requests == sum(item.tick.stable.requests for item in found)
    assert merged.tick.seconds == pytest.approx(sum(item.tick.seconds for item in found))
    assert merged.tick.time == found[-1].tick.time


async def test_a_source_that_fails_gives_gaps_and_is_asked_again():
    def script(number: int, subject: Subject) -> Observation:
        if number in {1, 2}:
            raise TelemetryError("Prometheus at http://nowhere can't be read; check that it runs")
        return rising(number, subject)

    async with Hub(ScriptedSource(script)) as hub, hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=TICK) as feed:
        _, one, two, item = await take(feed, 4)
    assert isinstance(one, Gap)
    assert isinstance(two, Gap)
    assert "check that it runs" in one.reason
    assert two.silent_seconds > one.silent_seconds > 0
    assert isinstance(item, HubTick)
    assert item.tick.stable.requests == 30  # what came while it was away is not lost
    assert 1.2 < item.tick.seconds < 2


async def test_a_source_that_hangs_wakes_everyone_each_tick():
    source = ScriptedSource(rising, delay=60)
    async with (
        Hub(source, timeout=1.2) as hub,
        hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=TICK) as feed,
    ):
        began = time.monotonic()
        found = await take(feed, 3)
        assert time.monotonic() - began < 2.5
    assert all(isinstance(item, Gap) and "script has not answered" in item.reason for item in found)


async def test_the_unexpected_is_raised_not_swallowed():
    def script(number: int, subject: Subject) -> Observation:
        if number == 1:
            raise KeyError("surprise")
        return rising(number, subject)

    async with Hub(ScriptedSource(script)) as hub, hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=TICK) as feed:
        assert isinstance((await take(feed, 1))[0], Gap)
        with pytest.raises(KeyError, match="surprise"):
            await take(feed, 1)
        with pytest.raises(KeyError, match="surprise"):
            await take(feed, 1)
        # One that comes later is not tied to the poller that died.
        async with hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=TICK) as fresh:
            assert isinstance((await take(fresh, 2))[1], HubTick)


async def test_closing_ends_open_feeds():
    hub = Hub(ScriptedSource(rising))
    async with hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=TICK) as feed:
        await take(feed, 1)
        await hub.close()
        async with asyncio.timeout(5):
            assert [item async for item in feed] == []


async def test_what_can_not_be_watched_is_refused():
    hub = Hub(ScriptedSource(rising))
    with pytest.raises(ValueError, match="too short"):
        async with hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=0.1):
            pass
    with pytest.raises(ValueError, match="has no arm v9"):
        async with hub.subscribe(REVIEWS, canary="v9", stable="v1"):
            pass
