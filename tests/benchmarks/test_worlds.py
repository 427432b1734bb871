"""Each world is drawn with the rates and shares that it claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
from worlds.canaries import Cold, Failing, Leak, Times
from worlds.catalogue import catalogue
from worlds.events import Bursts, Restarts
from worlds.model import Play, World
from worlds.moving import Diurnal, Incident, LoadStep, Wander

from autopilot.evidence.statistics.arrays import BatchArm, Counts

WORLDS = catalogue()
STEADY = [
    world
    for world in WORLDS.values()
    if world.truth == "harmful" and world.begins == 0.0 and math.isfinite(world.harm) and world.group != "cold starts"
]
STILL = [world for world in WORLDS.values() if world.group in ("traffic", "detect", "latency") and world.history > 0]


def world(**fields: object) -> World:
    return World(name="tried", group="traffic", **fields)


def play(one: World, n: int = 200, seed: int = 1) -> Play:
    return one.begin(np.random.default_rng(seed), n)


def ticks(run: Play, times: range, weight: float = 0.25, into: float = 1e9) -> tuple[BatchArm, BatchArm]:
    """The ticks at these seconds, arms of shape (ticks, n)."""
    found = [run.tick_of(float(time), np.full(run.n, weight), np.full(run.n, into)) for time in times]
    canary, stable = ([arms[side] for arms in found] for side in (0, 1))
    return stacked(canary), stacked(stable)


def stacked(arms: list[BatchArm]) -> BatchArm:
    names = ("requests", "errors", "timed", "slow")
    return BatchArm(**{name: np.stack([getattr(arm, name) for arm in arms]) for name in names})


def share(arm: BatchArm, rows: slice = slice(None)) -> float:
    return float(arm.errors[rows].sum() / arm.requests[rows].sum())


def near(found: float, expected: float, count: float, clusters: float = 1.0) -> bool:
    """Within five standard deviations of a share of so many requests."""
    return abs(found - expected) <= 5 * math.sqrt(clusters * max(expected * (1 - expected), 1e-9) / count) + 1e-12


def test_the_catalogue_pairs_each_harmful_world_with_a_healthy_one():
    for one in WORLDS.values():
        twin = WORLDS[one.twin]
        assert twin.truth == "healthy"
        assert (twin.rate, twin.base, twin.shape, twin.history) == (one.rate, one.base, one.shape, one.history)
        assert (one.twin == one.name) == (one.truth == "healthy")
        assert one.begins is None or one.truth == "harmful"
        assert math.isnan(one.harm) or one.truth == "harmful"
        if one.at_detect:
            assert one.harm == max(2 * one.base, one.base + 0.01)


@pytest.mark.parametrize("one", STEADY, ids=lambda one: one.name)
def test_a_harmful_canary_fails_as_often_as_the_world_says(one: World):
    canary, _ = ticks(play(one, 60), range(30), weight=0.5)
    # What happens to both arms besides comes on top, and a client's burst does so in its own arm.
    more = 0.005 if one.influences[1:] else 0.0
    found, count = share(canary), float(canary.requests.sum())
    clusters = 2 * one.cluster - 1
    assert near(found, one.harm, count, clusters) or one.harm < found <= one.harm + more


@pytest.mark.parametrize("one", STILL, ids=lambda one: one.name)
def test_stable_has_the_world_s_rate_share_and_latency(one: World):
    bounds = tuple(one.shape.quantile(q) for q in (0.5, 0.9, 0.99))
    _, stable = ticks(play(one.with_boundaries(bounds), 60), range(60), weight=0.25)
    count = float(stable.requests.sum())
    assert count == pytest.approx(0.75 * one.rate * 60 * 60, abs=5 * math.sqrt(0.75 * one.rate * 60 * 60))
    assert near(share(stable), one.base, count)
    for index, slow in enumerate((0.5, 0.1, 0.01)):
        assert near(float(stable.slow[..., index].sum()) / count, slow, count)


def test_an_incident_is_in_the_past_and_only_there():
    run = play(world(influences=(Incident(-1200.0, 10.0, 0.45, "stable"),)))
    past = list(run.past())
    assert sum(seconds for _, seconds in past) == 1800
    arms = stacked([arm for arm, _ in past])
    assert arms.requests.mean() == pytest.approx(500, rel=0.01)
    assert share(arms, slice(120, 122)) == pytest.approx(0.001 + 0.999 * 0.45, abs=0.005)
    assert share(arms, slice(0, 120)) == pytest.approx(0.001, abs=1e-4)
    assert share(arms, slice(122, None)) == pytest.approx(0.001, abs=1e-4)
    assert not list(play(world(history=0.0)).past())


def test_part_of_a_tick_counts_in_part():
    run = play(world(past_tick=15.0, influences=(Incident(-1200.0, 5.0, 0.45, "stable"),)))
    arms = stacked([arm for arm, _ in run.past()])
    assert share(arms, slice(40, 41)) == pytest.approx(0.15, abs=0.01)


def test_an_outage_is_shared_and_harm_comes_after_it():
    run = play(world(influences=(Incident(5.0, 5.0, 0.4), Failing(0.2, begins=15.0))))
    canary, stable = ticks(run, range(20))
    for arm in (canary, stable):
        assert share(arm, slice(5, 10)) == pytest.approx(0.4006, abs=0.01)
        assert share(arm, slice(10, 15)) < 0.002
    assert share(canary, slice(15, 20)) == pytest.approx(0.2, abs=0.01)
    assert share(stable, slice(15, 20)) < 0.002


def test_a_wandering_rate_wanders_as_far_and_as_fast_and_in_both_arms():
    run = play(world(rate=1e6, base=0.01, influences=(Wander("errors", 0.3),)), n=2000)
    canary, stable = ticks(run, range(0, 121, 60), weight=0.5)
    logs = np.log(stable.errors / stable.requests)
    assert logs.std(axis=1) == pytest.approx([0.3, 0.3, 0.3], rel=0.1)
    assert np.corrcoef(logs[0], logs[1])[0, 1] == pytest.approx(math.exp(-1), abs=0.08)
    assert np.corrcoef(logs[0], np.log(canary.errors[0] / canary.requests[0]))[0, 1] > 0.99
    assert share(stable) == pytest.approx(0.01, rel=0.03)


def test_wandering_latency_moves_both_arms_and_twice_the_errors_are_the_canary_s():
    moving = (Wander("latency", 0.2), Times(errors=2.0))
    one = world(rate=1e5, base=0.01, influences=moving).with_boundaries((0.04,))
    canary, stable = ticks(play(one), range(1), weight=0.5)
    assert np.corrcoef(canary.slow[0, :, 0], stable.slow[0, :, 0])[0, 1] > 0.9
    assert share(canary) == pytest.approx(2 * share(stable), rel=0.02)


def test_hours_move_load_and_errors_together():
    run = play(world(base=0.01, rate=1e4, influences=(Diurnal(0.6, 0.5, period=3600.0),)), n=1000)
    _, stable = ticks(run, range(0, 1801, 1800))
    load = stable.requests / 7500 - 1
    assert np.abs(load).max() == pytest.approx(0.6, abs=0.06)
    assert load[0] == pytest.approx(-load[1], abs=0.08)
    wave = np.stack([load[0], stable.errors[0] / stable.requests[0] / 0.01 - 1])
    assert np.corrcoef(wave)[0, 1] > 0.9


def test_load_rises_for_a_while():
    one = world(influences=(LoadStep(2.0, 2.0, 10.0, slowdown=2.0),)).with_boundaries((0.08,))
    canary, stable = ticks(play(one), range(6))
    assert canary.requests.mean(axis=1) == pytest.approx([25, 25, 250, 250, 25, 25], rel=0.05)
    assert stable.requests.mean(axis=1) == pytest.approx([75, 75, 750, 750, 75, 75], rel=0.05)
    assert stable.slow[2].sum() / stable.requests[2].sum() == pytest.approx(0.5, abs=0.01)


def test_pods_restart_as_often_as_said_in_each_arm_by_itself():
    run = play(world(base=0.0, influences=(Restarts(60.0),)), n=100)
    canary, stable = ticks(run, range(600), weight=0.5)
    for arm in (canary, stable):
        assert share(arm) == pytest.approx(2 / 60 / 5, rel=0.15)
    assert abs(np.corrcoef(canary.errors.sum(axis=0), stable.errors.sum(axis=0))[0, 1]) < 0.35
    past = stacked([arm for arm, _ in play(world(base=0.0, influences=(Restarts(60.0),))).past()])
    assert share(past) == pytest.approx(2 / 60 / 5, rel=0.15)


def test_a_burst_falls_into_one_arm_by_chance_of_the_weight():
    run = play(world(rate=0.0, influences=(Bursts(20, 60),)), n=2000)
    canary, stable = ticks(run, range(310), weight=0.25)
    of_canary, of_stable = canary.errors.sum(axis=0), stable.errors.sum(axis=0)
    assert not np.any((of_canary > 0) & (of_stable > 0))
    assert (of_canary + of_stable).mean() == pytest.approx(20, rel=0.02)
    assert (of_canary > 0).mean() == pytest.approx(0.25, abs=0.04)
    assert np.array_equal(canary.requests, canary.errors)


def test_bursts_that_are_known_were_there_before():
    known, unknown = (Bursts(20, 60, every=300.0, begins=-1800.0),), (Bursts(20, 60),)
    before = stacked([arm for arm, _ in play(world(rate=0.0, influences=known)).past()])
    assert before.errors.sum(axis=0).mean() == pytest.approx(1800 / 300 * 20, rel=0.1)
    assert not stacked([arm for arm, _ in play(world(rate=0.0, influences=unknown)).past()]).errors.any()


def test_a_leak_grows_and_late_harm_waits_for_its_weight():
    run = play(world(rate=1e4, influences=(Leak(0.05, 1200.0),)))
    canary, _ = ticks(run, range(0, 1801, 600))
    shares = canary.errors.sum(axis=1) / canary.requests.sum(axis=1)
    assert shares == pytest.approx([0.001, 0.0255, 0.05, 0.05], rel=0.02, abs=2e-4)
    last = WORLDS["late-last-errors-20"]
    assert share(ticks(play(last), range(5), weight=0.5)[0]) < 0.003
    assert share(ticks(play(last), range(5), weight=0.98)[0]) == pytest.approx(0.2, abs=0.01)


def test_a_cold_canary_is_slow_while_it_is_young():
    each = world(influences=(Cold(2.5, slowdown=3.0, errors=0.2, every_step=True),)).with_boundaries((0.12,))
    run, weight = play(each, n=400), np.full(400, 0.5)
    canary, stable = run.tick_of(100.0, weight, np.repeat([0.0, 2.0, 3.0, 50.0], 100))
    shares = (canary.errors / canary.requests).reshape(4, 100).mean(axis=1)
    assert shares == pytest.approx([0.201, 0.101, 0.001, 0.001], abs=0.015)
    slow = (canary.slow[:, 0] / canary.requests).reshape(4, 100).mean(axis=1)
    assert slow[0] == pytest.approx(0.5, abs=0.03)
    assert slow[3] == pytest.approx(float(stable.slow.sum() / stable.requests.sum()), abs=0.02)
    start = world(influences=(Cold(75.0, slowdown=3.0),)).with_boundaries((0.12,))
    canary, _ = ticks(play(start), range(70, 80))
    assert canary.slow[:5].sum() / canary.requests[:5].sum() == pytest.approx(0.5, abs=0.02)
    assert canary.slow[5:].sum() / canary.requests[5:].sum() < 0.12


@pytest.mark.parametrize("mean", [2, 5])
def test_clusters_have_geometric_sizes(mean: int):
    _, stable = ticks(play(world(base=0.005, cluster=float(mean))), range(300), weight=0.1)
    assert share(stable) == pytest.approx(0.005, rel=0.05)
    assert stable.errors.var() / stable.errors.mean() == pytest.approx(2 * mean - 1, rel=0.08)
    assert np.all(stable.errors <= stable.requests)


def test_the_same_seed_draws_the_same_whatever_else_is_looked_at():
    one = WORLDS["traffic-100-healthy"]
    plain, timed = play(one), play(one.with_boundaries((0.04, 0.1)))
    list(timed.past())
    for first, second in zip(ticks(plain, range(5)), ticks(timed, range(5)), strict=True):
        assert np.array_equal(first.requests, second.requests)
        assert np.array_equal(first.errors, second.errors)
        assert first.slow.shape == (5, 200, 0)
        assert second.slow.shape == (5, 200, 2)


def test_a_run_goes_on_with_some_of_its_rollouts():
    for one in WORLDS.values():
        run = play(one, 8)
        run.tick_of(0.0, np.full(8, 0.1), np.zeros(8))
        run.keep(np.array([1, 5, 6]))
        canary, stable = run.tick_of(1.0, np.full(3, 0.1), np.ones(3))
        assert canary.requests.shape == stable.errors.shape == (3,), one.name


def test_kept_rollouts_keep_what_is_theirs():
    run = play(world(rate=1e7, base=0.01, influences=(Wander("errors", 0.3),)), n=50)
    _, before = ticks(run, range(1))
    rows = np.flatnonzero(before.errors[0] > np.median(before.errors[0]))
    run.keep(rows)
    _, after = ticks(run, range(1, 2))
    expected: Counts = before.errors[0, rows]
    assert np.corrcoef(expected, after.errors[0])[0, 1] > 0.8


def test_boundaries_ascend():
    with pytest.raises(ValueError, match="ascend"):
        world().with_boundaries((0.2, 0.1))
