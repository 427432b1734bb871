"""What a step excludes: seldom in spite of harm of that size, whatever else happens meanwhile."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autopilot.evidence.model import Judge
from autopilot.evidence.statistics import exclusion, metric_process, process_evidence
from autopilot.evidence.statistics.arrays import BatchArm
from tests.evidence.cases import ERRORS, SUCCESS, judge

ROLLOUTS = 1500
JUDGED = judge(ERRORS)


def arm(rng: np.random.Generator, requests: float, share: float) -> BatchArm:
    total = rng.poisson(requests, ROLLOUTS)
    none = np.zeros(ROLLOUTS)
    return BatchArm(
        total.astype(float), rng.binomial(total, min(1, share)).astype(float), none, np.zeros((ROLLOUTS, 0))
    )


def excluded(judged: Judge, canary, stable, *, seconds: int, weight=lambda _: 0.1, rate: float = 100) -> float:  # type: ignore[no-untyped-def]
    """The share of rollouts that ever excluded harm within so many seconds."""
    rng, gathered, ever = (
        np.random.default_rng(3),
        metric_process.fresh(ERRORS, (ROLLOUTS,)),
        np.zeros(ROLLOUTS, dtype=bool),
    )
    for at in range(seconds):
        share = weight(at)
        arms = arm(rng, rate * share, canary(at)), arm(rng, rate * (1 - share), stable(at))
        gathered = metric_process.fold(judged, ERRORS, gathered, *arms, seconds=1.0)
        ever |= process_evidence.excluded(gathered)[:, 0] >= math.log(1 / judged.miss_budget)
    return float(ever.mean())


def smallest(share: float) -> float:
    return float(exclusion.harmful(JUDGED, np.asarray(share)))


OUTAGE = lambda at: 0.3 if 60 <= at < 90 else 0.001  # noqa: E731
RATES = {
    "0.1 %": lambda _: 0.001,
    "1 %": lambda _: 0.01,
    "5 %": lambda _: 0.05,
    "an outage that both share": OUTAGE,
    "0.1 and 5 % in turns": lambda at: 0.05 if at % 20 < 10 else 0.001,
}


@pytest.mark.parametrize("rate", RATES)
def test_harm_of_the_size_to_be_detected_passes_as_seldom_as_was_said(rate: str) -> None:
    """At every look of 400, for a canary that is exactly so much worse in every tick."""
    stable = RATES[rate]
    missed = excluded(JUDGED, lambda at: smallest(stable(at)), stable, seconds=400)
    assert missed <= JUDGED.miss_budget + 3 * math.sqrt(0.09 / ROLLOUTS)


def test_weights_that_follow_the_day_change_nothing() -> None:
    missed = excluded(
        JUDGED, lambda at: smallest(OUTAGE(at)), OUTAGE, seconds=300, weight=lambda at: 0.05 if at % 40 < 20 else 0.5
    )
    assert missed <= JUDGED.miss_budget + 3 * math.sqrt(0.09 / ROLLOUTS)


@pytest.mark.parametrize(("rate", "seconds"), [("0.1 %", 150), ("1 %", 400), ("5 %", 300)])
def test_a_canary_like_stable_excludes_it_soon(rate: str, seconds: int) -> None:
    assert excluded(JUDGED, RATES[rate], RATES[rate], seconds=seconds) > 0.85


def test_the_canary_alone_is_compared_with_the_past() -> None:
    rng, gathered = np.random.default_rng(4), metric_process.fresh(ERRORS, (ROLLOUTS,))
    for _ in range(120):
        gathered = metric_process.fold(JUDGED, ERRORS, gathered, arm(rng, 50, 0.001), arm(rng, 50, 0.001), seconds=1.0)
    gathered = metric_process.begin_step(gathered)
    worse = gathered
    for _ in range(60):
        nobody = arm(rng, 0, 0)
        gathered = metric_process.fold(JUDGED, ERRORS, gathered, arm(rng, 100, 0.001), nobody, seconds=1.0)
        worse = metric_process.fold(JUDGED, ERRORS, worse, arm(rng, 100, 0.012), nobody, seconds=1.0)
    needed = math.log(1 / JUDGED.miss_budget)
    assert np.mean(process_evidence.excluded(gathered)[:, 0] >= needed) > 0.95
    assert np.mean(process_evidence.excluded(worse)[:, 0] >= needed) <= 0.1


def test_an_objective_is_held_against_what_it_allows() -> None:
    rng, judged = np.random.default_rng(5), judge(SUCCESS)
    needed = math.log(1 / judged.miss_budget)
    for share, at_least, at_most in ((0.01, 0.9, 1.0), (0.02, 0.0, 0.12)):
        gathered, ever = metric_process.fresh(SUCCESS, (ROLLOUTS,)), np.zeros(ROLLOUTS, dtype=bool)
        for _ in range(300):
            gathered = metric_process.fold(judged, SUCCESS, gathered, arm(rng, 10, share), arm(rng, 90, 0), seconds=1.0)
            ever |= process_evidence.excluded(gathered)[:, 0] >= needed
        assert at_least <= ever.mean() <= at_most


def test_the_smallest_share_that_is_excluded() -> None:
    sure = math.log(10)
    counts = [(0.0, 230.0), (10.0, 1000.0), (0.0, 1.0), (5.0, 5.0)]
    found = exclusion.upper(*(np.asarray(column) for column in zip(*counts, strict=True)), sure=sure)
    assert found[0] == pytest.approx(sure / 230, rel=0.01)
    assert 0.015 < found[1] < 0.022
    assert found[2] == found[3] == pytest.approx(1.0)
