"""(cron, clock, overlap, outage) -> runs and reasons, with real Schedules on the dev server.

Cron times are given to the server by backfill, each with the clock that whoever decides is to see.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import ScheduleBackfill
from temporalio.worker import Replayer

from activities.contracts.schedule import PauseRequest
from autopilot.operations.common import Caller
from autopilot.operations.task_queues import operation_queue
from autopilot.reports.schedule import ManualRun
from autopilot.spec.chaos.limits import Ceilings
from autopilot.spec.chaos.schedule import Freeze
from starter.client import schedules, start_schedule
from tests.schedules.conftest import PlayedChaos, Stage, at, experiment
from worker.plugin import AutopilotPlugin
from workflows.chaos.scheduled_run import ScheduledRun

pytestmark = pytest.mark.devserver
ANN = Caller(who="ann")
HOURS = [{"days": ["mon", "tue", "wed", "thu", "fri"], "start": "09:00", "end": "17:00"}]


@dataclass(frozen=True)
class Row:
    """One line of the table: what is due, what the clock shows, and what comes of it."""

    cron: str
    due: str
    """UTC."""
    decision: str
    reason: str
    late: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)
    refusal: str = ""
    ceilings: Ceilings = field(default_factory=Ceilings)


MONDAY = "2020-03-02 09:00"  # ten o'clock in Berlin
TABLE = {
    "on time": Row("0 10 * * mon-fri", MONDAY, "started", "due"),
    "in its window": Row("* * * * *", "2020-03-02 15:59", "started", "due", more={"windows": HOURS}),
    "at the window's end": Row(
        "* * * * *", "2020-03-02 16:00", "skipped", "mon 17:00 Europe/Berlin is outside", more={"windows": HOURS}
    ),
    "summer time moves the window": Row(
        "* * * * *", "2020-06-01 15:00", "skipped", "mon 17:00 Europe/Berlin is outside", more={"windows": HOURS}
    ),
    "at the week-end": Row("* * * * *", "2020-03-07 10:00", "skipped", "sat 11:00", more={"windows": HOURS}),
    "jittered out of the window": Row(
        "59 16 * * *",
        "2020-03-02 15:59",
        "skipped",
        "outside the schedule's windows",
        120,
        {"windows": HOURS, "jitter": "10m"},
    ),
    "frozen": Row(
        "0 10 * * *",
        "2020-12-24 09:00",
        "skipped",
        "2020-12-20 to 2021-01-06 are frozen (schedule.freeze): holidays",
        more={"freeze": [{"start": "2020-12-20", "end": "2021-01-06", "reason": "holidays"}]},
    ),
    "frozen by the administrator": Row(
        "0 10 * * *",
        MONDAY,
        "skipped",
        "frozen for the whole mesh (spec.chaos.freeze of the mesh file): audit",
        ceilings=Ceilings(freeze=(Freeze(start=date(2020, 3, 2), end=date(2020, 3, 2), reason="audit"),)),
    ),
    "the stop button": Row("0 10 * * *", MONDAY, "skipped", "halted by ann", refusal="halted by ann: fire"),
    "a short outage": Row("0 10 * * *", MONDAY, "started", "caught up, 4m late", 240),
    "an outage beyond the catch-up": Row("0 10 * * *", MONDAY, "skipped", "6m late, because Temporal or all", 360),
    "an outage of a day": Row("0 10 * * *", MONDAY, "skipped", "1d late, because", 86400),
}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE.keys())
async def test_the_table(stage: Stage, row: Row) -> None:
    stage.mesh.refusal, stage.mesh.ceilings = row.refusal, row.ceilings
    wanted = experiment(**{"cron": row.cron, **row.more})
    schedule = await stage.put(wanted)
    record = await stage.decided(schedule, at(row.due), late=row.late)
    assert record.decision == row.decision, record.reason
    assert re.search(re.escape(row.reason), record.reason), record.reason
    assert record.scheduled == at(row.due).timestamp()
    assert await stage.exists(wanted.workflow_id) is (row.decision == "started")
    (line,) = (stage.folder / f"{schedule.replace('/', '_')}.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == record.reason


async def test_a_time_that_comes_twice_runs_once(stage: Stage) -> None:
    """Temporal starts a run for both."""
    wanted = experiment(cron="30 1 * * *", timeZone="America/New_York")
    schedule = await stage.put(wanted)
    before, first, second = [at(f"2020-{text}") for text in ("10-31 05:30", "11-01 05:30", "11-01 06:30")]
    decisions = []
    for when in (before, first, second):
        record = await stage.decided(schedule, when)
        assert record.scheduled == when.timestamp()
        decisions.append(record.decision)
        if record.decision == "started":
            await stage.end(wanted)
    assert decisions == ["started", "started", "skipped"]
    assert "01:30 comes twice on 2020-11-01 in America/New_York" in record.reason
    assert record.missed == ()


async def test_overlap_skip_names_the_run_before(stage: Stage) -> None:
    wanted = experiment(overlap="skip")
    schedule = await stage.put(wanted)
    first = await stage.decided(schedule, at(MONDAY))
    second = await stage.decided(schedule, at("2020-03-03 09:00"))
    assert (first.decision, second.decision) == ("started", "skipped")
    assert wanted.workflow_id in second.reason
    assert "overlap: skip" in second.reason
    assert await stage.end(wanted) == f"{schedule} schedule {schedule}: over"
    third = await stage.decided(schedule, at("2020-03-04 09:00"))
    assert third.decision == "started"
    assert third.missed == ()


async def test_overlap_queue_lets_one_wait_and_tells_of_the_others(stage: Stage) -> None:
    wanted = experiment(cron="* * * * *", overlap="queue")
    schedule = await stage.put(wanted, since=at("2020-03-02 08:59"))
    assert (await stage.decided(schedule, at("2020-03-02 09:00"))).decision == "started"
    second = await stage.due(schedule, at("2020-03-02 09:01"))
    assert "waiting for its end" in (await stage.waiting(second)).reason
    third = await stage.due(schedule, at("2020-03-02 09:02"))
    by_hand = await start_schedule.trigger(stage.client, schedule, ManualRun(caller=ANN))
    assert (by_hand.decision, by_hand.by) == ("skipped", "ann")
    assert f"{second} already waits for it" in by_hand.reason
    stage.now = at("2020-03-02 09:04")
    await stage.end(wanted)
    record = await stage.record(second)
    assert (record.decision, record.waited) == ("started", 180)
    (group,) = record.missed
    assert (group.count, group.first) == (3, at("2020-03-02 09:02").timestamp())
    assert group.reason == f"{second} was already waiting"
    assert not await stage.exists(third)
    await stage.end(wanted)
    after = await stage.decided(schedule, at("2020-03-02 09:05"))
    assert (after.decision, after.missed) == ("started", ())


async def test_overlap_queue_waits_no_longer_than_the_deadline(stage: Stage) -> None:
    wanted = experiment(overlap="queue", deadline=1.1)
    schedule = await stage.put(wanted)
    await stage.decided(schedule, at(MONDAY))
    record = await stage.decided(schedule, at("2020-03-03 09:00"))
    assert record.decision == "skipped"
    assert f"{wanted.workflow_id} was still running, or running again" in record.reason


async def test_a_freeze_that_begins_while_it_waits_is_heeded(stage: Stage) -> None:
    wanted = experiment(overlap="queue", freeze=[{"start": "2020-03-04", "end": "2020-03-05"}])
    schedule = await stage.put(wanted)
    await stage.decided(schedule, at(MONDAY))
    second = await stage.due(schedule, at("2020-03-03 09:00"))
    await stage.waiting(second)
    stage.now = at("2020-03-04 00:10")
    await stage.end(wanted)
    record = await stage.record(second)
    assert (record.decision, record.reason) == ("skipped", "2020-03-04 to 2020-03-05 are frozen (schedule.freeze)")


@pytest.mark.parametrize("event", ["paused", "deleted"])
async def test_what_befalls_a_schedule_while_its_run_waits_is_heeded(stage: Stage, event: str) -> None:
    """A refuted hypothesis, for instance: the run that waits for that one's end must not begin."""
    wanted = experiment(overlap="queue")
    schedule = await stage.put(wanted)
    await stage.decided(schedule, at(MONDAY))
    second = await stage.due(schedule, at("2020-03-03 09:00"))
    await stage.waiting(second)
    if event == "paused":
        await schedules.pause(stage.client, schedule, ANN, "it broke the shop")
    else:
        await schedules.delete(stage.client, schedule)
    await stage.end(wanted)
    record = await stage.record(second)
    assert record.decision == "skipped"
    assert f"the schedule was {event} while this run waited" in record.reason
    history = await stage.client.get_workflow_handle(second).fetch_history()
    await Replayer(workflows=[ScheduledRun], plugins=[AutopilotPlugin()]).replay_workflow(history)


