"""After a rise of the weight, and after the warm-up, a canary may be slow for a while, and fail for a moment."""

from __future__ import annotations

import pytest

from autopilot.evidence.canary import begin_step, replay, start
from autopilot.evidence.comparison import YOUNG
from autopilot.evidence.model import Advance, ArmTick, Harm, Judge, StepRule, Tick, Verdict
from tests.evidence.cases import WATCH, judge, steady

GOOD = ArmTick(requests=100, errors=0, timed=100, slow=(2, 0))
SLOW = ArmTick(requests=100, errors=0, timed=100, slow=(25, 5))
HANGS = ArmTick(requests=100, errors=0, timed=100, slow=(90, 80))
FAILS = ArmTick(requests=100, errors=20, timed=100, slow=(2, 0))
DEAD = ArmTick(requests=100, errors=100, timed=100, slow=(2, 0))
SETTLE = 20
STEP = StepRule(hold=60, min_requests=100, limit=1800)


def ticks(*parts: tuple[int, ArmTick]) -> list[Tick]:
    """So many seconds of each, one after the other, beside a stable that is well."""
    found: list[Tick] = []
    for seconds, canary in parts:
        begins = len(found)
        found += [
            tick.model_copy(update={"time": tick.time + begins}) for tick in steady(seconds, canary, GOOD)
        ]  # fmt: skip
    return found


def after_a_rise(judged: Judge, *parts: tuple[int, ArmTick], before: int = 60) -> tuple[float, Verdict | None]:
    """Seconds of the second step that were judged, and the verdict; the step before it was good."""
    found = ticks((before, GOOD), *parts)
    state, verdict = replay(judged, WATCH, found[:before], start(judged))
    assert verdict is None
    state, verdict = replay(judged, WATCH, found[before:], begin_step(judged, state))
    return state.step_seconds, verdict


@pytest.mark.parametrize("slow", [1, 10, SETTLE])
def test_slow_requests_just_after_a_rise_are_no_harm(slow: int) -> None:
    parts = (slow, SLOW), (200, GOOD)
    assert after_a_rise(judge(settle=SETTLE), *parts)[1] is None
    assert slow == 1 or isinstance(after_a_rise(judge(), *parts)[1], Harm), "without settle they are"


def test_who_stays_slow_is_found_soon_after() -> None:
    seconds, verdict = after_a_rise(judge(settle=SETTLE), (200, SLOW))
    assert isinstance(verdict, Harm)
    assert SETTLE < seconds < SETTLE + 10


def test_who_hangs_is_found_at_once() -> None:
    seconds, verdict = after_a_rise(judge(settle=SETTLE), (200, HANGS))
    assert isinstance(verdict, Harm)
    assert seconds <= 3


def test_new_pods_may_fail_for_a_moment() -> None:
    judged = judge(settle=SETTLE)
    assert after_a_rise(judged, (int(YOUNG), FAILS), (200, GOOD))[1] is None
    seconds, verdict = after_a_rise(judged, (200, FAILS))
    assert isinstance(verdict, Harm)
    assert YOUNG < seconds < YOUNG + 3
    assert after_a_rise(judged, (200, DEAD))[0] <= 3, "who fails always does not"
    assert after_a_rise(judge(settle=2), (200, FAILS))[0] <= 4, "no longer than the rest settles"


@pytest.mark.parametrize("canary", [FAILS, SLOW], ids=["fails", "slow"])
def test_without_a_warm_up_everything_counts_from_the_first_second_of_the_rollout(canary: ArmTick) -> None:
    state, verdict = replay(judge(settle=SETTLE), WATCH, ticks((200, canary)))
    assert isinstance(verdict, Harm)
    assert state.step_seconds <= 5


@pytest.mark.parametrize(("slow", "harm"), [(60, False), (80, False), (100, True)])
def test_a_cold_start_may_outlast_the_warm_up_by_as_much(slow: int, harm: bool) -> None:
    judged = judge(settle=SETTLE, warmup=60.0)
    _, verdict = replay(judged, WATCH, ticks((slow, SLOW), (200, GOOD)))
    assert isinstance(verdict, Harm) is harm


def test_a_cold_start_does_not_hold_its_step_for_long() -> None:
    """It speaks against what the step wants to exclude, and would take as long again to make up for."""
    judged = judge(settle=SETTLE, warmup=60.0)
    state, verdict = replay(judged, STEP, ticks((75, SLOW), (400, GOOD)))
    assert isinstance(verdict, Advance)
    assert state.step_seconds < 75 + 40


def test_where_almost_all_of_stables_requests_are_slow_a_step_ends() -> None:
    """Also the last one, in which the canary is alone: nobody can be slower than always."""
    judged, always = judge(), ArmTick(requests=100, errors=0, timed=100, slow=(100, 100))
    state, verdict = replay(judged, STEP, steady(100, always, always))
    assert isinstance(verdict, Advance)
    alone = [tick.model_copy(update={"time": tick.time + 100}) for tick in steady(100, always, ArmTick(slow=(0, 0)))]
    rule = STEP.model_copy(update={"alone": True})
    state, verdict = replay(judged, rule, alone, begin_step(judged, state))
    assert isinstance(verdict, Advance)
    assert state.step_seconds == 60
