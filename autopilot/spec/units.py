"""The units people write (`30s`, `0.1%`) and the plain numbers the rest of the house computes with."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parse_seconds(value: object) -> object:
    """Turns `1m30s`, `250ms` or a number of seconds into seconds; leaves other types to pydantic.

    Raises:
        ValueError: text that is no duration.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    if not text or _PART.sub("", text):
        raise ValueError(f"{value!r} is no duration; write for instance 250ms, 30s, 1m30s or 2h")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def parse_fraction(value: object) -> object:
    """Turns `0.1%` into 0.001; a plain number is taken as the fraction it is.

    Raises:
        ValueError: text that is neither a percentage nor a number.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(f"{value!r} is no share; write for instance 99.5% or 0.995") from None


def format_seconds(seconds: float) -> str:
    """Writes a duration the way people would: `250ms`, `30s`, `1m30s`, `2h`."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    whole, parts = round(seconds, 3), []
    for unit in ("d", "h", "m"):
        count, whole = divmod(whole, _UNITS[unit])
        if count:
            parts.append(f"{count:g}{unit}")
    if whole or not parts:
        parts.append(f"{round(whole, 3):g}s")
    return "".join(parts)


Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(ge=0, le=366 * 86400, allow_inf_nan=False)]
"""A duration in seconds."""

Fraction = Annotated[float, BeforeValidator(parse_fraction), Field(ge=0, le=1, allow_inf_nan=False)]
"""A share between 0 and 1."""

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
"""A traffic weight in percent, 0 to 100."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""A DNS label, as Kubernetes wants names to be."""
