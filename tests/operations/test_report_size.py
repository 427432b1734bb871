"""Whatever an operation has met, its report and its status fit into a payload of Temporal, and say what is missing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from autopilot.evidence.chaos.hypothesis import KEPT, Look
from autopilot.evidence.model import Advance, Evidence, StepRule
from autopilot.mesh.model import Holder, Receipt, Target
from autopilot.operations.bounds import LINE, SPEC, TEXT, TIMELINE, WHOLE, Timeline, news
from autopilot.operations.common import Event, Exposure, Outcome, Phase
from autopilot.operations.experiment_status import Acted, Effect, ExperimentStatus, ProbeRecord, Verdict
from autopilot.reports.canary import CanaryReport, StepReport, WatchRecord
from autopilot.reports.experiment import Amplification, ExperimentReport, StepFinding
from autopilot.reports.size import fitted_canary, fitted_experiment, fitted_status
from autopilot.spec.canary import Analysis, PromQL
from autopilot.spec.chaos.experiment import ExperimentSpec
from tests.drawn import examples

FITS = examples(15)
TARGET = Target(mesh="local", namespace="shop", service="reviews")
WHO = {"workflow_id": "canary/local/shop/reviews", "mesh": "local", "namespace": "shop", "service": "reviews"}
PARTS = {"stable": "v1", "canary": "v2", "started": 1.0, "ended": 2.0}

few = st.sampled_from([0, 1, 3])
letters = st.sampled_from(["x", "ä", "\N{PILE OF POO}", "\x00", '"'])


def size(value: BaseModel) -> int:
    return len(value.model_dump_json().encode())


def lines(letter: str, number: int) -> tuple[Event, ...]:
    timeline = Timeline()
    for index in range(number):
        timeline.add(index, f"{index} {letter * LINE}")
    return timeline.events()


def receipt(letter: str, proxies: int, notes: int) -> Receipt:
    return Receipt(
        target=TARGET,
        holder=Holder(operation="canary/a", fencing=1),
        digest="d" * 64,
        versions={f"proxy-{number}/routes": "v" * 64 for number in range(proxies)},
        notes=(letter * TEXT,) * notes,
        written=5.0,
    )


@st.composite
def canaries(draw: st.DrawFn) -> CanaryReport:
    letter, watched = draw(letters), draw(st.sampled_from([0, 1, 10]))
    numbers = range(1, 1 + draw(st.sampled_from([0, 1, 30, 101])))
    evidence = (Evidence(metric="errors", harm=1.5, harm_needed=6.9, note=letter * 200),) * draw(
        st.sampled_from([0, 9])
    )
    verdict = Advance(reason=letter * draw(st.sampled_from([3, TEXT])), evidence=evidence)
    watch = WatchRecord(
        rule=StepRule(hold=1, min_requests=1, limit=None),
        fresh=True,
        verdict=verdict,
        ticks="t" * (draw(st.sampled_from([0, 600_000, 2_000_000])) // (len(numbers) * watched or 1)),
    )
    made = receipt(letter, draw(st.sampled_from([1, 1000])), draw(st.sampled_from([0, 50])))
    steps = tuple(
        StepReport(
            number=number,
            weight=number,
            started=1,
            verdict="advance",
            reason=verdict.reason,
            exposure=Exposure(requests=number),
            receipt=made,
            watches=(watch,) * watched,
        )
        for number in numbers
    )
    metrics = tuple(PromQL(name=f"m{number}", query=letter * 2000, max=1.0) for number in range(1 + draw(few)))
    return CanaryReport(
        **WHO,
        **PARTS,
        outcome=draw(st.sampled_from(Outcome)),
        reason=letter * draw(st.sampled_from([1, TEXT])),
        analysis=Analysis(metrics=metrics),
        learned="s" * draw(st.sampled_from([0, 20_000, 700_000])),
        steps=steps,
        exposure=Exposure(requests=77, failures=7, seconds=1),
        evidence=evidence,
        timeline=lines(letter, draw(st.sampled_from([1, 20, 300]))),
        audit=("a" * 64,) * draw(st.sampled_from([0, 100, 30_000])),
        restore_seconds=0.5,
    )


def looks(letter: str, number: int) -> tuple[Look, ...]:
    return tuple(Look(time=1.7e9 + n, ok=True, value=letter * 120, note=letter * 240) for n in range(number))


@st.composite
def probes(draw: st.DrawFn, letter: str) -> tuple[ProbeRecord, ...]:
    number = draw(st.sampled_from([0, 3, 140, 2000]))
    verdicts: Any = draw(st.sampled_from([["pass"], ["fail"], ["pass", "fail", "pass"]]))
    samples, reason = looks(letter, draw(st.sampled_from([0, 2, KEPT]))), letter * draw(st.sampled_from([0, 300]))
    return tuple(
        ProbeRecord(
            name=f"p{index}",
            type="http",
            phase="during",
            step=1,
            verdict=verdicts[index % len(verdicts)],
            reason=reason,
            samples=samples,
        )
        for index in range(number)
    )


def effects(letter: str, number: int) -> tuple[Effect, ...]:
    return (Effect(fault=letter * TEXT, scope=letter * 100, seen_by="counts", requests=5, of=10),) * number


def specification(title: str = "ratings") -> ExperimentSpec:
    return ExperimentSpec.model_validate(
        {
            "target": {"service": "ratings"},
            "scope": {"percentage": 10},
            "hypothesis": {
                "title": title,
                "probes": [
                    {"name": f"web-{number}", "type": "promql", "query": "q" * 4000, "tolerance": {"max": 1}}
                    for number in range(40)
                ],
            },
            "method": [{"faults": [{"fault": {"type": "delay", "delay": 1}}], "hold": 5}],
        }
    )


@st.composite
def experiments(draw: st.DrawFn) -> ExperimentReport:
    letter = draw(letters)
    made = receipt(letter, draw(st.sampled_from([1, 1000])), draw(st.sampled_from([0, 50])))
    steps = tuple(
        StepFinding(
            number=number,
            name=letter * draw(st.sampled_from([3, TEXT])),
            started=1,
            hold=5,
            reason=letter * TEXT,
            receipt=made,
            effects=effects(letter, 10),
            amplification=(Amplification(caller="c", service="s", before=1, during=2),)
            * draw(st.sampled_from([0, 500])),
            actions=(Acted(action="pod-kill", done=letter * TEXT, undone=letter * TEXT),)
            * draw(st.sampled_from([0, 10])),
        )
        for number in range(1, 1 + draw(st.sampled_from([1, 3, 50])))
    )
    return ExperimentReport(
        **WHO,
        name="reviews",
        started=1.0,
        ended=2.0,
        outcome=draw(st.sampled_from(Outcome)),
        verdict=Verdict.ABORTED,
        reason=letter * draw(st.sampled_from([1, TEXT])),
        spec=specification(),
        steps=steps,
        probes=draw(probes(letter)),
        exposure=Exposure(requests=77, failures=7, seconds=1),
        timeline=lines(letter, draw(st.sampled_from([1, 20, 300]))),
        audit=("a" * 64,) * draw(st.sampled_from([0, 30_000])),
        left=(letter * TEXT,) * draw(st.sampled_from([0, 500])),
    )


def check(before: Any, after: Any) -> None:
    """What holds of every report, and of every status, that was made to fit."""
    assert size(after) <= WHOLE
    assert (after.outcome, after.reason, after.exposure) == (before.outcome, before.reason, before.exposure)
    if size(before) <= WHOLE - TIMELINE:
        assert after == before
    if after != before:
        assert after.timeline[-1].text.startswith("left out, since the report would be too large: ")
        told = before.timeline[-1]
        assert [line.text for line in news(after.timeline, told)] == [after.timeline[-1].text]
    if before.steps:
        last, kept = before.steps[-1], after.steps[-1]
        assert (kept.number, kept.exposure if isinstance(last, StepReport) else kept.ended) == (
            last.number,
            last.exposure if isinstance(last, StepReport) else last.ended,
        )


@given(canaries())
@settings(max_examples=FITS)
def test_any_report_of_a_rollout_fits(report: CanaryReport) -> None:
    fitted = fitted_canary(report)
    check(report, fitted)
    assert fitted.evidence == report.evidence
    if report.steps:
        assert fitted.steps[-1].verdict == report.steps[-1].verdict
    for kept in fitted.steps:
        for watch in kept.watches:
            assert watch.ticks or watch.dropped or watch in report.steps[0].watches, "no ticks are missing unsaid"


@given(experiments())
@settings(max_examples=FITS)
def test_any_report_of_an_experiment_fits(report: ExperimentReport) -> None:
    assert size(report.spec) < SPEC
    fitted = fitted_experiment(report)
    check(report, fitted)
    failed = [one.name for one in report.probes if one.verdict == "fail"]
    assert [one.name for one in fitted.probes if one.verdict == "fail"][:100] == failed[:100]


@given(st.data())
@settings(max_examples=FITS)
def test_any_status_of_an_experiment_fits(data: st.DataObject) -> None:
    letter = data.draw(letters)
    status = ExperimentStatus(
        **WHO,
        phase=Phase.PROGRESSING,
        outcome=Outcome.ABORTED,
        reason=letter * TEXT,
        step=1,
        steps=(letter * data.draw(st.sampled_from([3, 20_000])),) * 50,
        exposure=Exposure(requests=7),
        probes=data.draw(probes(letter)),
        effects=effects(letter, 10),
        timeline=lines(letter, data.draw(st.sampled_from([1, 20, 300]))),
    )
    fitted = fitted_status(status)
    assert size(fitted) <= WHOLE
    assert (fitted.outcome, fitted.reason, fitted.exposure, fitted.step) == (
        status.outcome,
        status.reason,
        status.exposure,
        status.step,
    )
    assert len(fitted.steps) == 50
    assert bool(fitted.left_out) == (fitted != status)
    assert fitted.timeline[-1].number == status.timeline[-1].number, "who follows it is told the next line too"


@pytest.mark.parametrize("letter", ["x", "\N{PILE OF POO}"])
def test_the_largest_method_with_the_most_probes_fits(letter: str) -> None:
    """50 steps and 70 probes: their records alone are 2 MB and more."""
    passed = tuple(
        ProbeRecord(
            name="checkout-page-answers", type="http", phase="during", step=step, verdict="pass", looks=60, samples=some
        )
        for some in [looks(letter, 5)]
        for step in range(1, 51)
        for _ in range(70)
    )
    failed = passed[-1].model_copy(update={"verdict": "fail", "reason": "503"})
    steps = tuple(StepFinding(number=step, started=1, hold=5) for step in range(1, 51))
    report = ExperimentReport(
        **WHO,
        name="ratings",
        started=1.0,
        ended=2.0,
        outcome=Outcome.REFUTED,
        verdict=Verdict.FAIL,
        reason="503",
        spec=specification(),
        steps=steps,
        probes=(*passed, failed),
        timeline=lines("x", 3),
    )
    assert size(report) > 2_000_000
    fitted = fitted_experiment(report)
    check(report, fitted)
    assert len(fitted.steps) == 50
    assert [one.reason for one in fitted.probes if one.verdict == "fail"] == ["503"]
