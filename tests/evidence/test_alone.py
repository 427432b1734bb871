"""A canary that takes all requests: compared with what stable did before, and with nothing where it did nothing."""

from __future__ import annotations

import numpy as np
import pytest

from autopilot.evidence.batch import harm_batch, start_batch, update_batch
from autopilot.evidence.canary import begin_step, evidence, harm_needed, replay, start, update
from autopilot.evidence.configuration import boundaries_of, judge_from
from autopilot.evidence.model import ArmTick, Harm, Judge, Tick, Verdict
from autopilot.evidence.state import JudgeState, Tally, arm_of, pack, unpack
from autopilot.evidence.statistics import metric_process, process_evidence
from autopilot.evidence.statistics.arrays import BatchArm
from autopilot.evidence.statistics.eprocess import excess_evidence
from autopilot.spec.canary import Analysis
from tests.evidence.cases import ERRORS, LATENCY, SUCCESS, WATCH, draw_batch, judge, steady

NOBODY = ArmTick(slow=(0, 0))
HALF = ArmTick(requests=50, errors=0, timed=50, slow=(5, 0))
ALL_WELL = ArmTick(requests=100, errors=0, timed=100, slow=(10, 0))

Phase = tuple[int, float, float, float]
"""Seconds, the canary's weight, its share of bad requests, and stable's."""


def alarms(judged: Judge, plan: list[Phase], *, rollouts: int, seed: int, rate: int = 100) -> np.ndarray:
    """The second of the plan's last phase in which each rollout first alarms: infinity for never, below 1 if before."""
    rng = np.random.default_rng(seed)
    processes = start_batch(judged, (rollouts,))
    needed = np.array([harm_needed(judged, metric) for metric in judged.metrics])
    first, second = np.full(rollouts, np.inf), 0
    for at, (seconds, weight, canary, stable) in enumerate(plan):
        if at and weight != plan[at - 1][1]:
            processes = tuple(metric_process.begin_step(each) for each in processes)
        for _ in range(seconds):
            second += 1
            tick = draw_batch(rng, rollouts, canary=canary, stable=stable, rate=rate, weight=weight)
            processes = update_batch(judged, processes, tick)
            over = (harm_batch(judged, processes) >= needed).any(axis=-1)
            first = np.where(np.isinf(first) & over, second, first)
    return first - sum(phase[0] for phase in plan[:-1])


def last_step(stable: float, canary: float, seconds: int) -> list[Phase]:
    return [(60, 0.1, stable, stable), (60, 0.5, stable, stable), (seconds, 1.0, canary, stable)]


def promoted(judged: Judge, last: list[Tick], *, shared: list[Tick] | None = None) -> tuple[JudgeState, Verdict | None]:
    """Ten peaceful seconds at half the weight, and then a step of its own."""
    before = steady(10, HALF, HALF) if shared is None else shared
    state, verdict = replay(judged, WATCH, before)
    assert verdict is None
    later = [tick.model_copy(update={"time": tick.time + len(before)}) for tick in last]
    return replay(judged, WATCH, later, begin_step(judged, state))


@pytest.mark.parametrize(
    ("stable", "canary", "median", "tail"),
    [(0.001, 1.0, 1, 1), (0.001, 0.2, 1, 1), (0.001, 0.05, 3, 5), (0.01, 0.2, 1, 2), (0.01, 0.05, 45, np.inf)],
)
def test_a_canary_that_turns_bad_with_all_requests_is_found(stable: float, canary: float, median: int, tail: float):
    found = alarms(judge(ERRORS, LATENCY), last_step(stable, canary, 2 * median + 10), rollouts=60, seed=1)
    assert (found > 0).all()
    assert np.median(found) <= median
    assert np.quantile(found, 0.9, method="higher") <= tail


@pytest.mark.parametrize(("canary", "median"), [(1.0, 3), (0.2, 11), (0.05, 18)])
def test_late_in_the_last_step_too(canary: float, median: int):
    """Ten minutes of peace with all requests, over which epochs came and went: the same step, and not even an epoch."""
    found = alarms(
        judge(ERRORS, LATENCY),
        [*last_step(0.001, 0.001, 590), (2 * median, 1.0, canary, 0.001)],
        rollouts=30,
        seed=2,
    )
    assert (found > 0).all()
    assert np.median(found) <= median


