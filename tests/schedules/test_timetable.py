"""When a scheduled experiment runs, and what is said of the times at which it did not."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from autopilot.operations.common import Caller
from autopilot.reports.schedule import Counted, ManualRun, Pause, Running, Situation
from autopilot.reports.schedule_rules import MOST_MISSED, clock_notes, decide, missed
from autopilot.spec.chaos.schedule import Freeze, ScheduleSpec
from autopilot.spec.errors import SpecError
from autopilot.spec.load import load
from autopilot.spec.values.cron import MOST, between, checked
from tests.drawn import examples

SCHEDULE = "chaos-schedule/local/shop/slow"
EXPERIMENT = "chaos/local/shop/slow"
BERLIN = ZoneInfo("Europe/Berlin")
ANN = ManualRun(caller=Caller(who="ann"), reason="a drill")
FORCED = ManualRun(caller=Caller(who="ann"), reason="a drill", force=True)
OFFICE = [{"start": "09:00", "end": "17:00"}]
EVENING = {"start": "22:00", "end": "24:00"}
HOLIDAYS = [{"start": "2026-12-20", "end": "2027-01-06", "reason": "holidays"}]
OURS = Running(workflow_id=EXPERIMENT, run_id="1", schedule=SCHEDULE)
ANNS = Running(workflow_id=EXPERIMENT, run_id="1")


def spec(**written: Any) -> ScheduleSpec:
    return ScheduleSpec.model_validate({"cron": "0 10 * * *", "timeZone": "Europe/Berlin", **written})


def at(text: str) -> float:
    """Seconds since the epoch, of a time in Berlin."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=BERLIN).timestamp()


def seen(now: float, *, late: float = 0.0, **facts: Any) -> Situation:
    return Situation(schedule=SCHEDULE, scheduled=now - late, now=now, **facts)


