"""The units people write (`30s`, `0.1%`) and the plain numbers the rest of the house computes with.

A number without a unit means the same in every field, or is refused: a duration is in seconds; a share is a fraction
below 1 and a percentage from 1 on. What could be read as both is refused where a file is read. Between our own
processes (`WRITTEN` is not in the context of a validation) it is taken as it is, for there it has been read already.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from autopilot.spec.input_safety.credentials import redacted

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = r"\d{1,15}(?:\.\d{1,15})?"
_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)", re.ASCII)
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)

_LONGEST_NUMBER = 64
"""Characters: longer text is no number, and would only keep patterns busy."""

WRITTEN: Final = {"written": True}
"""Context of a validation of what a person wrote."""

EXPLAINED: dict[str, str] = {}
"""What the patterns of text fields mean in words, for messages: pattern → what to write."""


def explained(pattern: str, words: str) -> str:
    """Remembers what a pattern means, and returns the pattern."""
    EXPLAINED[pattern] = words
    return pattern


def refuse_bool(value: object) -> object:
    """Keeps `true` from being read as the number 1.

    Raises:
        ValueError: the value is a truth value.
    """
    if isinstance(value, bool):
        raise ValueError(f"expects a number, got {str(value).lower()}")  # noqa: TRY004 - pydantic catches ValueError
    return value


def parse_seconds(value: object) -> object:
    """Turns `1m30s`, `250ms` or a number of seconds into seconds; leaves other types to pydantic.

    Raises:
        ValueError: text that is no duration.
    """
    if not isinstance(value, str):
        return refuse_bool(value)
    text = value.strip()
    if re.fullmatch(_NUMBER, text, re.ASCII):
        return float(text)
    if not text or len(text) > _LONGEST_NUMBER or _PART.sub("", text):
        raise ValueError(f"{shown(value)} is not a duration; write for instance 250ms, 30s, 1m30s or 2h")
    return math.fsum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def parse_fraction(value: object) -> object:
    """Turns `0.1%` into 0.001; a plain number is taken as the fraction it is.

    Raises:
        ValueError: text that is neither a percentage nor a number, or a number above 1 without a percent sign.
    """
    if isinstance(value, str):
        text = value.strip()
        number = text.removesuffix("%").rstrip()
        if len(number) > _LONGEST_NUMBER or not _PLAIN.fullmatch(number):
            raise ValueError(f"{shown(value)} is not a share; write for instance 99.5% or 0.995")
        if text.endswith("%"):
            return float(number) / 100
        value = float(number)
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 < value <= 100:
        raise ValueError(f"{value:g} is above 1; for a percentage write {value:g}%")
    return refuse_bool(value)


def parse_percent(value: object) -> object:
    """Turns `10%` into 10; a plain number is percent already.

    Raises:
        ValueError: text that is neither.
    """
    if not isinstance(value, str):
        return refuse_bool(value)
    number = value.strip().removesuffix("%").rstrip()
    if len(number) > _LONGEST_NUMBER or not _PLAIN.fullmatch(number):
        raise ValueError(f"{shown(value)} is not a percentage; write for instance 10 or 12.5%")
    return float(number)


def read_fraction(value: object, info: ValidationInfo) -> object:
    """Reads a share; where a person wrote it, 1 needs its unit.

    Raises:
        ValueError: as `parse_fraction`, or it can be read as 1 % and as 100 %.
    """
    if is_written(info) and _bare(value) == 1:
        raise ValueError(f"{shown(value)} can be read as 1 % and as 100 %; write 1% or 100%")
    return parse_fraction(value)


def read_percent(value: object, info: ValidationInfo) -> object:
    """Reads a percentage; where a person wrote it, one below 1 needs its sign.

    Raises:
        ValueError: as `parse_percent`, or it can be read as a percentage and as a fraction.
    """
    bare = _bare(value)
    if is_written(info) and bare is not None and 0 < bare < 1:
        percent, fraction = f"{bare:.15g}", f"{bare * 100:.15g}"
        raise ValueError(
            f"{shown(value)} can be read as {percent} % and as {fraction} %; write {percent}% or {fraction}%"
        )
    return parse_percent(value)


def is_written(info: ValidationInfo) -> bool:
    """Whether what is validated was written by a person, and not by one of our processes."""
    return bool((info.context or {}).get("written"))


def _bare(value: object) -> int | float | None:
    """The number, where it has no unit; text that is no number is for others to refuse."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and _PLAIN.fullmatch(value.strip()):
        return float(value)
    return None