@pytest.mark.parametrize("share", [0.001, 0.01, 0.2])
def test_a_healthy_canary_is_left_alone(share: float):
    found = alarms(judge(ERRORS, LATENCY, alpha=0.02), last_step(share, share, 100), rollouts=200, seed=3)
    assert np.isfinite(found).sum() <= 6  # 4 expected at most; more than 6 has a chance of 11 % even at the bound


@pytest.mark.parametrize(("before", "now"), [(0.001, 0.0015), (0.001, 0.0044), (0.01, 0.02), (0.05, 0.1)])
def test_time_may_change_both_arms_a_little(before: float, now: float):
    """A share that rises as the last step begins, up to twice both margins: stable would have fared the same."""
    found = alarms(judge(ERRORS, LATENCY, alpha=0.01), last_step(before, now, 200), rollouts=200, seed=4)
    assert np.isfinite(found).sum() <= 4  # 2 expected at most; more than 4 has a chance of 5 % even at the bound


@pytest.mark.parametrize(("stable", "absolute"), [(0.002, 0.001), (0.1, 0.001), (0.1, 0.0), (0.02, 0.05)])
def test_both_comparisons_together_have_expectation_at_most_one(stable: float, absolute: float):
    """Exactly, over all outcomes of a shared tick and a lonely one, at the edge of what each comparison allows."""
    from scipy.stats import binom  # noqa: PLC0415

    judged = judge(ERRORS, absolute=absolute)
    shared_canary, shared_stable, alone = 4, 12, 9
    axes = (np.arange(each + 1.0) for each in (shared_canary, shared_stable, alone))
    xc, xs, xa = np.meshgrid(*axes, indexing="ij")
    edge = max(judged.ratio * stable, stable + absolute)
    wide = judged.past_margin * (judged.ratio * stable + absolute)
    weights = binom.pmf(xc, shared_canary, edge) * binom.pmf(xs, shared_stable, stable) * binom.pmf(xa, alone, wide)
    gathered = metric_process.fresh(ERRORS, xc.shape)
    assert float((weights * np.exp(process_evidence.harm(judged, ERRORS, gathered))).sum()) <= 1 + 1e-9
    for canary, other in (
        (_arm(xc, shared_canary), _arm(xs, shared_stable)),
        (_arm(xa, alone), _arm(np.zeros_like(xa), 0)),
    ):
        gathered = metric_process.fold(judged, ERRORS, gathered, canary, other, seconds=1.0)
        assert float((weights * np.exp(process_evidence.harm(judged, ERRORS, gathered))).sum()) <= 1 + 1e-9
    worst = (xc == 0) & (xs == 0) & (xa == alone)  # And it does bet: what looks worst is worth more than 1.
    assert process_evidence.harm(judged, ERRORS, gathered)[worst].max() > 0


def _arm(errors: np.ndarray, requests: int) -> BatchArm:
    wide = np.full_like(errors, requests)
    return BatchArm(requests=wide, errors=errors, timed=np.zeros_like(errors), slow=np.zeros((*errors.shape, 0)))


def test_the_widest_explanation_has_the_bound_that_is_said():
    """Evidence against ``pc <= ratio ps + margin``: nothing within it, and a fine grid search for the denominator."""
    counts = [np.asarray(float(value)) for value in (250, 500, 40, 500)]
    loose = float(excess_evidence(*counts, margin=0.1, ratio=5.0))
    tight = float(excess_evidence(*counts, margin=0.1, ratio=2.0))
    assert loose == -np.inf  # 50 % is exactly 5 x 8 % + 10 %
    likely = {}
    for ratio in (1.0, 2.0):
        ps = np.linspace(1e-6, 0.44, 400_001)
        pc = np.minimum(0.5, ratio * ps + 0.1)
        likely[ratio] = np.max(250 * np.log(pc) + 250 * np.log1p(-pc) + 40 * np.log(ps) + 460 * np.log1p(-ps))
    plain = float(excess_evidence(*counts, margin=0.1))
    assert tight - plain == pytest.approx(likely[1.0] - likely[2.0], abs=1e-6)