async def test_overlap_cancel_other_ends_the_run_before(stage: Stage) -> None:
    wanted = experiment(overlap="cancelOther")
    schedule = await stage.put(wanted)
    first = await stage.decided(schedule, at(MONDAY))
    second = await stage.decided(schedule, at("2020-03-03 09:00"))
    assert second.decision == "started", second.reason
    before = stage.client.get_workflow_handle(wanted.workflow_id, run_id=first.experiment_run)
    assert f"aborted by schedule {schedule}: the next scheduled run replaces it" in await before.result()
    assert second.experiment_run != first.experiment_run


async def test_a_schedule_ends_no_run_of_a_person(stage: Stage) -> None:
    wanted = experiment(overlap="cancelOther")
    schedule = await stage.put(wanted)
    await stage.client.start_workflow(
        PlayedChaos.run, wanted, id=wanted.workflow_id, task_queue=operation_queue("local")
    )
    record = await stage.decided(schedule, at(MONDAY))
    assert record.decision == "skipped"
    assert "(not of this schedule)" in record.reason
    assert "aborts only its own runs" in record.reason
    await stage.end(wanted)


async def test_a_day_without_temporal_is_told_of_in_one_line_and_runs_once(stage: Stage) -> None:
    wanted = experiment(cron="* * * * *")
    schedule = await stage.put(wanted, since=at("2020-03-02 08:59"))
    await stage.decided(schedule, at("2020-03-02 09:00"))
    await stage.end(wanted)
    record = await stage.decided(schedule, at("2020-03-03 09:00"))
    assert record.decision == "started"
    (group,) = record.missed
    assert group.count == 1439
    assert await stage.runs_of(wanted) == 2


