"""Limits of what an operation says: whatever is told to it, what it tells must fit into a payload of Temporal (2 MB).

Everything here is pure, and the same for all kinds of operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from autopilot.operations.common import Caller, Command, Event
from autopilot.wire import Wire

TEXT = 1000
"""Characters of a reason."""
LINE = 1200
"""Characters of a line of the timeline: a reason, and what it is the reason of."""
NAME = 200
"""Characters of a caller's name."""
TIMELINE = 200_000
"""Bytes of all lines of a timeline, as JSON."""
WHOLE = 1_000_000
"""Bytes of a status or of a report, as JSON."""
SPEC = 400_000
"""Bytes of a specification, as JSON: it is part of the report, and of what each watch is told."""

_SAYING_SO = 55
"""Characters that it takes to say how much of a text is missing."""

C = TypeVar("C", bound=Command)
W = TypeVar("W", bound=Wire)


def cut(text: str, most: int = TEXT) -> str:
    """The text, or its beginning and how much is missing: together so many characters, so that it is cut once."""
    if len(text) <= most:
        return text
    kept = max(0, most - _SAYING_SO)
    return f"{text[:kept]}… ({len(text) - kept} more characters were left out)"


def bounded(command: C) -> C:
    """The command with texts of a limited length."""
    caller = command.caller
    if len(command.reason) <= TEXT and len(caller.who) <= NAME:
        return command
    named = Caller(who=cut(caller.who, NAME), verified=caller.verified)
    return command.model_copy(update={"reason": cut(command.reason), "caller": named})


class Timeline:
    """The lines of an operation, the first and the last of them where they are too many."""

    def __init__(self) -> None:
        self._lines: list[Event] = []
        self._sizes: list[int] = []
        self._size = 0
        self._number = 0
        self._left_out = 0
        self._last_left_out: Event | None = None

    def add(self, time: float, text: str, who: str = "") -> None:
        """One more line; a line that says what the last one says is left out."""
        text, who = cut(text, LINE), cut(who, NAME)
        if self._lines and (self._lines[-1].text, self._lines[-1].who) == (text, who):
            return
        self._number += 1
        line = Event(time=time, text=text, who=who, number=self._number)
        self._lines.append(line)
        self._sizes.append(len(line.model_dump_json().encode()) + 1)
        self._size += self._sizes[-1]
        while self._size > TIMELINE:
            at = len(self._lines) // 4
            self._last_left_out = self._lines.pop(at)
            self._size -= self._sizes.pop(at)
            self._left_out += 1

    def events(self) -> tuple[Event, ...]:
        """All lines in their order; one of them says where others were left out."""
        last = self._last_left_out
        if last is None:
            return tuple(self._lines)
        at = next((index for index, line in enumerate(self._lines) if line.number > last.number), len(self._lines))
        return (*self._lines[:at], left_out_line(self._left_out, last), *self._lines[at:])

    def last(self, number: int) -> tuple[Event, ...]:
        """The last lines: what is shown at every change must not take longer the more lines there are."""
        return tuple(self._lines[-number:])


def left_out_line(number: int, last: Event) -> Event:
    """The line that stands for so many others, in the place of the last of them."""
    return Event(time=last.time, text=f"… {number} lines were left out", number=last.number)


def news(events: Sequence[Event], last: Event | None) -> Sequence[Event]:
    """The lines after `last`, which may have been left out meanwhile.

    Numbers tell lines of the same moment apart. After a reset they begin again where it went back to, times do not.
    """
    if last is None:
        return events
    if last.number:
        return [event for event in events if event.number > last.number or event.time > last.time]
    for index in range(len(events) - 1, -1, -1):  # lines of an earlier version
        if events[index] == last:
            return events[index + 1 :]
    return [event for event in events if event.time > last.time]


def fitted(
    value: W, reductions: Iterable[tuple[str, Callable[[W], W]]], most: int = WHOLE
) -> tuple[W, tuple[str, ...]]:
    """The value as it fits into so many bytes of JSON, and what was left out for that.

    Args:
        value: a status or a report.
        reductions: what may be left out, in the order in which it is, and its name.
        most: bytes.
    """
    left_out: list[str] = []
    for name, reduce in reductions:
        if len(value.model_dump_json().encode()) <= most:
            break
        value = reduce(value)
        left_out.append(name)
    return value, tuple(left_out)