def test_the_reason_names_the_past():
    broken = ArmTick(requests=100, errors=20, timed=100, slow=(10, 0))
    state, verdict = promoted(judge(), steady(5, broken, NOBODY))
    assert isinstance(verdict, Harm)
    assert state.ticks <= 12
    assert verdict.reason.startswith(
        f"errors: 20.0 % of {100 * (state.ticks - 10)} canary requests against 0.0 % of 500 stable requests before, "
        "as stable gets none now; evidence "
    )
    assert "stable gets no traffic: compared with its earlier requests" in verdict.evidence[0].note


def test_slow_answers_are_held_against_earlier_ones_at_each_boundary():
    slow = ArmTick(requests=100, errors=0, timed=100, slow=(12, 12))
    _, verdict = promoted(judge(), steady(5, slow, NOBODY))
    assert isinstance(verdict, Harm)
    assert "canary requests took longer than 500ms against 0.0 % of 500 stable requests before" in verdict.reason
    # 12 % above the lower boundary is no more than stable's 10 %: it alone would not be harm.
    assert promoted(judge(), steady(200, slow.model_copy(update={"slow": (12, 0)}), NOBODY))[1] is None


def test_a_few_stray_requests_of_stable_change_nothing():
    broken = ArmTick(requests=100, errors=20, timed=100, slow=(10, 0))
    stray = ArmTick(requests=1, errors=0, timed=1, slow=(0, 0))
    state, verdict = promoted(judge(), steady(5, broken, stray))
    assert isinstance(verdict, Harm)
    assert "of 500 stable requests before" in verdict.reason
    assert state.ticks <= 12


def test_without_a_past_it_says_nothing():
    """A rollout that starts with all requests, and all of them fail."""
    broken = ArmTick(requests=100, errors=100, timed=100, slow=(100, 100))
    state, verdict = replay(judge(), WATCH, steady(100, broken, NOBODY))
    assert verdict is None
    assert [found.harm for found in evidence(judge(), state)] == [0, 0]
    assert all("stable gets no traffic: and had none before" in found.note for found in evidence(judge(), state))
    assert isinstance(replay(judge(SUCCESS), WATCH, steady(3, broken, NOBODY))[1], Harm)  # Objectives need no past.


def test_the_past_begins_in_the_warm_up_but_is_judged_only_after_it():
    """The last step begins as the warm-up ends: what stable did in the warm-up is all there is."""
    judged = judge(warmup=10.0)
    limping = ArmTick(requests=1000, errors=40, timed=1000, slow=(100, 0))
    half = ArmTick(requests=500, errors=0, timed=500, slow=(50, 0))
    _, verdict = promoted(judged, steady(5, limping, NOBODY), shared=steady(10, half, half))
    assert isinstance(verdict, Harm)
    assert "of 5000 stable requests before" in verdict.reason
    assert "warm-up" not in verdict.reason
    # The same while it lasts is not gross, and is forgotten with it.
    early = [*steady(4, half, half), *[t.model_copy(update={"time": t.time + 4}) for t in steady(6, limping, NOBODY)]]
    state, verdict = replay(judged, WATCH, early)
    assert verdict is None
    found = evidence(judged, state)[0]
    assert found.harm > found.harm_needed
    assert promoted(judged, steady(60, ALL_WELL, NOBODY), shared=early)[1] is None


def test_no_note_while_stable_has_requests():
    state, _ = replay(judge(), WATCH, steady(5, HALF, HALF))
    assert all("no traffic" not in found.note for found in evidence(judge(), state))


def test_the_state_survives_json_in_every_step():
    """As a watch does it: a trip through JSON after each tick gives the same verdict at the same tick."""
    half, well = (ArmTick(requests=each, timed=each, slow=(each / 10, 0)) for each in (500, 1000))
    broken = ArmTick(requests=1000, errors=50, timed=1000, slow=(110, 1))
    found = [*steady(20, half, half), *steady(40, well, NOBODY), *steady(40, broken, NOBODY)]
    found = [tick.model_copy(update={"time": 1000.0 + at}) for at, tick in enumerate(found, 1)]
    straight, verdict = replay(judge(), WATCH, found)
    assert isinstance(verdict, Harm)
    assert 60 < straight.ticks < 100
    state, said = start(judge()), None
    for tick in found:
        state, said = update(judge(), WATCH, JudgeState.model_validate_json(state.model_dump_json()), tick)
        if said is not None:
            break
    assert (state, said) == (straight, verdict)


