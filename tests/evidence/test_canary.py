"""The judge: what it concludes, when, and that it can be replayed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from autopilot.evidence.canary import begin_step, evidence, harm_needed, replay, start, update
from autopilot.evidence.configuration import boundaries_of, judge_from
from autopilot.evidence.model import Advance, ArmTick, Harm, Inconclusive, Judge, StepRule, Tick, Verdict
from autopilot.evidence.state import JudgeState
from autopilot.spec.canary import Analysis, ErrorRate, Latency, LatencyObjective, PromQL, SuccessRate
from tests.drawn import examples
from tests.evidence.cases import ERRORS, LATENCY, SUCCESS, THRESHOLD, WATCH, WITHIN, judge, steady, ticks

ALL = judge(ERRORS, LATENCY, SUCCESS, WITHIN, THRESHOLD)
WELL = ArmTick(requests=10, errors=0, timed=10, slow=(0, 0))
FINE = ArmTick(requests=90, errors=0, timed=90, slow=(0, 0))
STEP = StepRule(hold=5, min_requests=40, limit=20)
LEAST = StepRule(hold=5, min_requests=1000, limit=60)


def run(judged: Judge, found: list[Tick], rule: StepRule = WATCH) -> tuple[JudgeState, Verdict | None, int]:
    """Judges to the first verdict, and says at which tick it came."""
    state = start(judged)
    for count, tick in enumerate(found, 1):
        state, verdict = update(judged, rule, state, tick)
        if verdict is not None:
            return state, verdict, count
    return state, None, len(found)


def harms(judged: Judge, state: JudgeState) -> list[float]:
    return [found.harm for found in evidence(judged, state)]


def test_evidence_starts_at_nought():
    assert harms(ALL, start(ALL)) == [0] * 5
    assert all(found.canary is None for found in evidence(ALL, start(ALL)))


@settings(max_examples=examples(25))
@given(ticks())
def test_a_tick_without_data_changes_no_evidence(found: list[Tick]):
    state, _ = replay(ALL, WATCH, found)
    empty = Tick(time=found[-1].time + 1, seconds=1, canary=ArmTick(slow=(0, 0)), stable=ArmTick(slow=(0, 0)))
    after, _ = update(ALL, WATCH, state, empty)
    assert evidence(ALL, after) == evidence(ALL, state)
    assert after.step_seconds == state.step_seconds + 1


@settings(max_examples=examples(25))
@given(ticks(), st.data())
def test_more_errors_of_the_canary_never_lower_the_evidence(found: list[Tick], data: st.DataObject):
    at = data.draw(st.integers(0, len(found) - 1))
    arm = found[at].canary
    slow = data.draw(st.integers(int(arm.slow[0]), int(arm.timed)))
    worse = arm.model_copy(
        update={"errors": data.draw(st.integers(int(arm.errors), int(arm.requests))), "slow": (slow, arm.slow[1])}
    )
    changed = [*found[:at], found[at].model_copy(update={"canary": worse}), *found[at + 1 :]]
    before, after = start(ALL), start(ALL)
    for one, other in zip(found, changed, strict=True):
        before, _ = update(ALL, WATCH, before, one)
        after, _ = update(ALL, WATCH, after, other)
        for less, more in zip(harms(ALL, before), harms(ALL, after), strict=True):
            assert more >= less - 1e-6


@settings(max_examples=examples(25))
@given(ticks(), st.randoms(use_true_random=False))
def test_the_order_of_ticks_with_equal_requests_does_not_matter(found: list[Tick], random: object):
    """Of those that are compared one by one: in each the canary has a request, and stable as many as it always has."""
    found = [
        tick.model_copy(
            update={
                "canary": tick.canary.model_copy(update={"requests": 60, "timed": 60}),
                "stable": tick.stable.model_copy(update={"requests": 300, "timed": 300}),
            }
        )
        for tick in found
    ]
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    state, other = start(ALL), start(ALL)
    for one, two in zip(found, shuffled, strict=True):
        state, other = update(ALL, WATCH, state, one)[0], update(ALL, WATCH, other, two)[0]
    assert harms(ALL, state) == pytest.approx(harms(ALL, other), abs=1e-6)


@settings(max_examples=examples(40))
@given(ticks(), st.integers(0, 11))
def test_state_survives_json_and_replay_is_step_by_step(found: list[Tick], cut: int):
    judged = judge(ERRORS, LATENCY, THRESHOLD, warmup=4.0)
    rule = StepRule(hold=6, min_requests=50, limit=9)
    state, verdict, _ = run(judged, found, rule)
    assert replay(judged, rule, found) == (state, verdict)

    half, early = replay(judged, rule, found[:cut])
    kept = JudgeState.model_validate_json(half.model_dump_json())
    assert kept == half
    if early is None:
        assert replay(judged, rule, found[cut:], kept) == (state, verdict)
    if verdict is not None:
        adapter: TypeAdapter[Verdict] = TypeAdapter(Verdict)
        assert adapter.validate_json(adapter.dump_json(verdict)) == verdict


def test_hard_failure_is_found_at_once_and_said_plainly():
    broken = ArmTick(requests=10, errors=10, timed=10, slow=(0, 0))
    state, verdict, count = run(judge(), steady(10, broken, FINE))
    assert count == 1
    assert isinstance(verdict, Harm)
    assert verdict.metric == "errors"
    assert verdict.reason.startswith("errors: 100.0 % of 10 canary requests against 0.0 % of 90 stable ones; evidence ")
    assert "of 7.6 needed" in verdict.reason
    assert "probab" not in verdict.reason
    assert state.ticks == 1


def test_slow_canary_is_harm_at_the_boundary_that_shows_it():
    slow = ArmTick(requests=10, errors=0, timed=10, slow=(10, 3))
    _, verdict, count = run(judge(), steady(10, slow, FINE))
    assert isinstance(verdict, Harm)
    assert count <= 2
    assert "canary requests took longer than 100ms against 0.0 %" in verdict.reason


def test_no_harm_within_either_margin():
    """One and a half times as many is more than the ratio, but not more than the absolute margin; and the reverse."""
    within_absolute = steady(
        400, ArmTick(requests=1000, errors=0.9), ArmTick(requests=9000, errors=0.9)
    )  # 0.09 % against 0.01 %: nine times as many, yet less than 0.1 % more
    assert run(judge(ERRORS), within_absolute)[1] is None
    assert isinstance(run(judge(ERRORS, absolute=0.0), within_absolute)[1], Harm)

    within_ratio = steady(400, ArmTick(requests=100, errors=12), ArmTick(requests=900, errors=90))
    assert run(judge(ERRORS), within_ratio)[1] is None  # 12 % against 10 %: far more than 0.1 %, yet within 1.2 times
    assert isinstance(run(judge(ERRORS, ratio=1.0), within_ratio)[1], Harm)


def test_trouble_that_both_arms_share_is_no_harm():
    both = steady(60, ArmTick(requests=10, errors=5), ArmTick(requests=90, errors=45))
    assert run(judge(ERRORS), [*steady(60, WELL, FINE), *both])[1] is None


def test_objectives_need_no_stable():
    nobody = ArmTick(slow=(0, 0))
    _, verdict, _ = run(judge(SUCCESS), steady(60, ArmTick(requests=10, errors=1), nobody))
    assert isinstance(verdict, Harm)
    assert "failed where 1.0 % are allowed" in verdict.reason
    _, verdict, _ = run(judge(WITHIN), steady(60, ArmTick(timed=10, slow=(9, 4)), nobody))
    assert isinstance(verdict, Harm)
    assert "took longer than 500ms where 5.0 % are allowed" in verdict.reason
    assert run(judge(SUCCESS, WITHIN), steady(60, WELL, nobody))[1] is None


def test_thresholds_count_only_readings_in_a_row():
    watch = judge(THRESHOLD)
    sequence: list[float | None] = [11, 11, None, 9, 11, None, 11, None, None, 12]
    found = [tick.model_copy(update={"readings": {"queue": value}})
             for tick, value in zip(steady(len(sequence), WELL, FINE), sequence, strict=True)]  # fmt: skip
    _, verdict, count = run(watch, found)
    assert isinstance(verdict, Harm)
    assert count == len(sequence)
    assert verdict.reason == "queue: 12 is above the maximum of 10, 3 readings in a row"
    silent = [tick.model_copy(update={"readings": {"queue": None}}) for tick in found]
    assert run(watch, silent)[1] is None
    assert run(watch, steady(50, WELL, FINE))[1] is None


def test_alpha_is_shared_by_weight_and_thresholds_spend_none():
    heavy = ERRORS.model_copy(update={"weight": 3.0})
    shared = judge(heavy, LATENCY, THRESHOLD, alpha=0.01)
    assert harm_needed(shared, heavy) == pytest.approx(4.892852)  # ln 1/(0.01 x 3/4)
    assert harm_needed(shared, LATENCY) == pytest.approx(5.991465)  # ln 1/(0.01 x 1/4)


def test_a_step_advances_when_held_with_enough_requests_and_harm_excluded():
    _, verdict, count = run(judge(detect_absolute=0.2), steady(30, WELL, FINE), STEP)
    assert isinstance(verdict, Advance)
    assert count == 5
    assert verdict.reason.startswith("held 5s with 50 canary requests: errors of 6.0 % or more are excluded, ")


def test_a_step_is_held_until_harm_of_the_size_to_be_detected_is_excluded():
    rule = StepRule(hold=5, min_requests=40, limit=600)
    ends = []
    for smallest in (0.2, 0.05, 0.01):
        judged = judge(detect_absolute=smallest)
        state, verdict, count = run(judged, steady(600, WELL, FINE), rule)
        assert isinstance(verdict, Advance)
        assert all(found.excluded >= found.excluded_needed for found in verdict.evidence)
        ends.append(count)
        before, _ = replay(judged, rule, steady(count - 1, WELL, FINE))
        held = count == rule.hold
        assert held or any(found.excluded < found.excluded_needed for found in evidence(judged, before))
        assert state.step_requests == 10 * count
    assert ends == sorted(ends)
    assert ends[-1] > 20


def test_a_step_without_the_power_is_inconclusive_and_says_what_it_excluded():
    _, verdict, count = run(judge(), steady(30, WELL, FINE), STEP)
    assert isinstance(verdict, Inconclusive)
    assert (verdict.cause, count) == ("time", 20)
    assert "after 20s and 200 canary requests harm of the size to be detected is not excluded; " in verdict.reason
    assert "errors of 1.5 % or more are excluded" in verdict.reason
    assert "more requests would exclude harm of 2 times stable's share, or 1.0 % more" in verdict.reason


def test_a_step_waits_for_requests_and_then_gives_up():
    few = ArmTick(requests=1, timed=1, slow=(0, 0))
    _, verdict, count = run(judge(), steady(30, few, FINE), STEP)
    assert isinstance(verdict, Inconclusive)
    assert (verdict.cause, count) == ("time", 20)
    assert "20 of 40 requests" in verdict.reason


def test_where_stable_fails_often_few_requests_show_that_the_canary_is_not_worse():
    few = ArmTick(requests=3, timed=3, slow=(0, 0))
    bad = ArmTick(requests=90, errors=45, timed=90, slow=(60, 45))
    _, verdict, count = run(judge(), steady(30, few, bad), StepRule(hold=2, min_requests=0, limit=60))
    assert isinstance(verdict, Advance)
    assert count < 10
    # Hold and requests are least values all the same.
    assert isinstance(run(judge(), steady(60, few, bad), LEAST)[1], Inconclusive)


def test_no_dispersion_lets_a_step_advance_in_silence():
    """However many failures count as one: a canary that always fails is never promoted, nor one of a fifth."""
    for phi in (1.15, 12.0, 1000.0):
        for errors in (10, 2):
            bad = ArmTick(requests=10, errors=errors, timed=10, slow=(0, 0))
            verdict = run(judge(phi=phi), steady(600, bad, FINE), StepRule(hold=60, min_requests=100, limit=600))[1]
            assert isinstance(verdict, Harm)
    assert "the guard allows 20.0 %" in verdict.reason


def test_the_guard_is_not_for_one_burst():
    burst = ArmTick(requests=200, errors=150, timed=200, slow=(0, 0))
    judged = judge(phi=1000.0)
    assert run(judged, [*steady(1, burst, FINE), *steady(60, WELL, FINE)], WATCH)[1] is None
    assert isinstance(run(judged, steady(60, burst, FINE), WATCH)[1], Harm)
    assert run(judged.model_copy(update={"guard_share": None}), steady(60, burst, FINE), WATCH)[1] is None


def test_watching_for_harm_never_advances():
    assert run(judge(), steady(200, WELL, FINE), WATCH)[1] is None


def test_a_new_step_keeps_harm_and_forgets_good():
    judged = judge(ERRORS)
    state, _ = replay(judged, WATCH, steady(5, ArmTick(requests=3), ArmTick(requests=90, errors=45)))
    shaky, beside = ArmTick(requests=100, errors=80), ArmTick(requests=3000)  # as many to compare with as before
    worse, _ = replay(judged, WATCH, steady(1, shaky, beside), state)
    began = begin_step(judged, worse)
    before, after = evidence(judged, worse), evidence(judged, began)
    good = [evidence(judged, each)[0].good for each in (state, begin_step(judged, state))]
    assert good[0]
    assert good == [pytest.approx(good[0]), 0]
    assert good[0] > 1
    assert before[0].harm > 1
    assert before[0].harm - 0.12 < after[0].harm < before[0].harm  # ln(0.8/0.9): the stake on the epoch that ended
    assert (began.step_seconds, began.step_requests, began.step_ticks) == (0, 0, 0)
    assert (began.ticks, began.requests) == (worse.ticks, worse.requests)


class TestWarmUp:
    """Only gross harm counts, and what did not count is not held against the canary later."""

    JUDGE = judge(warmup=30.0)

    def test_gross_harm_fires(self):
        broken = ArmTick(requests=10, errors=4, timed=10, slow=(0, 0))
        _, verdict, count = run(self.JUDGE, steady(30, broken, FINE))
        assert isinstance(verdict, Harm)
        assert count <= 2
        assert "in the warm-up" in verdict.reason

    def test_lesser_harm_waits_and_is_not_remembered(self):
        """4 % errors for the warm-up alone: plenty of evidence, but not gross, and all well afterwards."""
        starting = ArmTick(requests=100, errors=4, timed=100, slow=(90, 80))
        settled = ArmTick(requests=100, errors=0, timed=100, slow=(0, 0))
        stable = ArmTick(requests=900, errors=1, timed=900, slow=(9, 1))
        state, verdict = replay(self.JUDGE, WATCH, steady(30, starting, stable))
        assert verdict is None
        assert evidence(self.JUDGE, state)[0].harm > harm_needed(self.JUDGE, ERRORS)
        later = [tick.model_copy(update={"time": tick.time + 30}) for tick in steady(120, settled, stable)]
        assert replay(self.JUDGE, WATCH, later, state)[1] is None

    def test_lesser_harm_that_goes_on_is_found_after_it(self):
        limping = ArmTick(requests=100, errors=4, timed=100, slow=(0, 0))
        _, verdict, count = run(
            self.JUDGE, steady(60, limping, ArmTick(requests=900, errors=1, timed=900, slow=(0, 0)))
        )
        assert isinstance(verdict, Harm)
        assert 30 < count <= 36

    def test_thresholds_wait_too(self):
        _, verdict, count = run(judge(THRESHOLD, warmup=10), steady(60, WELL, FINE, queue=99))
        assert isinstance(verdict, Harm)
        assert count == 13

    def test_no_step_ends_well_in_it(self):
        _, verdict, count = run(self.JUDGE, steady(60, WELL, FINE), StepRule(hold=2, min_requests=1, limit=600))
        assert isinstance(verdict, Advance)
        assert count == 31

    def test_alpha_is_split_where_there_are_two_processes(self):
        plain = judge()
        assert harm_needed(self.JUDGE, ERRORS) == pytest.approx(harm_needed(plain, ERRORS) + 0.693147)
        assert harm_needed(self.JUDGE, LATENCY) == harm_needed(plain, LATENCY)


def test_state_is_small_and_plain():
    canary = ArmTick(requests=10, errors=1, timed=10, slow=(3, 1))
    stable = ArmTick(requests=90, errors=9, timed=90, slow=(27, 9))
    state, _ = replay(judge(), WATCH, steady(500, canary, stable))
    assert len(state.model_dump_json()) < 8000
    assert json.loads(state.model_dump_json())["ticks"] == 500


def test_a_tick_without_the_boundaries_is_refused():
    with pytest.raises(ValueError, match="needs boundary 1, but the tick has 0"):
        replay(judge(), WATCH, [Tick(time=1, seconds=1, canary=ArmTick(requests=1, timed=1))])


def test_from_spec():
    analysis = Analysis(
        metrics=(
            ErrorRate(weight=2),
            Latency(boundaries=(0.5, 0.1)),
            SuccessRate(objective=0.99),
            LatencyObjective(within=0.25, objective=0.95),
            PromQL(name="queue", query="x", max=3, failures=2),
        ),
        warmup=12,
    )
    assert boundaries_of(analysis) == (0.1, 0.25, 0.5)
    made = judge_from(analysis)
    kinds = ["errors", "latency", "success", "within", "threshold", "clientErrors"]
    assert [metric.kind for metric in made.metrics] == kinds
    assert made.metrics[1].boundaries == (0, 2)
    assert made.metrics[3].boundaries == (1,)
    assert (made.metrics[4].maximum, made.metrics[4].failures, made.warmup) == (3, 2, 12)
    assert (made.alpha, made.beta, made.ratio, made.absolute) == (0.001, 0.05, 1.2, 0.001)
