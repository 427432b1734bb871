"""When an experiment runs by itself, and when it must not."""

from __future__ import annotations

import zoneinfo
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from autopilot.spec.base import Misplaced, SpecModel
from autopilot.spec.values.cron import checked
from autopilot.spec.values.units import Seconds, explained

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri")

Clock = Annotated[str, Field(pattern=explained(r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$", "a time of day: 09:00"))]


def _known_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{name!r} is not a time zone; write for instance Europe/Berlin or UTC") from error
    return name


TimeZone = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_known_zone)]
Cron = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(checked)]


class Window(SpecModel):
    """Hours in which it may run, in the schedule's time zone; outside them a run is skipped, and says so."""

    days: Annotated[tuple[Day, ...], Field(min_length=1, max_length=7)] = WEEKDAYS
    start: Clock = "09:00"
    end: Clock = "17:00"

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.start >= self.end:
            raise Misplaced(f"is {self.end}, not after {self.start}", at=("end",), hint="split it at midnight")
        return self


class Freeze(SpecModel):
    """Days on which nothing runs, both included."""

    start: date
    end: date
    reason: Annotated[str, Field(max_length=200)] = ""

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.end < self.start:
            raise Misplaced(f"{self.end} is before {self.start}", at=("end",))
        return self


class ScheduleSpec(SpecModel):
    """Recurring runs. What would run at a bad moment is skipped with its reason, never caught up with in a storm."""

    cron: Cron
    """Five fields: minute, hour, day of month, month, day of week."""
    time_zone: TimeZone = "UTC"
    windows: Annotated[tuple[Window, ...], Field(max_length=20)] = ()
    """None: at any time."""
    jitter: Annotated[Seconds, Field(le=86400)] = 0.0
    """Maximum random delay of a run after its cron time."""
    overlap: Literal["skip", "queue", "cancelOther"] = "skip"
    """What to do while the previous run goes on: skip this one, wait for its end (at most one waits), or abort it."""
    catch_up: Annotated[Seconds, Field(ge=10, le=3600)] = 300.0
    """A run that Temporal could not start in time is caught up within this time, and skipped later."""
    pause_on_failure: bool = True
    """A run that refutes its hypothesis pauses the schedule, until a person resumes it."""
    freeze: Annotated[tuple[Freeze, ...], Field(max_length=100)] = ()
