"""Names of arms: a name alone, or with its kind before it where the name alone may mean two.

`{subset: v2}` and `{service: web-v2}` are read as the text `subset/v2` and `service/web-v2`, which may be written too.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from autopilot.spec.values.units import explained, shown

KINDS: Final = ("subset", "service")
"""Of a DestinationRule for the target; of the target's namespace."""

NAME: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
PATTERN: Final = rf"^(({'|'.join(KINDS)})/)?{NAME}$"


def read_arm(value: object) -> object:
    """Reads the longer forms.

    Raises:
        ValueError: a mapping that is neither.
    """
    if not isinstance(value, dict):
        return value
    kind, *more = value or {"": None}
    if kind in KINDS and not more and isinstance(value[kind], str) and re.fullmatch(NAME, value[kind]):
        return f"{kind}/{value[kind]}"
    if {"namespace", "port"} & value.keys():
        raise ValueError("an arm is in the namespace of its target, and has its port; write {service: NAME} alone")
    raise ValueError(f"{shown(value)} is no arm; write its name, {{subset: NAME}} or {{service: NAME}}")


ArmName = Annotated[
    str,
    BeforeValidator(read_arm),
    Field(
        max_length=71,
        pattern=explained(
            PATTERN,
            "a name: lower-case letters, digits and dashes, at most 63, with a letter or digit at both ends (subset/ "
            "or service/ before it says which is meant)",
        ),
    ),
]


def name_of(arm: str) -> str:
    """The name alone."""
    return arm.rpartition("/")[2]


def kind_of(arm: str) -> str:
    """`subset` or `service`; empty where it does not say."""
    return arm.rpartition("/")[0]
