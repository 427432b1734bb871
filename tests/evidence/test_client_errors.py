"""Client errors are the callers' business; a share of them that differs between the arms is the version's."""

from __future__ import annotations

import numpy as np
import pytest

from autopilot.evidence import canary
from autopilot.evidence.batch import harm_batch, start_batch, update_batch
from autopilot.evidence.canary import harm_needed
from autopilot.evidence.configuration import judge_from
from autopilot.evidence.model import Advance, ArmTick, Harm, Inconclusive, Judge, StepRule, Tick, Verdict
from autopilot.evidence.state import JudgeState
from autopilot.evidence.statistics.arrays import BatchArm, BatchTick
from autopilot.evidence.tick_codec import pack, unpack
from autopilot.spec.canary import Analysis

STEP = StepRule(hold=60, min_requests=100, limit=600)
ERRORS = {"type": "errorRate"}


def judge(*metrics: dict[str, object], **more: object) -> Judge:
    return judge_from(Analysis.model_validate({"warmup": 0, "metrics": metrics or (ERRORS,), **more}))


def walked(judged: Judge, canary_share: float | None, stable_share: float | None, seconds: int = 300) -> Verdict | None:
    """100 requests a second, a tenth of them to the canary; shares of client errors, None where no source tells."""
    state, seen = canary.start(judged), [0.0, 0.0]
    for second in range(1, seconds + 1):
        arms = []
        for index, (requests, share) in enumerate(((10.0, canary_share), (90.0, stable_share))):
            before, seen[index] = seen[index], seen[index] + requests * (share or 0.0)
            told = None if share is None else float(round(seen[index]) - round(before))
            arms.append(ArmTick(requests=requests, client_errors=told))
        tick = Tick(time=1000.0 + second, seconds=1.0, canary=arms[0], stable=arms[1])
        assert unpack(pack([tick])) == [tick]
        kept = JudgeState.model_validate_json(state.model_dump_json())
        state, verdict = canary.update(judged, STEP, kept, tick)
        if verdict is not None:
            return verdict
    return None


def test_a_canary_that_refuses_everybody_is_harm_without_any_threshold() -> None:
    verdict = walked(judge(), 1.0, 0.02)
    assert isinstance(verdict, Harm)
    assert verdict.metric == "client-errors"
    assert verdict.reason.startswith(
        "client-errors: 100.0 % of 20 canary requests were answered with a client error (4xx) against 2.2 % of 180"
    )


def test_in_the_warm_up_too() -> None:
    verdict = walked(judge(warmup=60), 1.0, 0.0, seconds=59)
    assert isinstance(verdict, Harm)
    assert ", in the warm-up" in verdict.reason


def test_one_lost_route_of_five_is_found() -> None:
    verdict = walked(judge(), 0.25, 0.05)
    assert isinstance(verdict, Harm)


@pytest.mark.parametrize(("own", "others"), [(0.3, 0.3), (0.08, 0.05), (0.02, 0.0), (0.0, 0.4), (0.35, 0.3)])
def test_what_callers_do_to_both_and_small_differences_are_none(own: float, others: float) -> None:
    verdict = walked(judge(), own, others)
    assert isinstance(verdict, Advance)
    assert "client-errors" in verdict.reason


def test_a_source_that_does_not_tell_them_holds_up_no_step_and_shows_no_such_metric() -> None:
    verdict = walked(judge(), None, None)
    assert isinstance(verdict, Advance)
    assert [found.metric for found in verdict.evidence] == ["errors"]


def test_unless_the_spec_names_the_metric() -> None:
    verdict = walked(judge(ERRORS, {"type": "clientErrorRate"}), None, None)
    assert isinstance(verdict, Inconclusive)
    assert verdict.cause == "noData"
    assert "client-errors has no data (the source does not tell client errors)" in verdict.reason


def test_they_can_be_left_out_and_their_margin_moved() -> None:
    assert isinstance(walked(judge(errors={"clientErrors": "ignore"}), 1.0, 0.0), Advance)
    wide = {"type": "clientErrorRate", "margin": {"absolute": "50%"}, "detectAbsolute": "60%"}
    assert isinstance(walked(judge(), 0.3, 0.0), Harm)
    assert not isinstance(walked(judge(ERRORS, wide), 0.3, 0.0), Harm)
    taken = judge(ERRORS, {"type": "promql", "name": "client-errors", "query": "x", "max": 1})
    assert [metric.name for metric in taken.metrics] == ["errors", "client-errors", "client-errors-compared"]


def test_wider_sizes_of_the_analysis_are_its_too() -> None:
    metric = judge(margin={"absolute": "20%"}, detectAbsolute="50%").metrics[-1]
    assert (metric.ratio, metric.absolute, metric.detect, metric.detect_absolute) == (1.5, 0.2, 3, 0.5)


def test_metrics_that_compare_nothing_are_left_alone() -> None:
    assert len(judge({"type": "promql", "name": "ours", "query": "x", "max": 1}).metrics) == 1


def test_what_it_takes_of_alpha() -> None:
    """A tenth of a share: 0.05 more evidence is needed of errors and of latency at the defaults."""
    with_it, without = (
        judge_from(Analysis()),
        judge_from(Analysis.model_validate({"errors": {"clientErrors": "ignore"}})),
    )
    for metric in without.metrics:
        assert harm_needed(with_it, metric) - harm_needed(without, metric) == pytest.approx(np.log(2.1 / 2), abs=1e-9)
    shares = [np.exp(-harm_needed(with_it, one)) * (1 if one.kind == "latency" else 2) for one in with_it.metrics]
    assert sum(shares) == pytest.approx(with_it.alpha)


def test_a_rollout_that_began_without_them_goes_on_without_them() -> None:
    """Its state has one metric less; evidence needed, and verdicts, are as they were."""
    without = judge(errors={"clientErrors": "ignore"})
    state = canary.start(without)
    tick = Tick(time=1001.0, seconds=1.0, canary=ArmTick(requests=10, client_errors=10), stable=ArmTick(requests=90))
    state, verdict = canary.update(judge(), STEP, state, tick)
    assert verdict is None
    assert canary.evidence(judge(), state) == canary.evidence(without, state)
    assert len(canary.begin_step(judge(), state).metrics) == 1


@pytest.mark.parametrize(("stable", "own"), [(0.02, 0.07), (0.1, 0.15), (0.2, 0.3)])
def test_alpha_holds_at_the_margin(stable: float, own: float) -> None:
    """Of canaries exactly at the larger margin at most alpha are blamed, looking at every second."""
    rng, rollouts = np.random.default_rng(7), 1000
    judged = Judge(metrics=(judge(ERRORS, {"type": "clientErrorRate"}).metrics[1],), alpha=0.05, warmup=0.0, phi=1.0)
    (metric,) = judged.metrics
    processes, blamed = start_batch(judged, (rollouts,)), np.zeros(rollouts, dtype=bool)

    def arm(requests: float, share: float) -> BatchArm:
        counted = np.full(rollouts, requests)
        refused = rng.binomial(int(requests), share, size=rollouts).astype(float)
        return BatchArm(counted, np.zeros(rollouts), np.zeros(rollouts), np.zeros((rollouts, 0)), client_errors=refused)

    for _ in range(200):
        processes = update_batch(judged, processes, BatchTick(1.0, arm(10, own), arm(90, stable)))
        blamed |= harm_batch(judged, processes)[:, 0] >= harm_needed(judged, metric)
    assert blamed.mean() <= 0.05
