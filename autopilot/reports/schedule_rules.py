"""Whether a scheduled operation runs now: rules without a clock, so that any decision can be taken again on paper.

Whoever asks brings the facts (`Situation`); the answer is one `Decision` with its reason, in words for people. What no
run began for at all is told afterwards, by `missed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

from autopilot.reports.schedule import (
    Counted,
    Decision,
    Missed,
    Pause,
    Running,
    Situation,
)
from autopilot.spec.chaos.schedule import WEEKDAYS, Day, Freeze, ScheduleSpec, Window
from autopilot.spec.values.clock_changes import clock_changes, just_set_back, shown_before
from autopilot.spec.values.cron import between
from autopilot.spec.values.units import format_seconds

_DAYS: tuple[Day, ...] = (*WEEKDAYS, "sat", "sun")
_PROMPT = 5.0
"""Seconds that lie between a cron's time and its run where nothing is late."""
_AHEAD = timedelta(days=366)
"""How far changes of clocks are told in advance: each that there is in a year."""
MOST_MISSED = 50
"""Groups of missed runs that one record lists at the most."""


def decide(spec: ScheduleSpec, seen: Situation) -> Decision:
    """What is to happen now; the first reason against a start is the one that is given."""
    against = _again(spec, seen) or _too_late(spec, seen) or _frozen(spec, seen) or _outside(spec, seen) or seen.refused
    if against:
        return Decision(kind="skip", reason=against)
    if seen.running is not None:
        return _overlapping(spec, seen, seen.running)
    return Decision(kind="start", reason=_begins(spec, seen))


def _again(spec: ScheduleSpec, seen: Situation) -> str:
    """Why the second of two times that clocks show alike is none of the cron's; nothing where the first had no run."""
    if seen.hand is not None or seen.told is None:
        return ""
    due = datetime.fromtimestamp(seen.scheduled, UTC)
    first = shown_before(due, spec.time_zone)
    if first is None or seen.told < first.timestamp():
        return ""
    local = due.astimezone(ZoneInfo(spec.time_zone))
    return (
        f"{local:%H:%M} comes twice on {local:%Y-%m-%d} in {spec.time_zone}, when clocks are set back, and an earlier "
        "run has dealt with the first"
    )


def _too_late(spec: ScheduleSpec, seen: Situation) -> str:
    """Why the run is not caught up. A run that waited in turn is not late; one that a person asked for yesterday is."""
    late = seen.now - seen.scheduled - (0.0 if seen.hand else spec.jitter)
    if seen.waited is not None or late <= spec.catch_up + _PROMPT:
        return ""
    return (
        f"{_span(late)} late, because Temporal or all workers were down; "
        f"runs are caught up for at most {_span(spec.catch_up)} (schedule.catchUp)"
    )


def _frozen(spec: ScheduleSpec, seen: Situation) -> str:
    now = datetime.fromtimestamp(seen.now, UTC)
    if ordered := _freeze(seen.frozen, now.date()):
        return (
            f"{_days(ordered)} (UTC) are frozen for the whole mesh (spec.chaos.freeze of the mesh "
            f"file){_because(ordered.reason)}"
        )
    own = _freeze(spec.freeze, now.astimezone(ZoneInfo(spec.time_zone)).date())
    if own is None or (seen.hand is not None and seen.hand.force):
        return ""
    return f"{_days(own)} are frozen (schedule.freeze){_because(own.reason)}"


def _freeze(freezes: Sequence[Freeze], day: date) -> Freeze | None:
    return next((freeze for freeze in freezes if freeze.start <= day <= freeze.end), None)


def _days(freeze: Freeze) -> str:
    return f"{freeze.start} to {freeze.end}"


def _outside(spec: ScheduleSpec, seen: Situation) -> str:
    if seen.hand is not None or not spec.windows:
        return ""
    local = datetime.fromtimestamp(seen.now, ZoneInfo(spec.time_zone))
    if any(_inside(window, local) for window in spec.windows):
        return ""
    windows = "; ".join(f"{', '.join(window.days)} {window.start}-{window.end}" for window in spec.windows)
    return f"{_DAYS[local.weekday()]} {local:%H:%M} {spec.time_zone} is outside the schedule's windows ({windows})"


def _inside(window: Window, local: datetime) -> bool:
    """From `start` on, and before `end`."""
    return _DAYS[local.weekday()] in window.days and window.start <= f"{local:%H:%M}" < window.end


