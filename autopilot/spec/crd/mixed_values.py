"""Values that may be one of several JSON types, in a language without unions.

A schema without a type takes anything; but `pattern` and `maxLength` look at text alone, `minimum` at numbers,
`maxItems` at lists, `maxProperties` at fields. So each type that may not stand there is ruled out by a keyword of its
own. The price: CEL rules cannot read what has no type (`hidden`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from autopilot.spec.chaos.faults import GRPC_CODES
from autopilot.spec.values.arms import read_arm
from autopilot.spec.values.units import (
    format_seconds,
    parse_percent,
    parse_seconds,
    read_fraction,
    read_percent,
    refuse_bool,
)

Schema = dict[str, Any]

UNTYPED: Final = "x-kubernetes-preserve-unknown-fields"
RULES: Final = "x-kubernetes-validations"

_NONE_OF_THEM: Final[dict[str, tuple[Schema, tuple[Any, ...]]]] = {
    "text": ({"maxLength": 0}, ("",)),
    "number": ({"minimum": 1, "maximum": 0}, ()),
    "truth": ({}, (True, False)),
    "fields": ({"maxProperties": 0}, ({},)),
    "list": ({"maxItems": 0}, ([],)),
}
"""What rules out every value of a type: keywords, and what is left beside them."""

_UP_TO_1 = r"1(\.0*)?|0(\.[0-9]*)?|\.[0-9]+"
_UP_TO_100 = r"100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?|\.[0-9]+"
_TIME = r"[0-9]{1,15}(\.[0-9]{1,15})?"


@dataclass(frozen=True, slots=True)
class Unit:
    """How people write a number that has a unit."""

    pattern: str
    """What text may be: a regular expression that RE2, Python and JavaScript read alike."""
    longest: int
    """Characters, blanks around it included."""
    note: str
    """For descriptions."""
    written: Callable[[float], str]
    """A number in the unit, for descriptions."""


SECONDS: Final = Unit(
    pattern=rf"^\s*({_TIME}|({_TIME}(ms|s|m|h|d))+)\s*$",
    longest=80,
    note="A duration: 250ms, 30s, 1m30s, 2h, or a number of seconds.",
    written=format_seconds,
)
FRACTION: Final = Unit(
    pattern=rf"^\s*[+]?0*(({_UP_TO_1})|({_UP_TO_100})\s*%)\s*$",
    longest=80,
    note="A share: 0.1% or 0.001.",
    written=lambda share: f"{share * 100:g}%",
)
PERCENT: Final = Unit(
    pattern=rf"^\s*[+]?0*({_UP_TO_100})\s*%?\s*$",
    longest=80,
    note="Percent: 10, 12.5 or 12.5%; below 1 with the sign: 0.5%.",
    written=lambda percent: f"{percent:g}",
)


def only(*kinds: str) -> Schema:
    """A schema without a type that refuses every JSON type but these (text, number, truth, fields, list)."""
    schema: Schema = {UNTYPED: True}
    left: list[Any] = []
    for kind, (keywords, values) in _NONE_OF_THEM.items():
        if kind not in kinds:
            schema |= keywords
            left += values
    return schema | {"not": {"enum": left}}


def number_or_text(unit: Unit, number: Schema) -> Schema:
    """A number within the limits of `number`, or text of the unit."""
    limits = {key: value for key, value in number.items() if key != "type"}
    return limits | {"pattern": unit.pattern, "maxLength": unit.longest} | only("number", "text")


def number_or_name(names: Collection[str], number: Schema) -> Schema:
    """A number within the limits of `number`, or one of these names, in capitals or not."""
    limits = {key: value for key, value in number.items() if key not in {"type", "format"}}
    said = {"pattern": f"(?i)^({'|'.join(names)})$", "maxLength": max(map(len, names))}
    return limits | said | only("number", "text")


def truth_or_fields(fields: Schema) -> Schema:
    """`true`, `false`, or the fields."""
    return {key: value for key, value in fields.items() if key != "type"} | only("truth", "fields")


def text_or_fields(text: Schema, fields: Schema) -> Schema:
    """Text within the limits of `text`, or the fields."""
    limits = {key: value for key, value in text.items() if key not in {"type", "description"}}
    return {key: value for key, value in fields.items() if key != "type"} | limits | only("text", "fields")


UNITS: Final[dict[str, Unit]] = {
    parse_seconds.__name__: SECONDS,
    read_fraction.__name__: FRACTION,
    read_percent.__name__: PERCENT,
    parse_percent.__name__: PERCENT,
}
"""By the function that reads it."""

READERS: Final[dict[str, Callable[[Schema], Schema]]] = {
    parse_seconds.__name__: lambda number: number_or_text(SECONDS, number),
    read_fraction.__name__: lambda number: number_or_text(FRACTION, number),
    read_percent.__name__: lambda number: number_or_text(PERCENT, number),
    parse_percent.__name__: lambda number: number_or_text(PERCENT, number),
    refuse_bool.__name__: lambda number: number,  # a type says as much
    read_arm.__name__: lambda text: text,  # the longer forms as text: rules cannot read what may be text or fields
    "_true_is_a_pause": truth_or_fields,
    "_false_is_none": truth_or_fields,
    "_small": lambda text: text,  # the name of a header, however it is written
    "_once": lambda headers: headers,  # names that differ in capitals alone: no schema says so
    "_grpc_code": lambda number: number_or_name(GRPC_CODES, number),
}
"""What each validator that comes before pydantic's own makes of a field's schema, by its name."""


KINDS: Final = {"string": "text", "number": "number", "boolean": "truth"}
"""What JSON schema calls types, as `only` calls them."""


def hidden(schema: Schema) -> bool:
    """Whether CEL rules cannot read values of the schema, nor see that they are there."""
    below = schema.get("items") or schema.get("additionalProperties")
    return "type" not in schema or (below is not None and hidden(below))