MONDAY = at("2026-03-02 10:00")
TABLE: dict[str, tuple[ScheduleSpec, Situation, str, str]] = {
    "due": (spec(), seen(MONDAY), "start", "due"),
    "caught up with": (spec(), seen(MONDAY, late=200), "start", "caught up, 3m20s late"),
    "just in time": (spec(), seen(MONDAY, late=300), "start", "caught up, 5m late"),
    "too late": (spec(), seen(MONDAY, late=306), "skip", "5m6s late, because"),
    "late by its jitter": (spec(jitter="1h"), seen(MONDAY, late=3600), "start", "due"),
    "late by a day": (spec(), seen(MONDAY, late=86400), "skip", "are caught up for at most 5m"),
    "window's first minute": (spec(windows=OFFICE), seen(at("2026-03-02 09:00")), "start", "due"),
    "before the window": (spec(windows=OFFICE), seen(at("2026-03-02 08:59")), "skip", "mon 08:59 Europe/Berlin is"),
    "at its end": (spec(windows=OFFICE), seen(at("2026-03-02 17:00")), "skip", "outside the schedule's windows"),
    "at the week-end": (spec(windows=OFFICE), seen(at("2026-03-07 12:00")), "skip", "sat 12:00"),
    "in summer": (spec(windows=OFFICE), seen(at("2026-07-06 16:59")), "start", "due"),
    "a day to the end": (spec(windows=[EVENING]), seen(at("2026-03-02 23:59")), "start", "due"),
    "in one of two": (
        spec(windows=[*OFFICE, {"days": ["sat"], "start": "10:00", "end": "12:00"}]),
        seen(at("2026-03-07 11:00")), "start", "due",
    ),
    "frozen on the first day": (
        spec(freeze=HOLIDAYS), seen(at("2026-12-20 00:00")), "skip", "are frozen (schedule.freeze): holidays",
    ),
    "frozen to the last minute": (spec(freeze=HOLIDAYS), seen(at("2027-01-06 23:59")), "skip", "2026-12-20 to 20"),
    "not frozen any more": (spec(freeze=HOLIDAYS), seen(at("2027-01-07 00:00")), "start", "due"),
    "frozen for all, in UTC": (
        spec(), seen(at("2026-03-03 00:30"), frozen=(Freeze(start=date(2026, 3, 2), end=date(2026, 3, 2)),)),
        "skip", "frozen for the whole mesh",
    ),
    "by hand, no window": (spec(windows=OFFICE), seen(at("2026-03-07 03:00"), hand=ANN), "start", "by ann: a drill"),
    "by hand, frozen": (spec(freeze=HOLIDAYS), seen(at("2026-12-24 10:00"), hand=ANN), "skip", "are frozen"),
    "by hand, a day ago": (spec(), seen(MONDAY, late=86400, hand=FORCED), "skip", "1d late, because"),
    "by force": (spec(freeze=HOLIDAYS), seen(at("2026-12-24 10:00"), hand=FORCED), "start", "asked for by ann"),
    "no force passes the administrator": (
        spec(), seen(MONDAY, hand=FORCED, frozen=(Freeze(start=date(2026, 3, 2), end=date(2026, 3, 2)),)),
        "skip", "for the whole mesh",
    ),
    "halted": (spec(), seen(MONDAY, refused="halted by ann: fire"), "skip", "halted by ann: fire"),
    "no force passes the stop button": (spec(), seen(MONDAY, refused="halted by ann", hand=FORCED), "skip", "halted"),
    "skip": (spec(overlap="skip"), seen(MONDAY, running=OURS), "skip", f"{EXPERIMENT} has been running for"),
    "queue": (spec(overlap="queue"), seen(MONDAY, running=OURS), "wait", "waiting for its end"),
    "queue after a person's": (spec(overlap="queue"), seen(MONDAY, running=ANNS), "wait", "(not of this schedule)"),
    "queue, full": (
        spec(overlap="queue"), seen(MONDAY, running=OURS, waiting="that of 9"), "skip", "that of 9 already waits",
    ),
    "queue, at its end": (
        spec(overlap="queue"), seen(MONDAY, waited=90, late=900), "start", "ended after a wait of 1m30s",
    ),
    "queue, in vain": (spec(overlap="queue"), seen(MONDAY, waited=90, running=OURS), "skip", "waited 1m30s, and"),
    "waited into a freeze": (spec(freeze=HOLIDAYS), seen(at("2026-12-20 00:01"), waited=90), "skip", "frozen"),
    "waited out of its window": (spec(windows=OFFICE), seen(at("2026-03-02 17:01"), waited=90), "skip", "outside"),
    "cancelOther": (spec(overlap="cancelOther"), seen(MONDAY, running=OURS), "replace", "aborting it first"),
    "cancelOther, a person's": (spec(overlap="cancelOther"), seen(MONDAY, running=ANNS), "skip", "only its own runs"),
    "frozen comes before a run under way": (
        spec(overlap="cancelOther", freeze=HOLIDAYS), seen(at("2026-12-24 10:00"), running=OURS), "skip", "frozen",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wish", "facts", "kind", "reason"), TABLE.values(), ids=TABLE.keys())
def test_the_decision_and_its_reason(wish: ScheduleSpec, facts: Situation, kind: str, reason: str) -> None:
    decision = decide(wish, facts)
    assert decision.kind == kind, decision.reason
    assert reason in decision.reason


CLOCKS = st.sampled_from(["00:00", "02:30", "09:00", "12:00", "17:00", "23:59", "24:00"])
DAYS = st.lists(st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]), min_size=1, max_size=7, unique=True)
WINDOWS = st.lists(
    st.tuples(DAYS, CLOCKS, CLOCKS)
    .filter(lambda each: each[1] < each[2])
    .map(lambda each: {"days": each[0], "start": each[1], "end": each[2]}),
    max_size=3,
)
DATES = st.dates(date(2026, 1, 1), date(2026, 12, 31))
FREEZES = st.lists(
    st.tuples(DATES, st.integers(0, 120)).map(
        lambda each: {"start": str(each[0]), "end": str(each[0] + timedelta(days=each[1]))}
    ),
    max_size=3,
)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - it has


WISHES = st.fixed_dictionaries(
    {
        "windows": WINDOWS,
        "freeze": FREEZES,
        "timeZone": st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Asia/Kathmandu"]),
        "overlap": st.sampled_from(["skip", "queue", "cancelOther"]),
    }
).map(lambda written: spec(**written))
FACTS = st.builds(
    seen,
    MOMENTS.map(datetime.timestamp),
    late=st.floats(0, 700),
    waited=st.none() | st.floats(0, 7200),
    running=st.sampled_from([None, OURS, ANNS]),
    hand=st.sampled_from([None, ANN]),
)


@settings(deadline=None)
@given(wish=WISHES, facts=FACTS)
def test_nothing_ever_starts_in_a_freeze_outside_windows_or_beside_another(
    wish: ScheduleSpec, facts: Situation
) -> None:
    decision = decide(wish, facts)
    assert decision.reason
    if decision.kind == "skip":
        return
    local = datetime.fromtimestamp(facts.now, ZoneInfo(wish.time_zone))
    assert not any(freeze.start <= local.date() <= freeze.end for freeze in wish.freeze)
    day, minutes = f"{local:%a}".lower(), f"{local:%H:%M}"
    inside = [each for each in wish.windows if day in each.days and each.start <= minutes < each.end]
    assert inside or not wish.windows or facts.hand is not None
    if decision.kind == "start":
        assert facts.running is None
        late = facts.now - facts.scheduled
        assert facts.waited is not None or late <= wish.catch_up + 6


