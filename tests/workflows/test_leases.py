"""What a rollout does when its lease goes, when somebody stops it, and when it has to wait."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.exceptions import ApplicationError

from autopilot.operations.common import Caller, Command, Outcome
from tests.workflows.conftest import Lab, canary
from tests.workflows.fakes import ADVANCE, CONDEMNED, HALTED, HARM, LEASE_LOST, LET_GO, TAKEN_OVER, Hold

ANN = Caller(who="ann")
PROMOTED = {"v1": 0.0, "v2": 100.0}
BASE = {"v1": 100.0}


def refusal(kind: str, said: str = "") -> ApplicationError:
    return ApplicationError(said or kind, type=kind, non_retryable=True)


async def test_a_lost_lease_is_taken_again_and_its_step_laid_again(lab: Lab) -> None:
    lab.world.script = [ADVANCE, LEASE_LOST]
    report = await lab.run(canary())
    assert report.outcome is Outcome.PROMOTED
    assert lab.world.walked == [10, 50, 50, 100]
    assert [request.lease.holder.fencing for request in lab.world.watched] == [1, 1, 2, 2]
    again = lab.world.watched[2]
    assert again.state == "memory 2", "harm evidence goes on"
    assert again.fresh_step, "good evidence starts afresh"
    assert [step.weight for step in report.steps] == [10, 50, 100]
    assert lab.world.base == PROMOTED
    assert lab.world.at_rest


async def test_harm_after_a_lost_lease_restores(lab: Lab) -> None:
    lab.world.script = [LEASE_LOST, HARM]
    report = await lab.run(canary())
    assert report.outcome is Outcome.ROLLED_BACK
    assert lab.world.at_rest
    assert lab.world.base == BASE


async def test_a_lease_lost_before_the_commit_is_earned_again(lab: Lab) -> None:
    lab.world.fail_commit = [refusal("LeaseLost")]
    report = await lab.run(canary())
    assert report.outcome is Outcome.PROMOTED
    assert lab.world.walked == [10, 50, 100, 100]
    assert len(lab.world.watched) == 4
    assert lab.world.base == PROMOTED


async def test_a_lease_lost_before_a_shift_lays_that_step(lab: Lab) -> None:
    lab.world.fail_apply = [refusal("LeaseLost")]
    report = await lab.run(canary())
    assert report.outcome is Outcome.PROMOTED
    assert lab.world.walked == [10, 50, 100]


async def test_where_the_spec_says_so_a_lost_lease_ends_it(lab: Lab) -> None:
    lab.world.script = [LEASE_LOST]
    report = await lab.run(canary(onLeaseLost="rollback"))
    assert report.outcome is Outcome.INCONCLUSIVE
    assert report.reason == LEASE_LOST.reason
    assert lab.world.base == BASE
    assert lab.world.at_rest


async def test_where_the_spec_says_so_a_person_is_asked_first(lab: Lab) -> None:
    lab.world.script = [LEASE_LOST, Hold()]
    handle = await lab.start(canary(onLeaseLost="hold"))
    await lab.phase(handle, "Undecided")
    await lab.watching()
    assert lab.world.weights == BASE
    assert lab.world.watched[-1].weight == 0, "the lease is kept, though nothing is laid"
    await lab.tell(handle, "resume", Command(caller=ANN))
    report = await handle.result()
    assert report.outcome is Outcome.PROMOTED
    assert lab.world.walked == [10, 10, 50, 100]


async def test_a_lease_that_is_lost_again_and_again_is_given_up(lab: Lab) -> None:
    lab.world.script = [LEASE_LOST] * 20
    report = await lab.run(canary())
    assert report.outcome is Outcome.INCONCLUSIVE
    assert "lost 6 times" in report.reason
    assert lab.world.at_rest


async def test_a_lost_lease_that_somebody_else_has_now_is_not_fought_for(lab: Lab) -> None:
    lab.world.script = [LEASE_LOST]
    handle = await lab.start(canary(onLeaseLost="resume"))
    lab.world.held_by = "canary/local/shop/other"
    report = await handle.result()
    assert report.outcome in {Outcome.INCONCLUSIVE, Outcome.FAILED}
    assert "canary/local/shop/other" in report.reason


async def test_harm_that_nobody_could_tell_of_is_a_rollback(lab: Lab) -> None:
    lab.world.script = [CONDEMNED]
    report = await lab.run(canary())
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.reason == CONDEMNED.reason
    assert lab.world.at_rest


async def test_a_run_whose_harm_was_noted_does_not_come_back(lab: Lab) -> None:
    lab.world.script = [LEASE_LOST]
    handle = await lab.start(canary())
    lab.world.fail_acquire = []
    await lab.until(lambda: bool(lab.world.asked), "the lease")
    lab.world.fail_acquire = [refusal("Condemned", "20 % errors")]
    report = await handle.result()
    assert report.outcome in {Outcome.ROLLED_BACK, Outcome.PROMOTED}
    if report.outcome is Outcome.ROLLED_BACK:
        assert "20 % errors" in report.reason
    assert lab.world.overlay is None


async def test_who_is_asked_to_give_way_restores_and_says_who_took_over(lab: Lab) -> None:
    lab.world.script = [ADVANCE, TAKEN_OVER]
    report = await lab.run(canary())
    assert report.outcome is Outcome.TAKEN_OVER
    assert "security/quarantine" in report.reason
    assert lab.world.lifted_by == ["workflow"]
    assert lab.world.base == BASE
    assert lab.world.at_rest


async def test_a_person_who_took_the_target_ends_it(lab: Lab) -> None:
    lab.world.fail_apply = [refusal("TakenOver", "taken over by ann")]
    report = await lab.run(canary())
    assert report.outcome is Outcome.TAKEN_OVER
    assert report.reason == "taken over by ann"


async def test_nothing_starts_while_the_button_is_pressed(lab: Lab) -> None:
    lab.world.fail_acquire = [refusal("Halted", "halted by ann: paged")]
    report = await lab.run(canary())
    assert report.outcome is Outcome.FAILED
    assert "paged" in report.reason
    assert lab.world.walked == []


async def test_the_button_holds_a_rollout_where_it_is(lab: Lab) -> None:
    go = asyncio.Event()
    lab.world.script = [HALTED, Hold(until=go, then=LET_GO)]
    handle = await lab.start(canary())
    await lab.phase(handle, "Halted")
    await lab.watching()
    assert lab.world.walked == [10]
    assert lab.world.weights == {"v1": 90, "v2": 10}
    assert (lab.world.watched[-1].halt, lab.world.watched[-1].rule.limit) == ("over", None)
    go.set()
    report = await handle.result()
    assert report.outcome is Outcome.PROMOTED
    assert not lab.world.watched[2].fresh_step, "the step goes on where it was"


async def test_harm_while_halted_still_restores(lab: Lab) -> None:
    lab.world.script = [HALTED, HARM]
    report = await lab.run(canary())
    assert report.outcome is Outcome.ROLLED_BACK
    assert lab.world.at_rest


@pytest.mark.parametrize("where", ["apply", "commit"])
async def test_a_write_that_the_button_stops_is_made_when_it_is_let_go(lab: Lab, where: str) -> None:
    refused = [refusal("Halted", "halted by ann")]
    if where == "apply":
        lab.world.fail_apply, lab.world.script = refused, [LET_GO]
    else:
        lab.world.fail_commit, lab.world.script = refused, [ADVANCE, ADVANCE, ADVANCE, LET_GO]
    report = await lab.run(canary())
    assert report.outcome is Outcome.PROMOTED
    assert lab.world.walked == [10, 50, 100]


async def test_who_waits_in_turn_says_so_and_can_be_aborted(lab: Lab) -> None:
    lab.world.fail_acquire = [ApplicationError("canary/other has it", type="LeasePending")] * 1000
    handle = await lab.start(canary().model_copy(update={"queue": True}))
    await lab.phase(handle, "Queued")
    await lab.tell(handle, "abort", Command(caller=ANN, reason="tired"))
    report = await handle.result()
    assert report.outcome is Outcome.ABORTED
    assert report.reason == "tired"
    assert lab.world.at_rest


async def test_who_waited_in_turn_walks_when_it_has_the_target(lab: Lab) -> None:
    lab.world.fail_acquire = [ApplicationError("canary/other has it", type="LeasePending")] * 2
    report = await lab.run(canary().model_copy(update={"queue": True}))
    assert report.outcome is Outcome.PROMOTED
    (asked,) = lab.world.asked
    assert asked.queue
    assert asked.lasting is not None, "its time counts from when it has the target"


async def test_who_and_why_travel_with_every_write(lab: Lab) -> None:
    spec = canary().model_copy(update={"caller": Caller(who="bob", verified=True)})
    lab.world.script = [Hold()]
    handle = await lab.start(spec)
    await lab.watching()
    await lab.tell(handle, "abort", Command(caller=ANN, reason="wrong build"))
    await handle.result()
    assert [(actor.who, actor.verified) for actor in lab.world.actors] == [("bob", True), ("bob", True), ("ann", False)]
    assert lab.world.actors[-1].why == "wrong build"


async def test_an_abort_is_final_though_its_watch_finds_the_lease_gone_meanwhile(lab: Lab) -> None:
    """The restore takes the lease away, the watch says so, and nobody may take that for a reason to begin again."""
    lab.world.lift_takes = 0.5
    lab.world.script = [Hold(until=lab.world.lifted, then=LEASE_LOST)]
    handle = await lab.start(canary())
    await lab.watching()
    await lab.tell(handle, "abort", Command(caller=ANN, reason="wrong build"))
    assert (await handle.result()).outcome is Outcome.ABORTED
    assert (len(lab.world.asked), lab.world.walked) == (1, [10])
    assert lab.world.at_rest


async def test_an_abort_is_final_though_a_write_was_under_way(lab: Lab) -> None:
    """A write that completes swallows its cancellation: what follows it must not."""
    lab.world.apply_takes = 0.5
    handle = await lab.start(canary())
    await lab.until(lambda: bool(lab.world.walked), "the first shift to be under way")
    await lab.tell(handle, "abort", Command(caller=ANN, reason="wrong build"))
    assert (await handle.result()).outcome is Outcome.ABORTED
    assert (lab.world.walked, lab.world.watched) == ([10], [])
    assert lab.world.at_rest
