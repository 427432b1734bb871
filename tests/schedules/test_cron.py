"""What a cron means here is what it means to Temporal, summer time and all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleSpec, ScheduleState
from temporalio.testing import WorkflowEnvironment

from autopilot.spec.values.clock_changes import clock_changes
from autopilot.spec.values.cron import between, checked
from tests.schedules.conftest import at

pytestmark = pytest.mark.devserver

CRONS = [
    ("0 10 * * mon-fri", "Europe/Berlin", "2027-03-26 00:00"),
    ("30 2 * * *", "Europe/Berlin", "2027-03-26 00:00"),  # 02:30 is left out on the 28th
    ("30 2 * * *", "Europe/Berlin", "2027-10-29 00:00"),  # 02:30 comes twice on the 31st
    ("*/20 1-3 * * *", "Europe/Berlin", "2027-10-31 00:30"),
    ("15,45 * * * *", "America/New_York", "2027-03-14 05:00"),
    ("30 1 * * sun", "America/New_York", "2027-10-30 00:00"),
    ("0 0 * * *", "America/Sao_Paulo", "2027-01-01 00:00"),
    ("30 1 * * *", "Australia/Lord_Howe", "2027-04-02 00:00"),  # set back by half an hour
    ("0 0 29 2 *", "UTC", "2027-01-01 00:00"),
    ("0 0 31 * *", "Asia/Kathmandu", "2027-01-01 00:00"),
    ("*/7 */5 * jan-mar/2 *", "UTC", "2027-01-01 00:00"),
    ("0 0 * * 5-7", "UTC", "2027-01-01 00:00"),
    ("0 0 * * sun-tue", "UTC", "2027-01-01 00:00"),
    ("0 0 * * */3", "UTC", "2027-01-01 00:00"),
    ("0 0 * * 7", "UTC", "2027-01-01 00:00"),
    ("5-50/15 8,20 1-10/3 * *", "UTC", "2027-01-01 00:00"),
    ("0 0 */10 * *", "UTC", "2027-01-01 00:00"),
]


@pytest.mark.parametrize(("cron", "zone", "begin"), CRONS, ids=[f"{cron} {zone}" for cron, zone, _ in CRONS])
async def test_temporal_counts_the_same_times(
    dev_server: WorkflowEnvironment, cron: str, zone: str, begin: str
) -> None:
    handle = await dev_server.client.create_schedule(
        f"cron {cron} {zone} {begin}",
        Schedule(
            action=ScheduleActionStartWorkflow("Nothing", id="nothing", task_queue="nobody"),
            spec=ScheduleSpec(cron_expressions=[checked(cron)], time_zone_name=zone, start_at=at(begin)),
            state=ScheduleState(paused=True),
        ),
    )
    theirs = list((await handle.describe()).info.next_action_times)
    await handle.delete()
    assert len(theirs) == 10
    ours = between(checked(cron), zone, at(begin) - timedelta(seconds=1), theirs[-1])
    assert list(ours.moments) == [each for each in theirs if not shown_twice(each, zone)]


@pytest.mark.parametrize(("zone", "due"), [("America/New_York", 2), ("Europe/Berlin", 1)])
async def test_temporal_counts_a_time_that_comes_twice_once_or_twice(
    dev_server: WorkflowEnvironment, zone: str, due: int
) -> None:
    """Why runs look for themselves whether the time was dealt with (`autopilot.reports.schedule_rules.decide`)."""
    (change,) = clock_changes("30 1,2 * * *", zone, at("2027-09-01 00:00"), at("2027-12-01 00:00"))
    (wall,) = change.walls
    handle = await dev_server.client.create_schedule(
        f"twice {zone}",
        Schedule(
            action=ScheduleActionStartWorkflow("Nothing", id="nothing", task_queue="nobody"),
            spec=ScheduleSpec(
                cron_expressions=[f"{wall.minute} {wall.hour} * * *"],
                time_zone_name=zone,
                start_at=wall.replace(tzinfo=ZoneInfo(zone)) - timedelta(hours=2),
            ),
            state=ScheduleState(paused=True),
        ),
    )
    theirs = list((await handle.describe()).info.next_action_times)
    await handle.delete()
    assert len([each for each in theirs if shown_twice(each, zone)]) == due


def shown_twice(moment: datetime, zone: str) -> bool:
    """Whether clocks show this time twice: when Temporal runs then, only Temporal knows."""
    wall = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return len({wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)}) == 2