def test_a_day_of_an_every_minute_cron_is_one_line() -> None:
    groups, more = missed(spec(cron="* * * * *"), after=MONDAY, until=MONDAY + 86400, own=MONDAY + 86400)
    assert [(each.first, each.last, each.count) for each in groups] == [(MONDAY + 60, MONDAY + 86340, 1439)]
    assert not more


def test_what_is_missed_is_bounded() -> None:
    groups, more = missed(spec(cron="* * * * *"), after=MONDAY, until=MONDAY + 10 * 365 * 86400, own=0)
    assert more
    assert sum(each.count for each in groups) == MOST
    pauses = [Pause(since=MONDAY + 120 * number, until=MONDAY + 120 * number + 60) for number in range(200)]
    groups, more = missed(spec(cron="* * * * *"), after=MONDAY, until=MONDAY + 86400, own=0, pauses=pauses)
    assert len(groups) == MOST_MISSED
    assert more


@pytest.mark.parametrize(
    ("counted", "reason"),
    [
        (None, "or the schedule was paused in Temporal itself"),
        ((Counted(late=1), Counted(late=9)), "Temporal was down for longer than 5m"),
        ((Counted(dropped=1), Counted(dropped=9)), "the previous run had not started"),
        ((Counted(), Counted(late=3, dropped=3)), "or the previous run"),
        ((Counted(late=4), Counted(late=4)), "paused, or changed, in Temporal itself"),
    ],
)
def test_why_no_run_began_is_what_temporal_counted(counted: tuple[Counted, Counted] | None, reason: str) -> None:
    (group,), _ = missed(spec(), after=MONDAY, until=MONDAY + 2 * 86400, own=MONDAY + 2 * 86400, counted=counted)
    assert group.count == 1
    assert reason in group.reason


def test_a_pause_has_its_own_reason() -> None:
    pauses = [Pause(since=MONDAY + 60, until=MONDAY + 2 * 86400, reason="paused by ann: moving")]
    groups, _ = missed(spec(), after=MONDAY, until=MONDAY + 4 * 86400, own=MONDAY + 4 * 86400, pauses=pauses)
    assert [(each.count, each.reason.partition(":")[0]) for each in groups] == [
        (1, "the schedule was paused"),
        (2, "Temporal was down, or the schedule was paused in Temporal itself"),
    ]


def test_the_hour_that_is_left_out_is_not_missed() -> None:
    wish = spec(cron="30 2 * * *")
    groups, _ = missed(wish, after=at("2026-03-28 03:00"), until=at("2026-03-30 03:00"), own=at("2026-03-30 02:30"))
    assert groups == ()


def in_new_york(text: str, fold: int) -> float:
    zone = ZoneInfo("America/New_York")
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=zone, fold=fold).timestamp()


FIRST, SECOND = in_new_york("2027-11-07 01:30", 0), in_new_york("2027-11-07 01:30", 1)


@pytest.mark.parametrize(
    ("due", "told", "kind"),
    [
        (FIRST, None, "start"),
        (FIRST, FIRST - 86400, "start"),
        (SECOND, FIRST, "skip"),
        (SECOND, FIRST - 86400, "start"),  # at the first nothing ran
        (SECOND, None, "start"),
        (SECOND + 86400, SECOND, "start"),
    ],
)
def test_a_time_that_comes_twice_runs_once(due: float, told: float | None, kind: str) -> None:
    wish = spec(cron="30 1 * * *", timeZone="America/New_York")
    decision = decide(wish, seen(due, told=told))
    assert decision.kind == kind
    assert kind == "start" or decision.reason == (
        "01:30 comes twice on 2027-11-07 in America/New_York, when clocks are set back, and an earlier run has dealt "
        "with the first"
    )
    assert decide(wish, seen(due, told=told, hand=ANN)).kind == "start"