async def test_a_day_of_cron_times_at_once_is_no_storm(stage: Stage) -> None:
    """As a catch-up without bounds, or somebody's backfill of yesterday, would have it."""
    wanted = experiment(cron="*/30 * * * *")
    schedule = await stage.put(wanted)
    stage.now = at("2020-03-03 09:00")
    handle = stage.client.get_schedule_handle(schedule)
    await handle.backfill(ScheduleBackfill(start_at=at("2020-03-02 00:01"), end_at=at("2020-03-03 00:01")))
    async with asyncio.timeout(15):
        while (info := (await handle.describe()).info).num_actions + info.num_actions_skipped_overlap < 48:
            await asyncio.sleep(0.05)
    records = await _listed(stage, schedule, info.num_actions)
    assert {each.decision for each in records} == {"skipped"}
    assert all("late, because Temporal or all workers were down" in each.reason for each in records)
    assert not await stage.exists(wanted.workflow_id)


async def test_what_a_pause_kept_from_running_has_the_pauses_reason(stage: Stage) -> None:
    soon = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=10)
    wanted = experiment(cron=f"{soon.minute} * * * *", timeZone="UTC")
    schedule = await start_schedule.put(stage.client, wanted)
    assert await schedules.pause(stage.client, schedule, ANN, "the database is being moved")
    assert not await schedules.pause(stage.client, schedule, ANN, "again")
    row = await _row(stage, schedule)
    assert (row.paused, row.next) == (True, None)
    assert row.note == "by ann: the database is being moved"
    record = await stage.decided(schedule, soon + timedelta(hours=5))
    assert [(each.count, each.reason) for each in record.missed] == [
        (5, "the schedule was paused: by ann: the database is being moved")
    ]
    assert await schedules.resume(stage.client, schedule, ANN)
    assert not await schedules.resume(stage.client, schedule, ANN)
    assert not (await _row(stage, schedule)).paused
    assert all(pause.until for pause in (await schedules.wish(stage.client, schedule)).pauses)


