"""Limits of what an operation says: whatever is told to it, what it tells must fit into a payload of Temporal (2 MB).

Everything here is pure, and the same for all kinds of operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from autopilot.operations.common import Caller, Command, Event, Wire

TEXT = 1000
"""Characters of a reason, or of a line of the timeline."""
NAME = 200
"""Characters of a caller's name."""
TIMELINE = 200_000
"""Characters of all lines of a timeline."""
WHOLE = 1_000_000
"""Bytes of a status or of a report, as JSON."""

C = TypeVar("C", bound=Command)
W = TypeVar("W", bound=Wire)


def cut(text: str, most: int = TEXT) -> str:
    """The text, or its beginning and how much is missing."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… ({len(text) - most} more characters were left out)"


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
        self._size = 0
        self._left_out = 0

    def add(self, time: float, text: str, who: str = "") -> None:
        """One more line; a line that says what the last one says is left out."""
        text, who = cut(text), cut(who, NAME)
        if self._lines and (self._lines[-1].text, self._lines[-1].who) == (text, who):
            return
        self._lines.append(Event(time=time, text=text, who=who))
        self._size += len(text)
        while self._size > TIMELINE:
            self._size -= len(self._lines.pop(len(self._lines) // 4).text)
            self._left_out += 1

    def events(self) -> tuple[Event, ...]:
        """All lines in their order; one of them says where others were left out."""
        if not self._left_out:
            return tuple(self._lines)
        at = len(self._lines) // 4
        left = Event(time=self._lines[at].time, text=f"… {self._left_out} lines were left out")
        return (*self._lines[:at], left, *self._lines[at:])


def news(events: Sequence[Event], last: Event | None) -> Sequence[Event]:
    """The lines after `last`, which may have been left out meanwhile."""
    if last is None:
        return events
    for index in range(len(events) - 1, -1, -1):
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
