"""How failures cluster is told from stable's counts, and evidence is divided by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.evidence.batch import start_gauges, update_gauges
from autopilot.evidence.canary import begin_step, evidence, observe, replay, start, update
from autopilot.evidence.configuration import judge_from
from autopilot.evidence.model import ArmTick, Harm, Tick
from autopilot.evidence.state import JudgeState, pack_gauge, unpack_gauge
from autopilot.evidence.statistics import clustering, dispersion, metric_process, process_evidence
from autopilot.evidence.statistics.arrays import BatchArm
from autopilot.evidence.statistics.dispersion import FLOOR, GROSS, PRIOR, fold, fresh, indices, phi_from
from autopilot.evidence.statistics.dispersion import dispersion as said
from autopilot.spec.canary import Analysis
from tests.drawn import examples
from tests.evidence.cases import ERRORS, LATENCY, SUCCESS, WATCH, judge, steady

LEARNS = judge(ERRORS, LATENCY).model_copy(update={"phi": None})

rows = st.lists(st.tuples(st.floats(0.5, 20), st.integers(0, 5), st.integers(5, 200)), min_size=1, max_size=80)


def half_hours(rng: np.random.Generator, cluster: float, *, batch: int = 200, share: float = 0.001) -> np.ndarray:
    """Failures per second of as many stables, shape (batch, 1800)."""
    number = rng.poisson(90 * share / cluster, (batch, 1800))
    found = np.zeros_like(number)
    sizes = rng.geometric(1 / cluster, number.sum()) if cluster > 1 else 1
    np.add.at(found.reshape(-1), np.repeat(np.arange(found.size), number.ravel()), sizes)
    return found.astype(float)


def test_the_index_is_variance_over_mean():
    """With equal requests, for each length of window; an open window is left out."""
    rng = np.random.default_rng(1)
    bad = rng.poisson(0.7, 130).astype(float)
    gauge = fresh(1)
    for one in bad:
        gauge = fold(gauge, np.array([one]), np.array([1000.0]), seconds=1.0)
    for row, size in enumerate((1, 5, 15, 60)):
        whole = bad[: len(bad) // size * size].reshape(-1, size).sum(axis=1)
        assert indices(gauge)[row, 0] == pytest.approx(whole.var(ddof=1) / whole.mean())
    assert gauge.closed[:, 0].tolist() == [130, 26, 8, 2]


def test_a_load_that_changes_is_no_clustering():
    """Ten times the requests in every other minute, and failures in proportion: the plain variance would be huge."""
    rng = np.random.default_rng(2)
    ticks = [(1.0, float(rng.binomial(n, 0.01)), float(n)) for at in range(1800) for n in [100 + 900 * (at // 60 % 2)]]
    assert phi_from(ticks).phi[0] < 1.5


@pytest.mark.parametrize(("cluster", "index"), [(1, 1), (2, 3), (5, 9)])
def test_it_is_an_upper_bound_in_nine_cases_of_ten(cluster: float, index: float):
    """Geometric sizes of mean m have the index 2m - 1; and the bound is no wilder than need be."""
    bad = half_hours(np.random.default_rng(3), cluster)
    gauge = fresh(1, (len(bad),))
    for second in range(bad.shape[1]):
        gauge = fold(gauge, bad[:, second, None], np.full((len(bad), 1), 90.0), seconds=1.0)
    found = said(gauge)
    assert (found.known == 1).all()
    assert (found.phi >= index).mean() > 0.85
    assert np.median(found.phi) < 1.5 * index


def test_clusters_that_last_are_seen_in_longer_windows():
    """A minute in ten has ten times the failures, one by one: a second knows nothing of it."""
    rng = np.random.default_rng(4)
    ticks = [(1.0, float(rng.poisson(5.0 if at // 60 % 10 == 0 else 0.5)), 1000.0) for at in range(3600)]
    assert phi_from(ticks).phi[0] > 30


def test_too_few_failures_tell_nothing():
    assert phi_from([]).phi[0] == PRIOR
    assert phi_from([(1.0, 0.0, 100.0)] * 1800).phi[0] == PRIOR
    assert phi_from([(1.0, 1.0, 100.0)] * 19).known[0] == 0
    assert phi_from([(1.0, 1.0, 100.0)] * 20) == dispersion.Dispersion(FLOOR, 1, 20)


@settings(max_examples=examples(40))
@given(rows, rows)
def test_scalar_is_batch(first: list[tuple[float, int, int]], second: list[tuple[float, int, int]]):
    pairs = list(zip(first, second, strict=False))
    both = fresh(1, (2,))
    alone = [fresh(1), fresh(1)]
    for one, other in pairs:
        counts = np.array([[one[1], one[2]], [other[1], other[2]]], dtype=float)
        both = fold(both, counts[:, :1], counts[:, 1:], seconds=one[0])
        alone = [fold(each, row[:1], row[1:], seconds=one[0]) for each, row in zip(alone, counts, strict=True)]
    assert said(both).phi[:, 0] == pytest.approx([said(each).phi[0] for each in alone])
    assert np.isfinite(said(both).phi).all()
    assert (said(both).phi >= FLOOR).all()
    kept = unpack_gauge(ERRORS, pack_gauge(alone[0]))
    assert said(kept).phi[0] == pytest.approx(said(alone[0]).phi[0], rel=1e-4)


def test_all_metrics_of_a_batch():
    gauges = start_gauges(LEARNS, (3,))
    arm = BatchArm(np.full(3, 90.0), np.arange(3.0), np.full(3, 90.0), np.ones((3, 2)))
    gauges = update_gauges(LEARNS, gauges, arm, seconds=1.0)
    assert [gauge.bad[:, 0].sum() for gauge in gauges] == [3, 6]


@given(st.floats(1, 20), st.floats(1, 5))
def test_a_larger_phi_never_crosses_first(phi: float, more: float):
    """What lets phi move: at a larger one there is evidence enough only if there was at the smaller."""
    gathered = metric_process.fresh(ERRORS)
    for bad in (0.0, 3.0, 9.0):
        arms = (_arm(bad, 10.0), _arm(1.0, 90.0))
        gathered = metric_process.fold(judge(ERRORS), ERRORS, gathered, *arms, seconds=1.0)
    less, lesser = (
        float(process_evidence.harm(judge(ERRORS), ERRORS, gathered, phi=np.array([each])))
        for each in (phi, phi * more)
    )
    assert lesser <= max(less, 0) + 1e-9


def _arm(bad: float, total: float) -> BatchArm:
    return BatchArm(np.asarray(total), np.asarray(bad), np.asarray(0.0), np.zeros(0))


class TestTheJudgeLearns:
    WELL = ArmTick(requests=10, errors=0, timed=10, slow=(0, 0))

    def stable(self, errors: float) -> ArmTick:
        return ArmTick(requests=90, errors=errors, timed=90, slow=(9, 1))

    def test_a_tick_does_not_judge_itself(self):
        """phi at a tick is that of the ticks before."""
        found = [
            tick.model_copy(update={"stable": self.stable(12.0 if at % 6 == 0 else 0.0)})
            for at, tick in enumerate(steady(60, self.WELL, self.stable(0)))
        ]
        state, phis = start(LEARNS), []
        for tick in found:
            state, _ = update(LEARNS, WATCH, state, tick)
            phis.append(evidence(LEARNS, state)[0].phi)
        gauge, told = clustering.fresh(1), []
        for tick in found:
            told.append(float(clustering.dispersion(gauge).phi[0]))
            gauge = clustering.fold(gauge, np.asarray([tick.stable.errors]), np.asarray([90.0]), seconds=1.0)
        assert phis == pytest.approx(told, abs=1e-3)
        assert phis[0] == PRIOR
        assert phis[-1] > 9
        assert "stable failed too rarely" in evidence(LEARNS, update(LEARNS, WATCH, start(LEARNS), found[0])[0])[0].note
        assert "stable's failures cluster: " in evidence(LEARNS, state)[0].note

    def test_what_was_before_the_rollout_counts(self):
        before = [
            Tick(time=float(at), seconds=1.0, stable=self.stable(12.0 if at % 6 == 0 else 0.0)) for at in range(120)
        ]
        cluster = ArmTick(requests=10, errors=10, timed=10, slow=(0, 0))
        found = steady(2, cluster, self.stable(0))
        assert isinstance(replay(LEARNS, WATCH, found)[1], Harm)
        knows = observe(LEARNS, start(LEARNS), before)
        assert replay(LEARNS, WATCH, found, knows)[1] is None
        assert knows.requests == 0
        assert observe(judge(ERRORS), start(judge(ERRORS)), before) == start(judge(ERRORS))

    def test_gross_harm_waits_for_less_while_nothing_is_known(self):
        broken = ArmTick(requests=10, errors=2, timed=10, slow=(0, 0))
        state, _ = replay(LEARNS, WATCH, steady(2, broken, self.stable(0)))
        assert evidence(LEARNS, state)[0].phi == GROSS
        limping = ArmTick(requests=100, errors=1, timed=100, slow=(0, 0))
        state, _ = replay(LEARNS, WATCH, steady(2, limping, self.stable(0)))
        assert evidence(LEARNS, state)[0].phi == PRIOR

    def test_the_state_survives_json_and_steps(self):
        state, _ = replay(LEARNS, WATCH, steady(40, self.WELL, self.stable(1)))
        kept = JudgeState.model_validate_json(begin_step(LEARNS, state).model_dump_json())
        assert [each.clusters for each in kept.metrics] == [each.clusters for each in state.metrics]
        assert evidence(LEARNS, kept)[0].phi == evidence(LEARNS, state)[0].phi < 1.1 * FLOOR

    def test_a_state_from_before_it_learned_still_loads(self):
        state, _ = replay(LEARNS, WATCH, steady(10, self.WELL, self.stable(1)))
        plain = state.model_dump(mode="json")
        for metric in plain["metrics"]:
            for new in ("gauge", "clusters", "phi", "above", "sign", "apart", "excluded", "step", "failing"):
                del metric[new]
        old = JudgeState.model_validate(plain)
        assert evidence(LEARNS, old)[0].phi == PRIOR
        assert replay(LEARNS, WATCH, steady(30, self.WELL, self.stable(1)), old)[1] is None

    def test_objectives_are_divided_too(self):
        told = judge(SUCCESS)
        ticks = steady(20, ArmTick(requests=10, errors=1), ArmTick(requests=90, errors=0))
        plain, divided = (replay(j, WATCH, ticks)[0] for j in (told, told.model_copy(update={"phi": 9.0})))
        assert evidence(told.model_copy(update={"phi": 9.0}), divided)[0].harm < evidence(told, plain)[0].harm / 2

    def test_from_spec(self):
        assert judge_from(Analysis()).phi is None
        assert judge_from(Analysis(dispersion=4)).phi == 4
