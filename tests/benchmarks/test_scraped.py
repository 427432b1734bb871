"""Scraped worlds: what a judge sees of counters, and what was lost on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from worlds.scraped import CANARY, EPOCH, STABLE, Scraped, Scraping, scraped_worlds

from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.ticks import HubTick

WORLDS = scraped_worlds()


def begin(seed: int = 1, **fields: object) -> Scraping:
    return Scraped(name="tried", **fields).begin(np.random.default_rng(seed))


def watched(run: Scraping, seconds: int, weight: float = 0.25) -> list[HubTick]:
    hub = Differencer(canary=CANARY, stable=STABLE, wanted=(0.1, 0.5))
    found = [hub.fold(run.look(weight)) for _ in range(seconds)]
    return [item for item in found if isinstance(item, HubTick)]


def test_each_harmful_world_has_a_healthy_twin():
    for world in WORLDS.values():
        assert replace(world, truth="healthy", harm=0.0, name="") == replace(WORLDS[world.twin], harm=0.0, name="")


@pytest.mark.parametrize("interval", [1.0, 5.0, 15.0, 30.0])
def test_each_series_is_scraped_at_its_interval(interval: float):
    run, times = begin(interval=interval), {}
    for _ in range(120):
        for sample in run.look(0.25).samples:
            times.setdefault(sample.series, set()).add(sample.time)
    assert len(times) == 6
    for found in times.values():
        assert np.diff(sorted(found)) == pytest.approx(interval)
    first = [min(found) % interval for found in times.values()]
    assert len(set(first)) == 6


def test_without_phases_all_are_scraped_at_the_same_instant():
    run = begin(phases=False)
    for _ in range(40):
        assert len({sample.time for sample in run.look(0.25).samples}) == 1


def test_counts_are_whole_once_everything_has_been_scraped():
    run = begin(interval=1.0, phases=False)
    found = watched(run, 301)
    requests = sum(item.tick.canary.requests for item in found)
    assert requests == pytest.approx(25 * 300, rel=0.05)
    assert sum(item.tick.stable.requests for item in found) == pytest.approx(75 * 300, rel=0.05)
    assert found[-1].boundaries == (0.1, 0.5)
    # The last second is not scraped yet, and the first look is no difference.
    assert requests <= run.requests <= requests + 2 * 45


def test_a_harmful_canary_fails_and_both_fail_in_an_outage():
    run = begin(truth="harmful", harm=0.2, outage=(100.0, 130.0, 0.4))
    before = [run.failures, run.requests]
    for _ in range(100):
        run.look(0.5)
    assert (run.failures - before[0]) / (run.requests - before[1]) == pytest.approx(0.2, abs=0.03)
    before = [run.failures, run.requests]
    for _ in range(30):
        run.look(0.5)
    assert (run.failures - before[0]) / (run.requests - before[1]) == pytest.approx(0.4, abs=0.05)


def test_load_rises_for_a_while():
    run, met = begin(load=(10.0, 20.0, 10.0)), [0.0]
    for _ in range(30):
        run.look(0.5)
        met.append(run.requests)
    steps = np.diff(met).reshape(3, 10).mean(axis=1)
    assert steps == pytest.approx([50, 500, 50], rel=0.2)


def test_some_scrapes_are_lost():
    run, seen = begin(lost=0.3, interval=1.0), set()
    for _ in range(500):
        seen |= {(sample.series, sample.time) for sample in run.look(0.1).samples}
    assert len(seen) == pytest.approx(0.7 * 500 * 6, rel=0.05)


@pytest.mark.parametrize("arm", [STABLE, CANARY])
def test_a_counter_that_begins_anew_is_noticed(arm: str):
    run, hub = begin(restart=(arm, 50.0)), Differencer(canary=CANARY, stable=STABLE)
    items = [hub.fold(run.look(0.25)) for _ in range(100)]
    said = [" ".join(item.notes) if isinstance(item, HubTick) else item.reason for item in items]
    told = [one for one in said if "was reset" in one]
    assert len(told) == 1
    assert f"pod {arm}-" in told[0]


def test_the_past_has_no_canary_and_ends_where_the_rollout_begins():
    run = begin()
    hub = Differencer(canary=CANARY, stable=STABLE)
    looks = list(run.past(300.0))
    assert len(looks) == 300
    assert looks[-1].time == EPOCH
    found = [item for item in map(hub.fold, looks) if isinstance(item, HubTick)]
    assert sum(item.tick.canary.requests for item in found) == 0
    assert sum(item.tick.stable.requests for item in found) == pytest.approx(100 * 285, rel=0.06)
    assert run.requests == 0
    assert run.look(0.1).time == EPOCH + 1
