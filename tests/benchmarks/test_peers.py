"""The peers' rules on cases made by hand, and on worlds whose end is plain."""

from __future__ import annotations

import numpy as np
import pytest
from worlds.canaries import Failing
from worlds.kayenta import Kayenta, mann_whitney
from worlds.model import DEFAULT_STEPS, Step, World
from worlds.moment import Flags
from worlds.outcome import Outcome, Tally
from worlds.peers import PEERS, Gate, argo, flagger
from worlds.rule import Rule, walk

from autopilot.evidence.statistics.arrays import BatchArm

N = 20


def arm(requests: float, errors: float = 0.0, slow: float = 0.0) -> BatchArm:
    """One rollout's tick."""
    return BatchArm(*(np.array([float(value)]) for value in (requests, errors, requests)), slow=np.array([[slow]]))


def looks(gate: Gate, *minutes: BatchArm) -> list[str]:
    """What the gate does at the end of each minute, whose requests come in its first tick."""
    judging, found, time = gate.begin(1, DEFAULT_STEPS), [], 0.0
    for minute in minutes:
        for second in range(60):
            time += 1.0
            look = judging.fold(minute if second == 0 else arm(0), arm(0), time)
            assert (look is not None) == (second == 59)
        assert look is not None
        found.append("back" if look.back[0] else "up" if look.up[0] else "stays")
    return found


def ended(rule: Rule, **fields: object) -> Outcome:
    return walk(rule, World(name="tried", group="traffic", **fields), np.random.default_rng(1), N)


def test_flagger_rolls_back_one_check_after_the_threshold():
    good, bad = arm(1000, 10), arm(1000, 11)
    assert looks(flagger(1), bad, good) == ["stays", "back"]
    assert looks(flagger(2), bad, good, bad, good) == ["stays", "up", "stays", "back"]


def test_flagger_looks_at_the_99th_percentile_and_at_silence():
    slow, quick, silent = arm(1000, 0, 11), arm(1000, 0, 10), arm(0)
    assert looks(flagger(1), slow, quick) == ["stays", "back"]
    assert looks(flagger(1), quick, quick) == ["up", "up"]
    assert looks(flagger(1), silent, quick) == ["stays", "back"]


def test_argo_fails_at_once_when_more_than_the_limit_have_failed():
    good, bad = arm(1000, 10), arm(1000, 11)
    assert looks(argo(0), good, bad) == ["up", "back"]
    assert looks(argo(3), bad, bad, good, bad, bad) == ["up", "up", "up", "up", "back"]
    assert looks(argo(0), arm(0)) == ["back"]
    assert looks(argo(0), arm(1000, 0, 900)) == ["up"]


def shares(*points: float) -> np.ndarray:
    return np.array([points], dtype=float)


def test_kayenta_s_test_wants_a_shift_that_is_sure():
    low = shares(*np.linspace(0.000, 0.001, 6))
    high, nodata = mann_whitney(Kayenta(), low + 0.05, low)
    assert high[0]
    assert not nodata[0]
    assert not mann_whitney(Kayenta(), low, low)[0][0]
    assert not mann_whitney(Kayenta(), low, low + 0.05)[0][0]
    # Three points of each arm can't be sure of anything at 98 %.
    assert not mann_whitney(Kayenta(), shares(1, 1, 1), shares(0, 0, 0))[0][0]


def test_kayenta_s_interval_is_that_of_the_rank_test():
    """The interval's lower end is above 0 where the two-sided p is below 2 %: compared with scipy's test."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    canary, stable = rng.normal(5.6, 1.0, (200, 30)), rng.normal(5.0, 1.0, (200, 30))
    high, _ = mann_whitney(Kayenta(tolerance=0.0, effect=0.0), canary, stable)
    found = stats.mannwhitneyu(canary, stable, axis=1, method="asymptotic", use_continuity=False).pvalue < 0.02
    found &= canary.mean(axis=1) > stable.mean(axis=1)
    assert 0.2 < high.mean() < 0.8
    assert (high == found).mean() > 0.97


def test_kayenta_leaves_out_points_without_requests():
    nan = np.nan
    high, nodata = mann_whitney(Kayenta(), shares(nan, *[0.5] * 8, nan), shares(nan, nan, *np.linspace(0, 0.01, 8)))
    assert high[0]
    assert not nodata[0]
    assert mann_whitney(Kayenta(), shares(nan, nan), shares(0, 0))[1][0]


@pytest.mark.parametrize(
    ("rule", "seconds"),
    [(flagger(1), 120), (flagger(5), 360), (argo(0), 60), (argo(3), 240), (Kayenta(), 60)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_canary_that_always_fails_is_rolled_back_by_the_clock(rule: Rule, seconds: float):
    found = ended(rule, base=0.0, influences=(Failing(1.0),))
    assert found.rolled_back.all()
    assert set(found.ended) == {seconds}
    assert np.array_equal(found.requests, found.failures)
    assert set(found.weight) == {0.5 if rule.name == "argo-3" else 0.05}


@pytest.mark.parametrize("rule", PEERS[:4], ids=lambda rule: rule.name)
def test_a_canary_without_failures_is_promoted_by_the_clock(rule: Rule):
    found = ended(rule, base=0.0)
    assert found.promoted.all()
    assert set(found.ended) == {300.0}
    assert found.requests.mean() == pytest.approx(100 * 60 * 1.9, rel=0.01)
    assert not found.failures.any()


@pytest.mark.parametrize("rule", PEERS, ids=lambda rule: rule.name)
def test_silence_is_no_success(rule: Rule):
    found = ended(rule, rate=0.0)
    assert found.rolled_back.all()
    assert not found.requests.any()


def test_a_longer_step_is_several_checks_at_its_weight():
    steps = (Step(0.1, 600.0), Step(0.5), Step(1.0))
    assert flagger(1).rungs(steps) == (*[0.1] * 10, 0.5, 1.0)
    one = World(name="tried", group="traffic", base=0.0, steps=steps)
    for rule in (argo(0), flagger(5)):
        assert set(walk(rule, one, np.random.default_rng(1), N).ended) == {720.0}


def test_each_rollout_has_one_end():
    one = World(name="tried", group="traffic", rate=20.0, base=0.008)
    for rule in PEERS:
        found = walk(rule, one, np.random.default_rng(1), 200)
        ends: list[Flags] = [found.rolled_back, found.promoted, found.inconclusive]
        assert np.array_equal(np.sum(ends, axis=0), np.ones(200))
        assert np.all(found.failures <= found.requests)


def test_a_tally_counts_until_the_end_and_keeps_the_first():
    tally, weight = Tally(3), np.array([0.1, 0.2, 0.3])
    tick = BatchArm(
        requests=np.array([5.0, 6.0]), errors=np.array([1.0, 2.0]), timed=np.zeros(2), slow=np.zeros((2, 0))
    )
    tally.count(tick, np.array([0, 2]))
    tally.end(np.array([2]), "rolled_back", at=7.0, weight=weight)
    tally.count(tick, np.array([0, 2]))
    with pytest.raises(ValueError, match="2 rollouts"):
        tally.outcome()
    tally.end(np.ones(3, dtype=bool), "promoted", at=9.0, weight=weight)
    found = tally.outcome()
    assert found.requests.tolist() == [10, 0, 6]
    assert found.failures.tolist() == [2, 0, 2]
    assert found.ended.tolist() == [9, 9, 7]
    assert found.promoted.tolist() == [True, True, False]
    assert found.weight.tolist() == [0.1, 0.2, 0.3]