async def _row(stage: Stage, schedule: str) -> schedules.ScheduleRow:
    """As `list` has it; Temporal lists what is new a moment later."""
    async with asyncio.timeout(30):
        while True:
            for row in await schedules.list_schedules(stage.client):
                if row.id == schedule:
                    return row
            await asyncio.sleep(0.05)


async def test_a_refuted_hypothesis_pauses_it_once(stage: Stage) -> None:
    wanted = experiment()
    schedule = await start_schedule.put(stage.client, wanted)
    request = PauseRequest(schedule=schedule, note="chaos/local/shop/slow refuted its hypothesis: p99")
    assert await stage.activities.pause_after(request) == "paused"
    assert await stage.activities.pause_after(request) == "the schedule was paused already"
    assert (await _row(stage, schedule)).note == request.note
    await start_schedule.put(stage.client, wanted)
    assert (await _row(stage, schedule)).paused, "putting it again must not let it go on"
    await schedules.delete(stage.client, schedule)
    assert await stage.activities.pause_after(request) == "the schedule no longer exists"


async def test_a_person_passes_windows_but_no_freeze(stage: Stage) -> None:
    freeze = [{"start": "2020-03-08", "end": "2020-03-08", "reason": "sale"}]
    wanted = experiment(windows=HOURS, freeze=freeze)
    schedule = await stage.put(wanted)
    stage.now = at("2020-03-08 03:00")
    refused = await start_schedule.trigger(stage.client, schedule, ManualRun(caller=ANN))
    frozen = "2020-03-08 to 2020-03-08 are frozen (schedule.freeze): sale"
    assert (refused.decision, refused.reason) == ("skipped", frozen)
    forced = await start_schedule.trigger(stage.client, schedule, ManualRun(caller=ANN, force=True, reason="a drill"))
    assert (forced.decision, forced.reason) == ("started", "asked for by ann: a drill")
    assert await stage.end(wanted) == f"{schedule} ann: over"
    stage.now = at("2020-03-07 03:00")
    assert (await start_schedule.trigger(stage.client, schedule, ManualRun(caller=ANN))).decision == "started"
    assert [each.by for each in await _listed(stage, schedule, 3)] == ["ann", "ann", "ann"]


async def _listed(stage: Stage, schedule: str, count: int) -> list[Any]:
    async with asyncio.timeout(30):
        while True:
            found = await schedules.runs(stage.client, schedule, limit=100)
            if len(found) >= count and all(each.decision != "waiting" for each in found):
                return found
            await asyncio.sleep(0.05)


async def test_put_again_brings_it_up_to_date(stage: Stage) -> None:
    wanted = experiment()
    schedule = await start_schedule.put(stage.client, wanted)
    before = await schedules.wish(stage.client, schedule)
    other = experiment(name=wanted.name, cron="30 11 * * *", catchUp="1m")
    assert await start_schedule.put(stage.client, other) == schedule
    found = await stage.client.get_schedule_handle(schedule).describe()
    assert found.schedule.policy.catchup_window == timedelta(minutes=1)
    assert (await schedules.wish(stage.client, schedule)).since > before.since
    row = await _row(stage, schedule)
    assert (row.cron, row.target) == ("30 11 * * *", "shop/reviews")


async def test_what_is_not_there_is_said_to_be_missing(stage: Stage) -> None:
    gone = "chaos-schedule/local/shop/gone"
    for command in (
        schedules.delete(stage.client, gone),
        schedules.pause(stage.client, gone, ANN, "x"),
        schedules.resume(stage.client, gone, ANN),
        start_schedule.trigger(stage.client, gone, ManualRun()),
    ):
        with pytest.raises(schedules.ScheduleError, match=f"there is no {gone}"):
            await command
    with pytest.raises(schedules.ScheduleError, match="no schedule is called 'gone'"):
        await schedules.resolve(stage.client, "gone")