def _overlapping(spec: ScheduleSpec, seen: Situation, before: Running) -> Decision:
    ours = before.schedule == seen.schedule
    its = before.workflow_id if ours else f"{before.workflow_id} (not of this schedule)"
    age = f"{its} has been running for {_span(seen.now - before.since)}"
    if seen.waited is not None:
        return Decision(
            kind="skip", reason=f"waited {_span(seen.waited)}, and {its} was still running, or running again"
        )
    match spec.overlap:
        case "skip":
            return Decision(kind="skip", reason=f"{age} (schedule.overlap: skip)")
        case "cancelOther" if not ours:
            return Decision(kind="skip", reason=f"{age}: a schedule aborts only its own runs")
        case _ if seen.waiting:
            return Decision(kind="skip", reason=f"{age}, and {seen.waiting} already waits for it")
        case "queue":
            return Decision(kind="wait", reason=f"{age}; waiting for its end")
        case "cancelOther":
            return Decision(kind="replace", reason=f"{age}; aborting it first")


def _begins(spec: ScheduleSpec, seen: Situation) -> str:
    if seen.hand is not None:
        return f"asked for by {seen.hand.caller.who}{_because(seen.hand.reason)}"
    if seen.waited is not None:
        return f"the previous run has ended after a wait of {_span(seen.waited)}"
    late = seen.now - seen.scheduled - spec.jitter
    return f"caught up, {_span(late)} late" if late > _PROMPT else "due"


def clock_notes(spec: ScheduleSpec, now: datetime) -> list[str]:
    """Cron times of the next year that clocks show never or twice: a sentence for each day. Outside windows nothing."""
    found = []
    for change in clock_changes(spec.cron, spec.time_zone, now, now + _AHEAD):
        inside = tuple(
            wall for wall in change.walls if not spec.windows or any(_inside(window, wall) for window in spec.windows)
        )
        if inside:
            found.append(change._replace(walls=inside).words(spec.time_zone))
    return found


def missed(
    spec: ScheduleSpec,
    *,
    after: float,
    until: float,
    own: float,
    pauses: Sequence[Pause] = (),
    waited: str = "",
    counted: tuple[Counted, Counted] | None = None,
) -> tuple[tuple[Missed, ...], bool]:
    """The times in a span at which the cron was due but no run began, each with the reason.

    Args:
        spec: the schedule.
        after: up to here, and with it, all is told; seconds since the epoch.
        until: the last moment that is looked at.
        own: the moment that the run who asks is for.
        pauses: of the schedule.
        waited: what waited all the while, where something did.
        counted: what Temporal had counted at `after`, and at `until`; None where that is not known.

    Returns:
        Groups in order, each of one reason, at most `MOST_MISSED`; and whether there are more.
    """
    first, last = datetime.fromtimestamp(after, UTC), datetime.fromtimestamp(until, UTC)
    due = between(spec.cron, spec.time_zone, first, last)
    times = [seconds for moment in due.moments if (seconds := moment.timestamp()) != own]
    why = f"{waited} was already waiting" if waited else _unheard(spec, counted)
    groups = []
    for reason, members in groupby(times, key=_reasons(spec.time_zone, pauses, why, counted)):
        moments = list(members)
        groups.append(Missed(first=moments[0], last=moments[-1], count=len(moments), reason=reason))
    return tuple(groups[:MOST_MISSED]), due.more or len(groups) > MOST_MISSED


def _reasons(
    zone: str, pauses: Sequence[Pause], otherwise: str, counted: tuple[Counted, Counted] | None
) -> Callable[[float], str]:
    away = counted is not None and counted[0] != counted[1]

    def reason(moment: float) -> str:
        for pause in pauses:
            if pause.since <= moment and (pause.until is None or moment < pause.until):
                return f"the schedule was paused{_because(pause.reason)}"
        if not away and just_set_back(datetime.fromtimestamp(moment, UTC), zone):
            return (
                f"clocks of {zone} had just been set back, after which Temporal leaves out times for up to two hours; "
                f"or {otherwise}"
            )
        return otherwise

    return reason


def _unheard(spec: ScheduleSpec, counted: tuple[Counted, Counted] | None) -> str:
    """Why Temporal started no run, from its own counters."""
    away = f"Temporal was down for longer than {_span(spec.catch_up)} (schedule.catchUp)"
    dropped = (
        "the previous run had not started: Temporal or all workers were down, and only one missed run is caught up"
    )
    if counted is None:
        return "Temporal was down, or the schedule was paused in Temporal itself"
    before, now = counted
    match now.late > before.late, now.dropped > before.dropped:
        case True, False:
            return away
        case False, True:
            return dropped
        case True, True:
            return f"{away}, or {dropped}"
        case _:
            return "the schedule was paused, or changed, in Temporal itself"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _span(seconds: float) -> str:
    return format_seconds(max(0, round(seconds)))
