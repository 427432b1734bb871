"""Ticks that are held back until they make a comparison: nothing is lost, and sparse traffic costs little evidence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.evidence.canary import begin_step, evidence, replay, start, update
from autopilot.evidence.model import ArmTick, Harm, StepRule, Tick
from autopilot.evidence.statistics import coalescing
from tests.drawn import examples
from tests.evidence.cases import ERRORS, WATCH, judge, steady, ticks

ALONE = StepRule(hold=0, min_requests=0, limit=None, alone=True)


def drawn(seconds: int, rate: float, weight: float, errors: float, *, tick: int = 1, seed: int = 1) -> list[Tick]:
    """The same requests, whatever the ticks."""
    rng = np.random.default_rng(seed)
    rows = [(rng.poisson(rate * weight), rng.poisson(rate * (1 - weight)), rng.random()) for _ in range(seconds)]
    found = []
    for at in range(0, seconds, tick):
        part = rows[at : at + tick]
        bad = sum(np.random.default_rng(int(1e9 * draw)).binomial(own, errors) for own, _, draw in part)
        found.append(
            Tick(
                time=1000.0 + at + tick,
                seconds=tick,
                canary=ArmTick(requests=sum(own for own, _, _ in part), errors=float(bad)),
                stable=ArmTick(requests=sum(other for _, other, _ in part)),
            )
        )
    return found


@settings(max_examples=examples(40))
@given(ticks())
def test_no_request_is_lost(found: list[Tick]) -> None:
    judged = judge(ERRORS)
    state = start(judged)
    for tick in found:
        state, _ = update(judged, WATCH, state, tick)
    whole = begin_step(judged, state)
    assert whole.pending is None
    assert whole.metrics[0].total.canary == sum(tick.canary.requests for tick in found)
    assert whole.metrics[0].total.stable == sum(tick.stable.requests for tick in found)
    assert whole.metrics[0].since.canary_bad[0] == sum(tick.canary.errors for tick in found)


@settings(max_examples=examples(40))
@given(ticks(), st.data())
def test_what_is_held_back_is_decided_by_requests_alone(found: list[Tick], data: st.DataObject) -> None:
    judged = judge(ERRORS)
    state, other = start(judged), start(judged)
    for tick in found:
        bad = data.draw(st.integers(0, int(tick.canary.requests)))
        changed = tick.model_copy(update={"canary": tick.canary.model_copy(update={"errors": bad})})
        state, other = update(judged, WATCH, state, tick)[0], update(judged, WATCH, other, changed)[0]
        assert (state.pending is None) == (other.pending is None)
        assert state.step_compared == other.step_compared


@pytest.mark.parametrize("rate", [1.0, 5.0])
def test_sparse_ticks_lose_little(rate: float) -> None:
    """A fifth of the canary's requests fail: in ticks of a second it takes at most a half longer than in long ones."""
    judged = judge(ERRORS)

    def median(tick: int) -> float:
        found = []
        for seed in range(6):
            state, verdict = replay(judged, WATCH, drawn(4000, rate, 0.1, 0.2, tick=tick, seed=seed))
            assert isinstance(verdict, Harm)
            assert state.last is not None
            found.append(state.last - 1000)
        return float(np.median(found))

    assert median(1) <= 1.5 * median(30)


def test_stable_is_not_taken_for_silent_at_once() -> None:
    judged = judge(ERRORS)
    quiet = [
        Tick(time=1000.0 + at, seconds=1, canary=ArmTick(requests=1, errors=1), stable=ArmTick()) for at in range(1, 60)
    ]
    state = start(judged)
    state, _ = replay(judged, WATCH, quiet[:29], state)
    assert state.pending is not None
    assert evidence(judged, state)[0].harm == 0
    state, _ = replay(judged, WATCH, quiet[29:30], state)
    assert state.step_compared[0] == 30
    # Where the canary gets everything there is nothing to wait for.
    told, _ = update(judged, ALONE, start(judged), quiet[0])
    assert told.pending is None


def test_a_comparison_has_stables_usual_share() -> None:
    def whole(canary: float, stable: float, seconds: float = 1.0, before: tuple[float, float] = (100, 900)) -> bool:
        return bool(
            coalescing.whole(
                np.asarray(canary), np.asarray(stable), seconds,
                before_canary=np.asarray(float(before[0])), before_stable=np.asarray(float(before[1])),
            )
        )  # fmt: skip

    assert whole(1, 5)
    assert not whole(1, 4)
    assert not whole(0, 50)
    assert whole(0, 50, seconds=30)
    assert whole(50, 0)
    assert not whole(49, 0)
    assert whole(1, 1, before=(0, 0))
    assert not whole(1, 0, before=(0, 0))
    assert whole(98, 2, before=(980, 20)), "a residue of stable is company"


def test_a_first_comparison_that_is_unlike_the_others_holds_nothing_up() -> None:
    """A canary that hangs: at first stable alone is seen, so that it seems to have many times its share."""
    judged = judge(ERRORS)
    slow_start = [Tick(time=1001.0, seconds=1, canary=ArmTick(requests=1), stable=ArmTick(requests=200))]
    usual = steady(20, ArmTick(requests=10), ArmTick(requests=90))
    state, _ = replay(judged, WATCH, slow_start + [tick.model_copy(update={"time": tick.time + 1}) for tick in usual])
    assert state.step_compared[0] >= 180
