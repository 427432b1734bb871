"""Cron expressions that mean one thing: to whoever writes them, to Temporal, and to us when we say what was missed.

Temporal reads the clock on the wall literally: a time that the change to summer time leaves out is left out, where
other crons move it. In the hour that the change back brings twice it starts a time once or twice, or leaves it out
(`autopilot.spec.values.clock_changes`), so nothing is counted there. And where both day of month and day of week are
given, Temporal wants both to match, cron one of the two. What would be read differently is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_EXAMPLE = "write five fields, for instance '0 10 * * mon-fri' (minute, hour, day of month, month, day of week)"
_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_TERM = re.compile(r"\*(/[0-9]{1,2})?|(?P<one>[0-9]{1,2}|[a-z]{3})(-([0-9]{1,2}|[a-z]{3})(/[0-9]{1,2})?)?")
_SHIFT = timedelta(hours=26)
"""More than any clock is set back at once, where a date line moves: walls may show what they showed before."""
MOST = 10_000
"""Times that are counted at the most: a week of an every-minute cron."""


class Times(NamedTuple):
    """Times at which a cron was due, and whether there are more than were counted."""

    moments: tuple[datetime, ...]
    more: bool


def checked(cron: str) -> str:
    """The expression as it is kept: in small letters, one blank between fields.

    Raises:
        ValueError: it is none, or Temporal and cron would read it differently; the message says what to write.
    """
    fields = cron.lower().split()
    if cron.startswith("@") or "=" in cron:
        raise ValueError(f"{cron!r} is not a plain cron expression; {_EXAMPLE}; write the zone in timeZone")
    if len(fields) != len(_FIELDS):
        raise ValueError(f"{cron!r} has {len(fields)} fields; {_EXAMPLE}")
    for name, field in zip(_FIELDS, fields, strict=True):
        _check_field(name, field)
    if fields[2] != "*" and fields[4] != "*":
        raise ValueError(
            f"{cron!r} has both a day of month and a day of week, which some crons combine with or and some with and; "
            "write * for one of them, and use windows for the rest"
        )
    kept = " ".join(fields)
    try:
        next(CronSim(kept, datetime(2000, 1, 1)))  # noqa: DTZ001 - the clock on a wall, in no zone
    except (CronSimError, StopIteration) as error:
        raise ValueError(
            f"{cron!r} never occurs, or is not a cron expression ({str(error) or 'no such day'}); {_EXAMPLE}"
        ) from error
    return kept


def _check_field(name: str, field: str) -> None:
    for term in field.split(","):
        if not _TERM.fullmatch(term):
            raise ValueError(
                f"{term!r} is not a valid {name}: write *, */5, 7, 1-5, 1-5/2, or several with commas; {_EXAMPLE}"
            )
        first, dash, rest = term.partition("-")
        if dash and first == rest.partition("/")[0]:
            raise ValueError(f"{term!r} is a range of one value: write {first}")


def between(cron: str, zone: str, after: datetime, until: datetime, most: int = MOST) -> Times:
    """When the cron was due after one moment and not after the other, in order, and as Temporal counts it.

    Of an hour that clocks show twice nothing is told.

    Args:
        cron: as `checked` keeps it.
        zone: whose clock it is read on.
        after: not included.
        until: included.
        most: times that are counted at the most; the first ones.
    """
    if after >= until:
        return Times((), more=False)
    where = ZoneInfo(zone)
    begin = after.astimezone(where).replace(tzinfo=None) - _SHIFT
    end = until.astimezone(where).replace(tzinfo=None) + _SHIFT
    moments = (_moment(wall, where) for wall in takewhile(lambda wall: wall <= end, CronSim(cron, begin)))
    due = (moment for moment in moments if moment is not None and after < moment <= until)
    found = tuple(islice(due, most + 1))
    return Times(found[:most], more=len(found) > most)


def _moment(wall: datetime, where: ZoneInfo) -> datetime | None:
    """When the clocks of a zone show this; None where they never do, or do twice."""
    first, second = (wall.replace(tzinfo=where, fold=fold).astimezone(UTC) for fold in (0, 1))
    shown = first.astimezone(where).replace(tzinfo=None) == wall
    return first if shown and first == second else None
