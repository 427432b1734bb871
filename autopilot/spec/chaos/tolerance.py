"""What a value must be: the part of a probe that is judged."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from autopilot.spec.base import SpecModel
from autopilot.spec.values.units import Number, explained

_MEMBER = r"[A-Za-z0-9_-]+"
_BRACKET = (
    r"\[-?[0-9]{1,6}\]"
    r"""|\["[^"]{1,128}"\]|\['[^']{1,128}'\]"""
    r"""|\[[A-Za-z0-9_-]{1,64}=[^\[\]"'=]{1,128}\]"""
)
PATH_STEP = rf"\.?{_MEMBER}|{_BRACKET}"
"""One step of a path into JSON: a member, an element, a quoted member, or the first element with such a member."""


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a valid Python regular expression: {error}") from None
    return pattern


class Tolerance(SpecModel):
    """What a probe's value must be; everything that is written must hold."""

    equals: str | Number | bool | None = None
    one_of: Annotated[tuple[str | Number, ...], Field(max_length=100)] | None = None
    min: Number | None = None
    max: Number | None = None
    regex: Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_compiles)] | None = None
    """Found anywhere in the value (Python's `re`)."""
    contains: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    jsonpath: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=256,
                pattern=explained(
                    rf"^\$?(\.?{_MEMBER}|{_BRACKET})(\.{_MEMBER}|{_BRACKET})*$",
                    "a path to one value: status.phase, items[0].name, conditions[type=Ready].status",
                ),
            ),
        ]
        | None
    ) = None
    """Where in a JSON value to look: `status.phase`, `items[0].name`, `conditions[type=Ready].status`; the other
    fields check the value there."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        asked = self.model_dump(exclude_none=True, exclude={"jsonpath"})
        if not asked:
            raise ValueError("has no condition; write equals, oneOf, min, max, regex or contains")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}, so no value could pass")
        return self
