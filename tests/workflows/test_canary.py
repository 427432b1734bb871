"""What a rollout does to a mesh, whatever is said and seen: it ends at the base or promoted, never between."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from activities.contracts.operation import Learned
from autopilot.evidence.configuration import UNKNOWN, boundaries_of, open_boundaries
from autopilot.operations.common import Approval, Caller, Command, Outcome, Promotion
from tests.workflows.conftest import Lab, canary
from tests.workflows.fakes import ADVANCE, HARM, NO_DATA, NO_TIME, Hold

ANN = Caller(who="ann")
PROMOTED = {"v1": 0.0, "v2": 100.0}
BASE = {"v1": 100.0}


async def test_good_evidence_walks_every_step_and_becomes_the_base(lab: Lab) -> None:
    report = await lab.run(canary())
    assert report.outcome is Outcome.PROMOTED
    assert lab.world.walked == [10, 50, 100]
    assert lab.world.base == PROMOTED
    assert lab.world.at_rest
    assert [step.verdict for step in report.steps] == ["advance"] * 3
    assert lab.world.reports == [report]


async def test_a_walk_that_ends_early_gets_its_hundred_percent_under_lease(lab: Lab) -> None:
    report = await lab.run(canary(steps=[{"weight": 20}]))
    assert lab.world.walked == [20, 100]
    assert report.outcome is Outcome.PROMOTED


async def test_harm_restores_the_base_and_says_why(lab: Lab) -> None:
    lab.world.script = [ADVANCE, HARM]
    report = await lab.run(canary())
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.reason == HARM.reason
    assert lab.world.base == BASE
    assert lab.world.at_rest
    assert lab.world.walked == [10, 50]
    assert report.restore_seconds is not None


async def test_evidence_is_carried_from_watch_to_watch(lab: Lab) -> None:
    await lab.run(canary())
    assert [request.state for request in lab.world.watched] == ["", "memory 1", "memory 2"]
    assert all(request.fresh_step for request in lab.world.watched)


async def test_what_was_learned_before_is_what_the_first_watch_begins_with(lab: Lab) -> None:
    lab.world.learned = Learned(state="learned", note="learned from the last 30m of v1: errors: 9, one by one")
    report = await lab.run(canary())
    assert [request.state for request in lab.world.watched] == ["learned", "memory 1", "memory 2"]
    assert report.learned == "learned"
    texts = [event.text for event in report.timeline]
    assert texts.index(lab.world.learned.note) < texts.index("v2 gets 10 %")


async def test_a_past_that_cannot_be_read_is_no_reason_to_fail(lab: Lab) -> None:
    lab.world.fail_learn = [ApplicationError("no such activity here", non_retryable=True)]
    report = await lab.run(canary())
    assert report.outcome is Outcome.PROMOTED
    assert lab.world.watched[0].state == report.learned == ""
    assert any(
        event.text == "nothing was learned from the time before the rollout: no such activity here"
        for event in report.timeline
    )


async def test_who_says_how_failures_cluster_has_nothing_to_learn(lab: Lab) -> None:
    lab.world.fail_learn = [ApplicationError("must not be asked", non_retryable=True)]
    for metric in ({"type": "errorRate"}, {"type": "latency", "boundaries": [0.1]}):
        report = await lab.run(canary(analysis={"dispersion": 2, "metrics": [metric]}))
        assert report.outcome is Outcome.PROMOTED
        assert lab.world.fail_learn


@pytest.mark.parametrize(
    ("found", "compared"), [((0.005, 0.01), (0.005, 0.01)), ((), UNKNOWN)], ids=["known", "unknown"]
)
@pytest.mark.parametrize("dispersion", [None, 2])
async def test_latency_is_compared_where_stables_own_lies_from_the_first_watch_to_the_report(
    lab: Lab, found: tuple[float, ...], compared: tuple[float, ...], dispersion: float | None
) -> None:
    lab.world.learned = Learned(boundaries=found, note="latency of v1 is compared somewhere")
    report = await lab.run(canary(analysis={"dispersion": dispersion}))
    judged = [*(request.analysis for request in lab.world.watched), report.analysis]
    assert [boundaries_of(analysis) for analysis in judged] == [compared] * 4
    assert all(not open_boundaries(analysis) for analysis in judged)
    assert any(event.text == lab.world.learned.note for event in report.timeline)


async def test_exposure_is_what_the_proxies_counted_between_first_shift_and_last(lab: Lab) -> None:
    report = await lab.run(canary())
    assert (report.exposure.requests, report.exposure.failures) == (30, 3)


async def test_abort_restores_before_it_answers(lab: Lab) -> None:
    lab.world.script = [Hold()]
    handle = await lab.start(canary())
    await lab.watching()
    answer = await lab.tell(handle, "abort", Command(caller=ANN, reason="wrong build"))
    assert lab.world.at_rest
    assert lab.world.base == BASE
    assert answer == "Aborted: wrong build"
    assert (await handle.result()).outcome is Outcome.ABORTED


@pytest.mark.parametrize("reason", ["", " "], ids=["none", "blank"])
async def test_abort_needs_no_reason_and_the_report_says_that_none_was_given(lab: Lab, reason: str) -> None:
    lab.world.script = [Hold()]
    handle = await lab.start(canary())
    await lab.watching()
    answer = await lab.tell(handle, "abort", Command(caller=ANN, reason=reason))
    assert answer == "Aborted: aborted, no reason given"
    report = await handle.result()
    assert (report.outcome, report.reason) == (Outcome.ABORTED, "aborted, no reason given")
    assert ("abort: no reason given", "ann") in [(event.text, event.who) for event in report.timeline]
    assert (lab.world.actors[-1].who, lab.world.actors[-1].why) == ("ann", "aborted, no reason given")


async def test_abort_by_signal(lab: Lab) -> None:
    lab.world.script = [Hold()]
    handle = await lab.start(canary())
    await lab.watching()
    await handle.signal("abort", Command(caller=ANN))
    assert (await handle.result()).outcome is Outcome.ABORTED
    assert lab.world.at_rest


async def test_cancel_restores_and_is_seen_as_cancelled(lab: Lab) -> None:
    lab.world.script = [Hold()]
    handle = await lab.start(canary())
    await lab.watching()
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert lab.world.at_rest
    assert lab.world.base == BASE


async def test_pause_holds_the_weight_and_resume_goes_on(lab: Lab) -> None:
    go = asyncio.Event()
    lab.world.script = [Hold(until=go), Hold()]
    handle = await lab.start(canary())
    await lab.watching()
    await lab.tell(handle, "pause", Command(caller=ANN, reason="lunch"))
    go.set()
    await lab.phase(handle, "Paused")
    assert lab.world.walked == [10]
    await lab.tell(handle, "resume", Command(caller=ANN))
    assert (await handle.result()).outcome is Outcome.PROMOTED
    assert lab.world.base == PROMOTED


async def test_harm_while_paused_still_restores(lab: Lab) -> None:
    go, harm = asyncio.Event(), asyncio.Event()
    lab.world.script = [Hold(until=go), Hold(until=harm, then=HARM)]
    handle = await lab.start(canary())
    await lab.watching()
    await handle.signal("pause", Command(caller=ANN))
    go.set()
    await lab.phase(handle, "Paused")
    harm.set()
    report = await handle.result()
    assert report.outcome is Outcome.ROLLED_BACK
    assert lab.world.at_rest


async def test_approval_is_waited_for_and_harm_is_watched_meanwhile(lab: Lab) -> None:
    lab.world.script = [ADVANCE, Hold()]
    handle = await lab.start(canary(steps=[{"weight": 10, "pause": True}, {"weight": 100}]))
    await lab.phase(handle, "WaitingForApproval")
    await lab.watching()
    assert lab.world.watched[-1].rule.limit is None
    assert lab.world.watched[-1].patient
    await lab.tell(handle, "approve", Approval(caller=ANN, gate=1))
    report = await handle.result()
    assert report.outcome is Outcome.PROMOTED
    assert any(event.who == "ann" and "approved step 1" in event.text for event in report.timeline)


@pytest.mark.parametrize(("after", "outcome"), [("rollback", "Inconclusive"), ("promote", "Promoted")])
async def test_an_approval_nobody_gives(lab: Lab, after: str, outcome: str) -> None:
    lab.world.script = [ADVANCE, Hold()]
    pause = {"timeout": "500ms", "onTimeout": after}
    report = await lab.run(canary(steps=[{"weight": 10, "pause": pause}, {"weight": 100}]))
    assert report.outcome.value == outcome
    assert lab.world.at_rest


@pytest.mark.parametrize("unknown", [NO_TIME, NO_DATA], ids=["too-few-requests", "no-telemetry"])
async def test_what_nobody_can_tell_asks_a_person(lab: Lab, unknown: object) -> None:
    lab.world.script = [unknown, Hold()]  # type: ignore[list-item]
    handle = await lab.start(canary())
    await lab.phase(handle, "Undecided")
    await lab.watching()
    assert lab.world.walked == [10]
    await lab.tell(handle, "promote", Promotion(caller=ANN))
    assert (await handle.result()).outcome is Outcome.PROMOTED


async def test_resuming_an_undecided_step_watches_it_afresh(lab: Lab) -> None:
    lab.world.script = [NO_DATA, Hold(), HARM]
    handle = await lab.start(canary())
    await lab.phase(handle, "Undecided")
    await lab.watching()
    await lab.tell(handle, "resume", Command(caller=ANN))
    report = await handle.result()
    assert report.outcome is Outcome.ROLLED_BACK
    assert lab.world.walked == [10]
    assert lab.world.watched[2].rule.limit is not None


async def test_what_nobody_can_tell_restores_where_the_spec_says_so(lab: Lab) -> None:
    lab.world.script = [NO_TIME]
    report = await lab.run(canary(onInconclusive="rollback"))
    assert report.outcome is Outcome.INCONCLUSIVE
    assert lab.world.at_rest
    lab.world.script = [NO_DATA]
    report = await lab.run(canary(analysis={"noData": {"then": "rollback"}}))
    assert report.outcome is Outcome.INCONCLUSIVE
    assert lab.world.at_rest


async def test_a_metric_without_data_is_in_the_timeline_before_the_first_shift(lab: Lab) -> None:
    lab.world.lacking = ("ours has no value now, and no step advances without one: up",)
    report = await lab.run(canary())
    lines = [event.text for event in report.timeline]
    shifted = next(number for number, line in enumerate(lines) if line.endswith("gets 10 %"))
    assert lines.index(lab.world.lacking[0]) < shifted
    assert lines.count(lab.world.lacking[0]) == 1


async def test_full_promotion_skips_the_steps_that_are_left(lab: Lab) -> None:
    lab.world.script = [Hold()]
    handle = await lab.start(canary())
    await lab.watching()
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await lab.tell(handle, "promote", Promotion(caller=ANN, full=True))
    assert "give a reason" in str(refused.value.cause)
    await lab.tell(handle, "promote", Promotion(caller=ANN, full=True, reason="hotfix"))
    report = await handle.result()
    assert report.outcome is Outcome.PROMOTED
    assert lab.world.walked == [10, 100]
    assert "hotfix" in report.reason


async def test_commands_that_make_no_sense_now_are_refused(lab: Lab) -> None:
    lab.world.script = [Hold()]
    handle = await lab.start(canary())
    await lab.watching()
    for verb, command in (
        ("resume", Command(caller=ANN)),
        ("approve", Approval(caller=ANN)),
        ("promote", Promotion(caller=ANN)),
    ):
        with pytest.raises(WorkflowUpdateFailedError):
            await lab.tell(handle, verb, command)
    await lab.tell(handle, "abort", Command(caller=ANN))


async def test_a_held_target_is_refused_and_nothing_is_written(lab: Lab) -> None:
    lab.world.held_by = "canary/local/shop/other"
    report = await lab.run(canary())
    assert report.outcome is Outcome.FAILED
    assert "canary/local/shop/other" in report.reason
    assert lab.world.walked == []


async def test_a_change_the_mesh_refuses_fails_and_restores(lab: Lab) -> None:
    lab.world.fail_apply = [ApplicationError("no arm v2", type="InvalidChange", non_retryable=True)]
    report = await lab.run(canary())
    assert report.outcome is Outcome.FAILED
    assert report.reason == "no arm v2"
    assert lab.world.at_rest


async def test_nothing_is_written_where_telemetry_does_not_answer_to_begin_with(lab: Lab) -> None:
    lab.world.fail_count = [ApplicationError("Prometheus is not there", type="InvalidChange", non_retryable=True)]
    report = await lab.run(canary())
    assert report.outcome is Outcome.FAILED
    assert "Prometheus is not there" in report.reason
    assert lab.world.walked == []
    assert lab.world.at_rest


async def test_exposure_falls_back_to_what_the_watches_saw(lab: Lab) -> None:
    lab.world.script = [Hold()]
    handle = await lab.start(canary())
    await lab.watching()
    lab.world.fail_count = [ApplicationError("gone", type="TelemetryError", non_retryable=True)]
    await lab.tell(handle, "abort", Command(caller=ANN))
    assert (await handle.result()).exposure.requests == 5


async def test_a_mesh_that_does_not_answer_at_first_is_asked_again(lab: Lab) -> None:
    lab.world.fail_apply = [ApplicationError("busy", type="MeshUnavailable")] * 2
    assert (await lab.run(canary())).outcome is Outcome.PROMOTED


async def test_the_deadline_restores_and_is_undecided(lab: Lab) -> None:
    lab.world.script = [Hold()]
    report = await lab.run(canary(deadline="1s"))
    assert report.outcome is Outcome.INCONCLUSIVE
    assert "deadline" in report.reason
    assert lab.world.at_rest
