"""Cron times that clocks never show, or show twice: told before a schedule is made, for months may lie in between.

Temporal starts nothing for a time that the change to summer time leaves out. Of an hour that the change back brings
twice it starts some times once and some twice, and leaves some out, by rules that depend on the zone (*measured* on
thirteen zones): runs see to it that each such time gets one run at the most.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim

_STEP = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)
_AFTER = timedelta(hours=2)
"""After clocks were set back, Temporal may leave out times for so long."""


class ClockChange(NamedTuple):
    """Cron times that one change of clocks concerns."""

    walls: tuple[datetime, ...]
    """What clocks show, in order; without a zone."""
    twice: bool
    """Whether clocks show them twice; else never."""

    def words(self, zone: str) -> str:
        """What becomes of their runs, in one sentence."""
        first, last, one = self.walls[0], self.walls[-1], len(self.walls) == 1
        times = f"{first:%H:%M}" if one else f"{first:%H:%M} to {last:%H:%M} ({len(self.walls)} cron times)"
        where = f"on {first:%Y-%m-%d} in {zone}"
        if self.twice:
            runs = "the cron runs once" if one else "each gets one run at the most"
            return f"{times} {'comes' if one else 'come'} twice {where}, when clocks are set back: {runs}"
        runs = "the run of that day is skipped" if one else "their runs are skipped"
        return f"{times} {'does' if one else 'do'} not exist {where}, when clocks are set forward: {runs}"


def clock_changes(cron: str, zone: str, after: datetime, until: datetime) -> list[ClockChange]:
    """The changes of clocks in a span that concern times of a cron, in order.

    Args:
        cron: as `autopilot.spec.values.cron.checked` keeps it.
        zone: whose clock it is read on.
        after: begin of the span.
        until: its end.
    """
    found = []
    for moment, forward in _changes(ZoneInfo(zone), after, until):
        wall = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        begin, end = (wall - forward, wall) if forward > timedelta(0) else (wall, wall - forward)
        walls = []
        for due in CronSim(cron, begin - _MINUTE):
            if due >= end:
                break
            walls.append(due)
        if walls:
            found.append(ClockChange(tuple(walls), twice=forward < timedelta(0)))
    return found


def shown_before(moment: datetime, zone: str) -> datetime | None:
    """When clocks showed for the first time what they show for the second time at this moment; None where they do not.

    Args:
        moment: with a zone.
        zone: whose clocks.
    """
    local = moment.astimezone(ZoneInfo(zone))
    return local.replace(fold=0).astimezone(UTC) if local.fold else None


def just_set_back(moment: datetime, zone: str) -> bool:
    """Whether clocks show something for the second time at this moment, or did shortly before it, or are about to."""
    where = ZoneInfo(zone)
    offsets = [(moment + shift).astimezone(where).utcoffset() or timedelta(0) for shift in (-_AFTER, timedelta(0))]
    return offsets[1] < offsets[0]


def _changes(where: ZoneInfo, after: datetime, until: datetime) -> Iterator[tuple[datetime, timedelta]]:
    """Each change of the zone's offset: the first moment with the new one, and how far clocks are set forward."""
    moment = after.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    offset = moment.astimezone(where).utcoffset() or timedelta(0)
    while moment < until:
        following = moment + _STEP
        changed = following.astimezone(where).utcoffset() or timedelta(0)
        if changed != offset:
            exact = moment
            while (exact.astimezone(where).utcoffset() or timedelta(0)) == offset:
                exact += _MINUTE
            yield exact, changed - offset
        moment, offset = following, changed
