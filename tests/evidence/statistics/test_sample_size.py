"""How many requests it takes: what the formula says is what simulation finds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autopilot.evidence.batch import harm_batch, start_batch, update_batch
from autopilot.evidence.canary import harm_needed, replay
from autopilot.evidence.explanations import about
from autopilot.evidence.model import ArmTick, Inconclusive, StepRule
from autopilot.evidence.statistics import metric_process, process_evidence
from autopilot.evidence.statistics.arrays import BatchArm
from autopilot.evidence.statistics.sample_size import detectable, requests_needed, requests_to_exclude
from tests.evidence.cases import ERRORS, draw_batch, judge, steady

JUDGED = judge(ERRORS)
NEEDED = harm_needed(JUDGED, ERRORS)


@pytest.mark.parametrize("stable", [0.001, 0.02])
def test_after_so_many_the_miss_budget_is_kept(stable: float):
    total = requests_needed(JUDGED, stable=stable, weight=0.2, needed=NEEDED)
    assert total is not None
    rng, processes = np.random.default_rng(1), start_batch(JUDGED, (400,))
    found = np.full(400, np.inf)
    for tick in range(1, 31):
        batch = draw_batch(
            rng, 400, canary=detectable(JUDGED, stable), stable=stable, rate=int(total / 4), weight=0.2
        )  # a twentieth of what is needed at a time
        processes = update_batch(JUDGED, processes, batch)
        found = np.where(np.isinf(found) & (harm_batch(JUDGED, processes)[:, 0] >= NEEDED), tick, found)
    # Nine tenths within what was foretold, and not much sooner either.
    assert 0.8 * 20 <= np.quantile(found, 0.9) * (1 if np.isfinite(found).mean() > 0.9 else np.inf) <= 1.2 * 20


def test_what_makes_it_more():
    base = requests_needed(JUDGED, stable=0.005, weight=0.1, needed=NEEDED)
    assert base is not None
    for other in (
        requests_needed(JUDGED, stable=0.005, weight=0.5, needed=NEEDED),
        requests_needed(JUDGED, stable=0.005, weight=0.1, needed=NEEDED + 3),
        requests_needed(JUDGED.model_copy(update={"miss_budget": 0.01}), stable=0.005, weight=0.1, needed=NEEDED),
        requests_needed(JUDGED.model_copy(update={"absolute": 0.004}), stable=0.005, weight=0.1, needed=NEEDED),
        requests_needed(JUDGED.model_copy(update={"detect_absolute": 0.006}), stable=0.005, weight=0.1, needed=NEEDED),
    ):
        assert other is not None
        assert other > base
    assert requests_needed(JUDGED, stable=0.005, weight=0.1, needed=NEEDED, phi=3.0) == pytest.approx(3 * base)


def test_where_no_number_is_enough():
    within = JUDGED.model_copy(update={"absolute": 0.02})
    assert requests_needed(within, stable=0.001, weight=0.1, needed=NEEDED) is None
    assert requests_needed(JUDGED, stable=0.001, weight=1.0, needed=NEEDED) is None


def test_inconclusive_says_what_is_lacking():
    few, stable = ArmTick(requests=1, timed=1), ArmTick(requests=90, errors=1, timed=90)
    _, verdict = replay(JUDGED, StepRule(hold=5, min_requests=40, limit=20), steady(30, few, stable))
    assert isinstance(verdict, Inconclusive)
    assert verdict.evidence[0].more > 500
    assert f"; {about(verdict.evidence[0].more)} more requests would exclude harm of 2 times stable's" in verdict.reason


@pytest.mark.parametrize(("stable", "weight"), [(0.001, 0.05), (0.001, 0.5), (0.02, 0.1), (0.2, 0.25)])
def test_a_step_takes_as_many_requests_as_was_said(stable: float, weight: float):
    """Nine steps of ten are over by then, and not many by half of it."""
    judged = judge(ERRORS)
    said = requests_to_exclude(judged, stable=stable, weight=weight)
    assert said is not None
    rng, rollouts, requests = np.random.default_rng(1), 400, 20.0
    others = requests * (1 - weight) / weight
    gathered, done = metric_process.fresh(ERRORS, (rollouts,)), np.full(rollouts, np.inf)
    for number in range(1, round(2 * said / requests)):
        arms = [
            BatchArm(
                np.full(rollouts, total), rng.binomial(round(total), stable, rollouts).astype(float),
                np.zeros(rollouts), np.zeros((rollouts, 0)),
            )
            for total in (requests, others)
        ]  # fmt: skip
        gathered = metric_process.fold(judged, ERRORS, gathered, *arms, seconds=1.0)
        over = process_evidence.excluded(gathered)[:, 0] >= math.log(1 / judged.miss_budget)
        done = np.where(over & np.isinf(done), number * requests, done)
    assert 0.8 <= np.mean(done <= said) <= 0.99
    assert np.mean(done <= said / 4) < 0.5


def test_about():
    assert [about(each) for each in (3.2, 47, 912, 12_345)] == ["about 3", "about 47", "about 910", "about 12,000"]
