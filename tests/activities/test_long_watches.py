"""A watch that lasts: with a record it hands over in time, without one it goes on, and its heartbeats stay small."""

from __future__ import annotations

import pytest

from activities.contracts.operation import WatchBeat
from autopilot.evidence.model import Inconclusive, StepRule
from autopilot.evidence.tick_codec import unpack
from autopilot.spec.canary import Analysis
from tests.activities.hours import Hour
from tests.activities.test_watch import request

HARM_ALONE = StepRule(hold=0, min_requests=0, limit=None)
PAYLOAD = 2_000_000
"""Bytes that Temporal takes."""
ERRORS = Analysis.model_validate({"warmup": 0, "metrics": [{"type": "errorRate"}]})


def size(beat: WatchBeat) -> int:
    return len(beat.model_dump_json())


def test_a_watch_without_a_record_never_ends_by_its_size_and_its_heartbeat_does_not_grow() -> None:
    hour = Hour(request(rule=HARM_ALONE, patient=True, record=False, analysis=ERRORS), boundaries=0)
    assert hour.fold(500) is None
    early = size(hour.beat())
    assert hour.fold(7_500, judged=300) is None
    late = hour.beat()
    assert late.ticks == ""
    assert size(late) < 1.2 * early
    assert not hour.watching.result(Inconclusive(cause="stopped", reason="asked to stop")).full


def test_a_watch_with_a_record_hands_over_after_an_hour() -> None:
    hour = Hour(request(rule=HARM_ALONE, patient=True, analysis=ERRORS), boundaries=0)
    verdict = hour.fold(4000, judged=0)
    assert isinstance(verdict, Inconclusive)
    assert verdict.cause == "stopped"
    result = hour.watching.result(verdict)
    assert result.full
    assert len(unpack(result.ticks)) == 3600


def test_a_record_of_wide_ticks_is_full_before_its_heartbeat_is_too_large() -> None:
    """The most metrics and boundaries that a specification may have."""
    latencies = [
        {"type": "latency", "name": f"l{number}", "boundaries": [(12 * number + each + 1) / 100 for each in range(12)]}
        for number in range(20)
    ]
    asked = request(rule=HARM_ALONE, patient=True, analysis=Analysis.model_validate({"metrics": latencies}))
    hour = Hour(asked, boundaries=240)
    hour.fold(3, judged=2)
    verdict = hour.fold(3600, judged=0)
    assert isinstance(verdict, Inconclusive)
    assert hour.watching.result(verdict).full
    assert size(hour.beat()) < PAYLOAD


@pytest.mark.parametrize("record", [True, False])
def test_another_worker_goes_on_from_a_heartbeat_with_the_record_as_it_was(record: bool) -> None:
    asked = request(rule=HARM_ALONE, patient=True, record=record, analysis=ERRORS)
    first = Hour(asked, boundaries=0)
    first.fold(150)
    second = Hour(asked, boundaries=0, earlier=first.beat())
    second.fold(150)
    assert len(unpack(second.beat().ticks)) == (300 if record else 0)
