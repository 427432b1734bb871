"""Callers that leave before an answer began: named in a verdict, and left out where the spec says so."""

from __future__ import annotations

from autopilot.evidence import canary
from autopilot.evidence.configuration import judge_from
from autopilot.evidence.model import Advance, ArmTick, Harm, StepRule, Tick, Verdict
from autopilot.evidence.state import JudgeState
from autopilot.spec.canary import Analysis

STEP = StepRule(hold=60, min_requests=100, limit=600)


def walked(aborts: float, errors: float | None = None, stable: float = 0.0, **settings: str) -> Verdict | None:
    """100 requests a second; of the canary's ten so many fail, and so many of these are callers that left."""
    judged = judge_from(
        Analysis.model_validate({"warmup": 0, "dispersion": 1, "metrics": [{"type": "errorRate"}], "errors": settings})
    )
    state = canary.start(judged)
    own = ArmTick(requests=10, errors=aborts if errors is None else errors, aborts=aborts)
    others = ArmTick(requests=90, errors=stable, aborts=stable)
    for second in range(1, 301):
        tick = Tick(time=1000.0 + second, seconds=1.0, canary=own, stable=others)
        state, verdict = canary.update(judged, STEP, JudgeState.model_validate_json(state.model_dump_json()), tick)
        if verdict is not None:
            return verdict
    return None


def test_they_count_and_the_reason_names_them() -> None:
    """On Istio they are the only trace of a version that hangs."""
    verdict = walked(1.0)
    assert isinstance(verdict, Harm)
    assert "failures so far are callers that left (DC)" in verdict.reason
    assert "errors.callerAborts: ignore" in verdict.reason
    assert "callers that left (DC)" in verdict.evidence[0].note


def test_a_part_is_said_to_be_a_part() -> None:
    verdict = walked(1.0, errors=4.0)
    assert isinstance(verdict, Harm)
    failures = round(4 * float(verdict.reason.split(" of ")[-2].split()[-1]))
    assert f"{failures / 4:.0f} of {failures} failures so far are callers that left" in verdict.reason


def test_where_none_left_nothing_is_said() -> None:
    verdict = walked(0.0, errors=5.0)
    assert isinstance(verdict, Harm)
    assert "callers" not in verdict.reason


def test_callers_that_leave_both_arms_are_no_harm() -> None:
    assert isinstance(walked(1.0, stable=9.0), Advance)


def test_they_can_be_left_out_but_other_failures_are_not() -> None:
    assert isinstance(walked(1.0, callerAborts="ignore"), Advance)
    verdict = walked(1.0, errors=4.0, callerAborts="ignore")
    assert isinstance(verdict, Harm)
    assert verdict.reason.startswith("errors: 33.3 % of 18 canary requests")
    assert "callers" not in verdict.reason