def test_a_state_from_before_the_past_was_kept_still_loads():
    state, _ = replay(judge(), WATCH, steady(10, HALF, HALF))
    plain = state.model_dump(mode="json")
    for metric in plain["metrics"]:
        del metric["alone"], metric["alone_recent"]
    old = JudgeState.model_validate(plain)
    assert evidence(judge(), old) == evidence(judge(), state)
    broken = ArmTick(requests=100, errors=20, timed=100, slow=(10, 0))
    later = [tick.model_copy(update={"time": tick.time + 10}) for tick in steady(5, broken, NOBODY)]
    assert replay(judge(), WATCH, later, old) == replay(judge(), WATCH, later, state)
    assert isinstance(replay(judge(), WATCH, later, old)[1], Harm)


def test_with_the_metrics_that_come_by_default():
    analysis = Analysis(warmup=0)
    judged, wide = judge_from(analysis), len(boundaries_of(analysis))

    def arm(requests: int, errors: int = 0) -> ArmTick:
        return ArmTick(requests=requests, errors=errors, timed=requests, slow=(0.0,) * wide)

    none = arm(0)
    failing = steady(7, arm(100, 20), none)  # for five seconds the pods are new
    _, verdict = promoted(judged, failing, shared=steady(10, arm(50), arm(50)))
    assert isinstance(verdict, Harm)
    assert verdict.metric == "errors"
    assert promoted(judged, steady(200, arm(100), none), shared=steady(10, arm(50), arm(50)))[1] is None


def test_stakes_add_up_to_one_and_rest_on_the_right_counts():
    """By hand: stable's whole past, and the canary's lonely requests of the whole process and of the epoch."""
    peace, harm = ArmTick(requests=1000, errors=2), ArmTick(requests=1000, errors=300)
    first = steady(1, ArmTick(requests=100, errors=1), ArmTick(requests=900, errors=9))
    judged = judge(ERRORS)
    gathered = metric_process.fresh(ERRORS)
    for tick in (*first, *steady(1, peace, NOBODY)):
        gathered = metric_process.fold(judged, ERRORS, gathered, arm_of(tick.canary), arm_of(tick.stable), seconds=1.0)
    gathered = metric_process.fold(
        judged, ERRORS, metric_process.begin_step(gathered), arm_of(harm), arm_of(NOBODY), seconds=1.0
    )
    gathered = unpack(ERRORS, pack(gathered, Tally()))
    stakes = process_evidence.harm_by_stake(judged, ERRORS, gathered)[..., 0]
    assert stakes.shape == (2, 2)
    for row, (bad, total, stake) in enumerate([(302, 2000, 0.8 * 0.1), (300, 1000, 0.2 / 6 * 0.1)]):
        counts = [np.asarray(float(value)) for value in (bad, total, 9, 900)]
        by_hand = float(excess_evidence(*counts, margin=2 * 0.001, ratio=2 * 1.2))
        assert by_hand > 10
        assert stakes[1, row] == pytest.approx(np.log(stake) + by_hand)
    nothing = np.exp(process_evidence.harm_by_stake(judged, ERRORS, metric_process.fresh(ERRORS)))
    assert nothing[0].sum() == pytest.approx(0.9 * (0.8 + 0.1))  # Past and later epochs have the rest.
    assert nothing[1].sum() == 0


@pytest.mark.parametrize(("load", "found"), [(1.0, True), (1.5, True), (5.0, False)])
def test_latency_is_not_compared_with_the_past_under_a_load_that_the_past_never_had(load: float, found: bool) -> None:
    slow = ArmTick(requests=100 * load, timed=100 * load, slow=(80 * load, 0))
    _, verdict = promoted(judge(LATENCY, alpha=0.01), steady(60, slow, NOBODY))
    assert isinstance(verdict, Harm) == found
    failing = slow.model_copy(update={"errors": 80 * load})
    _, verdict = promoted(judge(ERRORS, alpha=0.01), steady(60, failing, NOBODY))
    assert isinstance(verdict, Harm), "failures are judged whatever the load"
