"""The guard of a baseline arm: fair whatever the clusters, and in no tick's way that has no baseline."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopilot.evidence.batch import harm_batch, start_batch, update_batch
from autopilot.evidence.canary import begin_step, evidence, harm_needed, replay, start, update
from autopilot.evidence.configuration import judge_from
from autopilot.evidence.model import ArmTick, Harm, Judge
from autopilot.evidence.state import JudgeState
from autopilot.evidence.statistics import metric_process
from autopilot.evidence.statistics.arrays import BatchArm, BatchTick
from autopilot.evidence.statistics.eprocess import log_mean
from autopilot.evidence.statistics.sign_test import STAKES, sign_increment
from autopilot.spec.canary import Analysis
from tests.evidence.cases import ERRORS, LATENCY, WATCH, judge, steady

GUARDED = judge(ERRORS, LATENCY).model_copy(update={"baseline": True})
WELL = ArmTick(requests=10, timed=10, slow=(0, 0))
FINE = ArmTick(requests=80, timed=80, slow=(0, 0))
BROKEN = ArmTick(requests=10, errors=10, timed=10, slow=(0, 0))


def guarded(seconds: int, canary: ArmTick, baseline: ArmTick | None = WELL) -> list:
    return [tick.model_copy(update={"baseline": baseline}) for tick in steady(seconds, canary, FINE)]


def test_by_hand():
    found = sign_increment(np.array([3.0, 0.0, 2.0]), np.array([1.0, 5.0, 2.0]))
    assert found.shape == (3, 6)
    assert found[0] == pytest.approx(np.log(1 + STAKES))
    assert found[1] == pytest.approx(np.log(1 - STAKES))
    assert found[2] == pytest.approx(0)


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_scalar_is_batch(rows: int, seed: int):
    canary, baseline = np.random.default_rng(seed).integers(0, 3, (2, rows)) * 1.0
    wide = sign_increment(canary, baseline)
    for at in range(rows):
        assert sign_increment(np.asarray(canary[at]), np.asarray(baseline[at])) == pytest.approx(wide[at])


def test_whatever_the_clusters_it_is_fair():
    """Every event is a hundred failures in one arm: the ratio test would blame nearly every canary, the guard none."""
    rng = np.random.default_rng(1)
    rollouts, first = 500, {}
    for judged in (judge(ERRORS, alpha=0.05), judge(ERRORS, alpha=0.05).model_copy(update={"baseline": True})):
        processes, hit = start_batch(judged, (rollouts,)), np.zeros(rollouts, dtype=bool)
        for _ in range(120):
            arm = rng.choice(3, p=[0.1, 0.1, 0.8], size=rollouts)
            bad = np.where(rng.random(rollouts) < 0.2, 100.0, 0.0)
            arms = [_arm(np.where(arm == at, bad, 0.0), size) for at, size in enumerate((100, 100, 800))]
            tick = BatchTick(seconds=1.0, canary=arms[0], baseline=arms[1], stable=arms[2])
            processes = update_batch(judged, processes, tick)
            hit |= harm_batch(judged, processes)[:, 0] >= harm_needed(judged, ERRORS)
        first[judged.baseline] = hit.mean()
    assert first[False] > 0.5
    assert first[True] <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / rollouts)


def _arm(errors: np.ndarray, requests: float) -> BatchArm:
    return BatchArm(np.full_like(errors, requests), errors, np.zeros_like(errors), np.zeros((*errors.shape, 0)))


def test_a_hard_failure_is_found_all_the_same_but_later():
    state, verdict = replay(GUARDED, WATCH, guarded(40, BROKEN))
    assert isinstance(verdict, Harm)
    assert state.ticks == 10  # the absolute guard; the guard of the baseline takes longer
    waits = GUARDED.model_copy(update={"guard_share": None})
    assert 10 < replay(waits, WATCH, guarded(40, BROKEN))[0].ticks < 20
    assert replay(GUARDED, WATCH, guarded(40, BROKEN, BROKEN))[1] is None  # shared with stable's own version


def test_where_there_is_no_baseline_it_is_in_nobody_s_way():
    """A rollout that had one and goes on without, as from 50 % upwards; and one that never had."""
    state, verdict = replay(GUARDED, WATCH, guarded(20, WELL))
    assert verdict is None
    later = [tick.model_copy(update={"time": tick.time + 20}) for tick in guarded(10, BROKEN, None)]
    state, verdict = replay(GUARDED, WATCH, later, begin_step(GUARDED, state))
    assert isinstance(verdict, Harm)
    assert state.ticks <= 22
    never, plain = (replay(j, WATCH, guarded(10, BROKEN, None)) for j in (GUARDED, judge(ERRORS, LATENCY)))
    assert never[1] == plain[1]
    assert never[0].ticks == plain[0].ticks == 1


def test_what_the_guard_stopped_does_not_fire_without_it():
    """One great cluster in the canary, while there was a baseline; then peace without one."""
    cluster = guarded(1, ArmTick(requests=100, errors=90, timed=100, slow=(0, 0)))
    state, verdict = replay(GUARDED, WATCH, cluster)
    assert verdict is None
    assert replay(GUARDED, WATCH, guarded(60, WELL, None), state)[1] is None


def test_both_kinds_of_ticks_together_have_expectation_at_most_one():
    """Exactly, over a tick with a baseline and one without, with no difference between the versions."""
    from scipy.stats import binom  # noqa: PLC0415

    axes = [np.arange(n + 1.0) for n in (4, 4, 4, 8)]
    xc, xb, yc, ys = np.meshgrid(*axes, indexing="ij")
    weights = np.prod([binom.pmf(x, n, 0.3) for x, n in ((xc, 4), (xb, 4), (yc, 4), (ys, 8))], axis=0)
    judged = Judge(metrics=(ERRORS,), ratio=1.0, absolute=0.0, warmup=0.0, baseline=True)
    gathered = metric_process.fresh(ERRORS, xc.shape)
    none = np.zeros_like(xc)
    gathered = metric_process.fold(
        judged, ERRORS, gathered, _arm(xc, 4), _arm(none, 8), seconds=1, baseline=_arm(xb, 4)
    )
    gathered = metric_process.fold(judged, ERRORS, gathered, _arm(yc, 4), _arm(ys, 8), seconds=1)
    alone = np.exp(log_mean(gathered.sign)[..., 0, 0] + log_mean(gathered.apart)[..., 0, 0])
    assert float((weights * alone).sum()) <= 1 + 1e-9


def test_the_state_survives_json():
    ticks = [*guarded(5, BROKEN), *guarded(5, WELL), *guarded(5, BROKEN, None)]
    straight, state = start(GUARDED), start(GUARDED)
    for tick in ticks:
        straight, _ = update(GUARDED, WATCH, straight, tick)
        state, _ = update(GUARDED, WATCH, JudgeState.model_validate_json(state.model_dump_json()), tick)
    assert state == straight
    assert evidence(GUARDED, state) == evidence(GUARDED, straight)


def test_from_spec():
    assert judge_from(Analysis(baseline="virtual")).baseline
    assert not judge_from(Analysis()).baseline
