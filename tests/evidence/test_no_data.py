"""No data is never good: a metric without a reading in a step lets no step advance, and the end says which and why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.evidence import canary
from autopilot.evidence.configuration import boundaries_of, judge_from
from autopilot.evidence.model import Advance, ArmTick, Inconclusive, Judge, StepRule, Tick, Verdict
from autopilot.evidence.state import JudgeState
from autopilot.spec.canary import Analysis
from tests.drawn import examples

STEP = StepRule(hold=10, min_requests=100, limit=600)
QUERY = 'sum(rate(payment_errors_total{version="{{canary}}"}[1m]))'
PAYMENTS = {"type": "promql", "name": "payment-errors", "query": QUERY, "max": 0.05}
COMPARED = ({"type": "errorRate"}, {"type": "latency"}, {"type": "successRate", "objective": 0.9})
WITHIN = {"type": "latencyObjective", "within": "500ms"}


def judge(*metrics: dict[str, object], **more: object) -> tuple[Judge, int]:
    """The judge, and how many boundaries its ticks have."""
    analysis = Analysis.model_validate({"warmup": 0, "metrics": metrics, "dispersion": 1, **more})
    return judge_from(analysis), len(boundaries_of(analysis))


def tick(second: int, wide: int, *, timed: bool = True, requests: float = 10, **readings: float | None) -> Tick:
    canary, stable = (
        ArmTick(requests=count, timed=count if timed else 0.0, slow=(0.0,) * wide) for count in (requests, 9 * requests)
    )
    return Tick(time=1000.0 + second, seconds=1.0, canary=canary, stable=stable, readings=readings)


def walked(
    judged: Judge, ticks: list[Tick], rule: StepRule = STEP, state: JudgeState | None = None
) -> tuple[JudgeState, Verdict | None, int]:
    """Judges to the first verdict; the state goes through JSON at every tick, as in a heartbeat."""
    state = canary.start(judged) if state is None else state
    for count, each in enumerate(ticks, 1):
        state, verdict = canary.update(judged, rule, JudgeState.model_validate_json(state.model_dump_json()), each)
        if verdict is not None:
            return state, verdict, count
    return state, None, len(ticks)


@pytest.mark.parametrize("reading", [{}, {"payment-errors": None}], ids=["no answer", "empty"])
def test_a_query_that_never_had_a_value_is_named_with_what_it_asked(reading: dict[str, None]) -> None:
    judged, wide = judge(PAYMENTS)
    _, verdict, count = walked(judged, [tick(n, wide, **reading) for n in range(1, 101)])
    assert isinstance(verdict, Inconclusive)
    assert verdict.cause == "noData"
    assert verdict.reason == (
        "after 39s and 390 canary requests of this step payment-errors has no data "
        f"(its query returned no value: {QUERY}); no step advances without data"
    )
    assert count == 39  # 10 s of hold, and then 30 s of noData.after, the tick that ended the hold among them


def test_noData_after_says_how_long_a_step_waits_and_an_interval_is_waited_out() -> None:  # noqa: N802 - the spec's word
    for more, seconds in (({"noData": {"after": "5s"}}, 14), ({"noData": {"after": "2m"}}, 129)):
        judged, wide = judge({**PAYMENTS, "interval": "5s"}, **more)
        assert walked(judged, [tick(n, wide) for n in range(1, 601)])[2] == seconds
    judged, wide = judge({**PAYMENTS, "interval": "5m"})
    assert walked(judged, [tick(n, wide) for n in range(1, 601)])[2] == 309


def test_a_first_value_that_comes_late_is_waited_for() -> None:
    judged, wide = judge(PAYMENTS)
    late = [tick(n, wide, **{"payment-errors": 0.01 if n == 25 else None}) for n in range(1, 101)]
    _, verdict, count = walked(judged, late)
    assert isinstance(verdict, Advance)
    assert count == 25


def test_each_step_needs_a_reading_of_its_own() -> None:
    judged, wide = judge(PAYMENTS)
    state, verdict, _ = walked(judged, [tick(n, wide, **{"payment-errors": 0.01}) for n in range(1, 101)])
    assert isinstance(verdict, Advance)
    _, verdict, _ = walked(judged, [tick(n, wide) for n in range(200, 300)], state=canary.begin_step(judged, state))
    assert isinstance(verdict, Inconclusive)
    assert verdict.cause == "noData"


def test_a_reading_in_the_warm_up_is_not_judged_and_so_is_none() -> None:
    judged, wide = judge(PAYMENTS, warmup=20)
    _, verdict, count = walked(
        judged, [tick(n, wide, **{"payment-errors": 9} if n == 20 else {}) for n in range(1, 99)]
    )
    assert isinstance(verdict, Inconclusive)
    assert verdict.cause == "noData"
    assert count == 50


@pytest.mark.parametrize("metric", [{"type": "latency"}, WITHIN], ids=["latency", "objective"])
def test_requests_without_a_histogram_are_no_latency(metric: dict[str, object]) -> None:
    judged, wide = judge({"type": "errorRate"}, metric)
    state, verdict, _ = walked(judged, [tick(n, wide, timed=False) for n in range(1, 301)])
    assert isinstance(verdict, Inconclusive)
    assert verdict.cause == "noData"
    assert (
        f"{judged.metrics[1].name} has no data (no request of the canary is in a latency histogram)" in verdict.reason
    )
    assert "errors has no data" not in verdict.reason
    assert "no canary request of this step is in a latency histogram" in canary.evidence(judged, state)[1].note


def test_the_end_of_its_time_names_it_too() -> None:
    judged, wide = judge({"type": "errorRate"}, PAYMENTS)
    rule = StepRule(hold=10, min_requests=10_000, limit=20)
    verdict = walked(judged, [tick(n, wide) for n in range(1, 30)], rule)[1]
    assert isinstance(verdict, Inconclusive)
    assert verdict.cause == "noData"
    assert "payment-errors" in verdict.reason


def test_a_canary_without_requests_lacks_requests() -> None:
    """And no step of `minRequests: 0` advances without any."""
    judged, wide = judge({"type": "errorRate"})
    for least in (0, 100):
        rule = StepRule(hold=10, min_requests=least, limit=60)
        verdict = walked(judged, [tick(n, wide, requests=0) for n in range(1, 61)], rule)[1]
        assert isinstance(verdict, Inconclusive)
        assert verdict.cause == "time"


def test_a_watch_for_harm_alone_is_not_ended_by_it() -> None:
    judged, wide = judge(PAYMENTS)
    rule = StepRule(hold=0, min_requests=0, limit=None)
    assert walked(judged, [tick(n, wide) for n in range(1, 301)], rule)[1] is None


@settings(max_examples=examples(40))
@given(st.data())
def test_no_step_advances_where_any_metric_had_no_reading(data: st.DataObject) -> None:
    """Whatever the metrics, the numbers and the rule: also across a restart."""
    queries = [{**PAYMENTS, "name": f"q{number}"} for number in range(data.draw(st.integers(0, 3)))]
    compared = data.draw(st.lists(st.sampled_from([*COMPARED, WITHIN]), unique_by=lambda one: str(one["type"])))
    metrics = [*queries, *compared] or [PAYMENTS]
    judged, wide = judge(*metrics, warmup=data.draw(st.sampled_from([0, 5])))
    names = [metric.name for metric in judged.metrics if not metric.implied]
    silent = data.draw(st.sampled_from(names))
    kind = next(metric.kind for metric in judged.metrics if metric.name == silent)
    counted = kind not in {"errors", "success"}
    rule = StepRule(
        hold=data.draw(st.integers(0, 20)),
        min_requests=data.draw(st.integers(0, 100)),
        limit=data.draw(st.integers(1, 60)),
    )
    drawn = data.draw(
        st.lists(st.tuples(st.integers(0, 50), st.sampled_from([None, 0.0, 1.0])), min_size=1, max_size=5)
    )
    ticks = [
        tick(
            second,
            wide,
            requests=drawn[second % len(drawn)][0] if counted else 0,
            timed=kind not in {"latency", "within"},
            **{name: None if name == silent else drawn[second % len(drawn)][1] for name in names},
        )
        for second in range(1, 61)
    ]
    assert not isinstance(walked(judged, ticks, rule)[1], Advance)