@pytest.mark.parametrize(
    ("written", "notes"),
    [
        ({"cron": "30 2 * * *"}, [
            ("02:30 does not exist on 2027-03-28 in Europe/Berlin, when clocks are set forward: the run of that day is "
            "skipped"),
            "02:30 comes twice on 2027-10-31 in Europe/Berlin, when clocks are set back: the cron runs once",
        ]),
        ({"cron": "*/20 1-3 * * *"}, [
            ("02:00 to 02:40 (3 cron times) do not exist on 2027-03-28 in Europe/Berlin, when clocks are set forward: "
            "their runs are skipped"),
            ("02:00 to 02:40 (3 cron times) come twice on 2027-10-31 in Europe/Berlin, when clocks are set back: each "
            "gets one run at the most"),
        ]),
        ({"cron": "45 1 * * *", "timeZone": "Australia/Lord_Howe"}, [
            "01:45 comes twice on 2027-04-04 in Australia/Lord_Howe, when clocks are set back: the cron runs once",
        ]),
        ({"cron": "0 2 * * *", "timeZone": "Australia/Lord_Howe"}, [
            ("02:00 does not exist on 2027-10-03 in Australia/Lord_Howe, when clocks are set forward: the run of that "
            "day is skipped"),
        ]),
        ({"cron": "0 3 * * *"}, []),
        ({"cron": "30 2 * * mon"}, []),
        ({"cron": "* * * * *", "timeZone": "UTC"}, []),
        ({"cron": "* * * * *", "windows": OFFICE}, []),
    ],
)  # fmt: skip
def test_clocks_that_leave_out_or_repeat_a_time_are_told_in_advance(written: dict[str, Any], notes: list[str]) -> None:
    assert clock_notes(spec(**written), datetime(2026, 12, 1, tzinfo=UTC)) == notes


def test_what_temporal_leaves_out_after_clocks_were_set_back_has_its_reason() -> None:
    wish, begin = spec(cron="*/10 * * * *"), at("2027-10-31 01:50")
    until = datetime(2027, 10, 31, 2, 20, tzinfo=UTC).timestamp()  # 03:20: measured, it begins again here
    (group,), _ = missed(wish, after=begin, until=until, own=until, counted=(Counted(), Counted()))
    assert group.count == 2
    assert "clocks of Europe/Berlin had just been set back, after which Temporal leaves out times" in group.reason
    (group,), _ = missed(wish, after=begin, until=until, own=until, counted=(Counted(), Counted(late=8)))
    assert group.reason.startswith("Temporal was down")


@settings(deadline=None, max_examples=examples(50))
@given(
    begin=MOMENTS,
    days=st.integers(0, 15),
    cron=st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 0 1 * *", "5 4 * * sun"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
def test_cron_times_lie_in_order_and_in_between(begin: datetime, days: int, cron: str, zone: str) -> None:
    end = begin + timedelta(days=days)
    found = between(cron, zone, begin, end)
    assert all(begin < each <= end for each in found.moments)
    assert all(one < other for one, other in pairwise(found.moments))
    assert len(found.moments) <= MOST
    middle = begin + (end - begin) / 2
    halves = between(cron, zone, begin, middle).moments + between(cron, zone, middle, end).moments
    assert found.more or halves == found.moments


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("@daily", "is not a plain cron expression"),
        ("@every 5m", "is not a plain cron expression"),
        ("CRON_TZ=UTC 0 9 * * *", "write the zone in timeZone"),
        ("0 0 9 * * *", "has 6 fields"),
        ("0 9 * *", "has 4 fields"),
        ("0 9 1 * mon", "both a day of month and a day of week"),
        ("5/15 * * * *", "'5/15' is not a valid minute"),
        ("0 9 L * *", "'l' is not a valid day of month"),
        ("0 9 * * 5#2", "'5#2' is not a valid day of week"),
        ("0 9 * * fri-mon", "Bad day-of-week"),
        ("5-5/2 * * * *", "is a range of one"),
        ("60 * * * *", "Bad minute"),
        ("0 0 30 2 *", "never occurs"),
        ("0 9 ? * *", "'?' is not a valid day of month"),
        ("*/0 * * * *", "Bad minute"),
    ],
)
def test_a_cron_that_would_be_read_in_two_ways_is_refused(cron: str, says: str) -> None:
    with pytest.raises(ValidationError, match=r"five fields|write") as caught:
        ScheduleSpec(cron=cron)
    assert says in str(caught.value)


def test_a_cron_is_kept_in_one_form() -> None:
    assert checked(" 0  10 * * MON-FRI ") == "0 10 * * mon-fri"
    assert ScheduleSpec(cron="0 10 * JAN *").cron == "0 10 * jan *"


def test_a_wrong_cron_is_named_by_its_line() -> None:
    text = """\
apiVersion: meshautopilot.io/v1alpha1
kind: MeshExperiment
metadata: {name: slow}
spec:
  target: {service: reviews}
  hypothesis: {probes: [{type: http, name: shop, url: "http://shop/"}]}
  method: [{hold: 1s, faults: [{fault: {type: delay, delay: 100ms}, scope: {percentage: 5}}]}]
  schedule:
    cron: "@daily"
"""
    with pytest.raises(SpecError, match=r"<text>:9:\d+: spec.schedule.cron"):
        load(text)