def finest(step: float, what: str, *, whole: bool = False) -> AfterValidator:
    """Refuses, where a person wrote it, a percentage that is rounded to nothing.

    Args:
        step: the smallest that has an effect, in percent.
        what: what cannot tell smaller ones apart, for the message.
        whole: whether the rest up to 100 % must not be rounded to nothing either.
    """

    def check(value: float, info: ValidationInfo) -> float:
        if not is_written(info):
            return value
        if 0 < value < step:
            raise ValueError(
                f"is {value:.15g} %, which is rounded to nothing: {what} in steps of {step:g} %; "
                f"write {step:g}% or more"
            )
        if whole and 100 - step < value < 100:
            raise ValueError(
                f"is {value:.15g} %, and the rest is rounded to nothing: {what} in steps of {step:g} %; "
                f"write {100 - step:g}% or less, or 100"
            )
        return value

    return AfterValidator(check)


def format_seconds(seconds: float) -> str:
    """Writes a duration the way people would: `250ms`, `30s`, `1m30s`, `2h`; exact to the microsecond."""
    micros = round(seconds * 1_000_000)
    if 0 < micros < 1_000_000:
        return _decimal(micros, 3) + "ms"
    parts = []
    for unit in ("d", "h", "m"):
        count, micros = divmod(micros, round(_UNITS[unit] * 1_000_000))
        if count:
            parts.append(f"{count}{unit}")
    if micros or not parts:
        parts.append(_decimal(micros, 6) + "s")
    return "".join(parts)


def _decimal(number: int, digits: int) -> str:
    whole, rest = divmod(number, 10**digits)
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".")


_LOOKED_AT = 8192


def listed(names: Iterable[str], limit: int = 20) -> str:
    """Names for a message, cut where there are many."""
    known = list(names)
    return ", ".join(known[:limit]) + (f" and {len(known) - limit} more" if len(known) > limit else "")


def shown(value: object, limit: int = 60) -> str:
    """What the user wrote, quoted, cut where it is long, and without credentials."""
    if isinstance(value, str):
        value = redacted(value[:_LOOKED_AT])  # before it is cut: half a credential is not recognised
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


Number = Annotated[float, BeforeValidator(refuse_bool), Field(allow_inf_nan=False)]
"""A finite number."""

Count = Annotated[int, BeforeValidator(refuse_bool)]
"""A whole number."""

Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(ge=0, le=366 * 86400, allow_inf_nan=False)]
"""A duration in seconds."""

Fraction = Annotated[float, BeforeValidator(read_fraction), Field(ge=0, le=1, allow_inf_nan=False)]
"""A share between 0 and 1."""

Percent = Annotated[float, BeforeValidator(read_percent), Field(ge=0, le=100, allow_inf_nan=False)]
"""A percentage, 0 to 100."""

Hundredth = Annotated[float, BeforeValidator(parse_percent), Field(ge=0, le=100, allow_inf_nan=False)]
"""A percentage, one of several that add up to 100: so 0.5 can only be half a percent."""

Name = Annotated[
    str,
    Field(
        pattern=explained(
            r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
            "a name: lower-case letters, digits and dashes, at most 63, with a letter or digit at both ends",
        )
    ),
]
"""A DNS label, as Kubernetes wants names to be."""
