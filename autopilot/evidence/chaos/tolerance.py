"""Whether a value is what a probe's tolerance asks for: True, False, or None where there is nothing to judge.

* A truth value is no number: `true` does not equal 1, and is neither above nor below anything.
* Text that is a number (`"3"`, a program's output) compares as one with numbers; all else compares as text, the way
  JSON writes it.
* NaN, an infinite number, null, and a path that leads nowhere are nothing to judge: they neither hold nor do not.

Paths are a small part of JSONPath, each leading to one value: `status.phase`, `items[0].name`, `items[-1]` (the last),
`metadata.labels["app.kubernetes.io/name"]`, and `status.conditions[type=Available].status` (the first element whose
`type` reads so). A leading `$` or `$.` may be written.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final

from autopilot.spec.chaos.tolerance import PATH_STEP, Tolerance
from autopilot.spec.values.units import shown

LONGEST: Final = 100_000
"""Characters of a text that `regex` and `contains` look at."""

_LONGEST_NUMBER = 400
_SHOWN = 100
_BACKTRACKS = frozenset("*+?{|")


class Nothing:
    """There is no value, and why."""

    def __init__(self, why: str) -> None:
        self.why = why


def holds(tolerance: Tolerance, value: object, *, matched: bool | None = None) -> tuple[bool | None, str]:
    """Judges one value.

    Args:
        tolerance: everything that is written in it must hold.
        value: what was found; text is read as JSON where the tolerance has a `jsonpath`.
        matched: whether `regex` was found, by whoever has searched `text_of(found(...))` already: some expressions
            take for ever, and a search in this process cannot be stopped. None: it is searched here.

    Returns:
        Whether it holds, None where there is nothing to judge; and why it is not True, with the value shown, cut and
        without credentials.
    """
    there = found(tolerance, value)
    if isinstance(there, Nothing):
        return None, there.why
    wrong = _wrong(tolerance, there, matched)
    return (False, wrong) if wrong else (True, "")


def found(tolerance: Tolerance, value: object) -> object:
    """The value that is judged: the one the path leads to; `Nothing` where there is none."""
    if tolerance.jsonpath is not None:
        value = _followed(tolerance.jsonpath, value)
    if value is None:
        where = f"{tolerance.jsonpath} is null" if tolerance.jsonpath else "there is no value to check"
        return Nothing(where)
    if _no_finite_number(value):
        return Nothing(f"{readable(value)} is not a finite number")
    return value


def text_of(value: object) -> str:
    """A value as text, the way JSON writes it; text is itself. Cut at `LONGEST`."""
    if isinstance(value, bytes | bytearray):
        text = bytes(value[: 4 * LONGEST]).decode("utf-8", "replace")
    elif isinstance(value, str):
        text = value
    elif isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        text = str(int(value))
    else:
        try:
            text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
        except (TypeError, ValueError, RecursionError):
            text = repr(value)
    return text[:LONGEST]


def readable(value: object) -> str:
    """A value for people, cut and without credentials."""
    if isinstance(value, bool | int | float):
        return text_of(value)[:_SHOWN]
    return shown(text_of(value), _SHOWN)


def may_backtrack(pattern: str) -> bool:
    """Whether a search for the expression may take more than a moment: all that repeats or chooses may."""
    return not _BACKTRACKS.isdisjoint(pattern)


def _wrong(tolerance: Tolerance, value: object, matched: bool | None) -> str:
    """The first thing that does not hold; empty where all does."""
    for wrong in (
        _not_equal(tolerance, value),
        _out_of_bounds(tolerance, value),
        _not_in_text(tolerance, value, matched),
    ):
        if wrong:
            return wrong
    return ""


def _not_equal(tolerance: Tolerance, value: object) -> str:
    if tolerance.equals is not None and not _same(tolerance.equals, value):
        return f"{readable(value)} is not {readable(tolerance.equals)}"
    if tolerance.one_of is not None and not any(_same(each, value) for each in tolerance.one_of):
        return f"{readable(value)} is not one of {', '.join(readable(each) for each in tolerance.one_of[:10])}"
    return ""


def _out_of_bounds(tolerance: Tolerance, value: object) -> str:
    if tolerance.min is None and tolerance.max is None:
        return ""
    number = _number(value)
    if number is None:
        return f"{readable(value)} is not a number"
    if tolerance.min is not None and number < tolerance.min:
        return f"{_beside(value, number, tolerance.min)} is below {readable(tolerance.min)}"
    if tolerance.max is not None and number > tolerance.max:
        return f"{_beside(value, number, tolerance.max)} is above {readable(tolerance.max)}"
    return ""


def _beside(value: object, number: float, bound: float) -> str:
    """The value as it is read beside a bound: six digits, or all that it has where these would be the bound's own."""
    rounded = float(f"{number:.6g}")
    return readable(rounded if isinstance(value, float) and rounded != bound else value)


def _not_in_text(tolerance: Tolerance, value: object, matched: bool | None) -> str:
    if tolerance.regex is not None:
        if matched is None:
            matched = re.search(tolerance.regex, text_of(value)) is not None
        if not matched:
            return f"{shown(tolerance.regex)} is not found in {readable(value)}"
    if tolerance.contains is not None and tolerance.contains not in text_of(value):
        return f"{shown(tolerance.contains)} is not in {readable(value)}"
    return ""


def _same(wanted: str | float | bool, value: object) -> bool:
    """Equality as people mean it; see the module."""
    if isinstance(wanted, bool):
        return value is wanted if isinstance(value, bool) else text_of(value).strip() == text_of(wanted)
    if isinstance(wanted, str):
        return text_of(value) == wanted
    number = _number(value)
    return number is not None and number == wanted


def _number(value: object) -> float | None:
    """The value as a number; None where it is none. A truth value is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and "_" not in value:
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _no_finite_number(value: object) -> bool:
    number = _number(value)
    return isinstance(number, float) and not math.isfinite(number)


def _followed(path: str, value: object) -> object:
    """What a path leads to in JSON."""
    if isinstance(value, str | bytes | bytearray):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return Nothing(f"{readable(value)} is not JSON, so {path} selects nothing")
    for step in re.findall(PATH_STEP, path.removeprefix("$")):
        value = _step(step, value)
        if value is _ABSENT:
            return Nothing(f"{path} selects nothing: the value has no {step.removeprefix('.')}")
    return value


_ABSENT: Final = object()


def _step(step: str, value: object) -> object:
    if not step.startswith("["):
        return _member(value, step.removeprefix("."))
    inner = step[1:-1]
    if inner[0] in "\"'":
        return _member(value, inner[1:-1])
    if not isinstance(value, list):
        return _ABSENT
    key, equals, wanted = inner.partition("=")
    if equals:
        matching = (each for each in value if isinstance(each, dict) and key in each and text_of(each[key]) == wanted)
        return next(matching, _ABSENT)
    index = int(inner)
    return value[index] if -len(value) <= index < len(value) else _ABSENT


def _member(value: object, name: str) -> object:
    return value.get(name, _ABSENT) if isinstance(value, dict) else _ABSENT
