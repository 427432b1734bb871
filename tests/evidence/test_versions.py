"""Reports that an earlier version of the judge recorded say today what they said then."""

from __future__ import annotations

from pathlib import Path

import pytest

from autopilot.evidence import canary
from autopilot.evidence.configuration import judge_from
from autopilot.evidence.model import Advance, Harm
from autopilot.evidence.state import VERSION, JudgeState
from autopilot.evidence.tick_codec import unpack
from autopilot.operations.canary_status import ENDPOINTS
from autopilot.operations.common import Outcome
from autopilot.reports.canary import CanaryReport
from starter.client.replay import complete, rejudge

FIRST = sorted((Path(__file__).parent / "version1").glob("*.json"))
"""Written by version 1, from drawn ticks: each kind of metric, of ending and of evidence."""


def read(file: Path) -> CanaryReport:
    return CanaryReport.model_validate_json(file.read_text(encoding="utf-8"))


def test_there_are_such_reports() -> None:
    assert {read(file).outcome for file in FIRST} == {Outcome.PROMOTED, Outcome.ROLLED_BACK, Outcome.INCONCLUSIVE}


@pytest.mark.parametrize("file", FIRST, ids=lambda file: file.stem)
def test_a_report_of_the_first_version_is_judged_as_it_was(file: Path) -> None:
    report = read(file)
    assert complete(report)
    judged = rejudge(report)
    assert len(judged) == len(report.steps)
    for one in judged:
        assert one.recomputed == one.recorded
        assert one.agrees


def test_a_canary_that_lost_its_endpoints_is_no_verdict_of_the_judge() -> None:
    report = read(next(file for file in FIRST if file.stem == "healthy"))
    gone = Harm(metric=ENDPOINTS, reason="v2 has no ready endpoint (its last went 3 s ago) while it is set to 10 %")
    step = report.steps[0]
    watch = step.watches[0].model_copy(update={"verdict": gone})
    steps = (step.model_copy(update={"watches": (watch,)}),)
    (judged,) = rejudge(report.model_copy(update={"steps": steps}))
    assert judged.from_elsewhere
    assert judged.agrees
    (own,) = rejudge(report.model_copy(update={"steps": (report.steps[0],)}))
    assert not own.from_elsewhere


def test_the_same_ticks_are_judged_otherwise_today() -> None:
    """What version 1 took for clusters was an outage: it let through a canary that fails one request in five."""
    report = read(next(file for file in FIRST if file.stem == "blind-after-an-incident"))
    assert report.outcome is Outcome.PROMOTED
    judge, watch = judge_from(report.analysis), report.steps[0].watches[0]
    _, verdict = canary.replay(judge, watch.rule, unpack(watch.ticks))
    assert verdict is not None
    assert not isinstance(verdict, Advance)


def test_a_rollout_goes_on_by_the_rules_that_it_began_with() -> None:
    report = read(next(file for file in FIRST if file.stem == "healthy"))
    state = JudgeState.model_validate_json(report.learned)
    assert state.version == 1
    judge, watch = judge_from(report.analysis), report.steps[0].watches[0]
    state, _ = canary.replay(judge, watch.rule, unpack(watch.ticks), state)
    kept = JudgeState.model_validate_json(state.model_dump_json())
    assert kept.version == 1
    assert kept.pending is None
    assert canary.start(judge).version == VERSION
