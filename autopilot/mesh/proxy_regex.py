"""What proxies take for a regular expression: one that they refuse would make them refuse a whole table of routes."""

from __future__ import annotations

import re

from autopilot.mesh.errors import InvalidChange

_NOT_RE2 = re.compile(r"\(\?(?:[=!>(]|<[=!]|P=)|\\[1-9]|[*+?}]\+")
"""Look-around, back references, atomic groups, conditions, possessive repeats: not in RE2, which proxies use."""


def refuse_regex(pattern: str, at: str) -> None:
    """Refuses what is not a regular expression of RE2.

    Args:
        pattern: as the user wrote it.
        at: its field, for the message.

    Raises:
        InvalidChange: it is none.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidChange(f"{at}: {pattern!r} is not a valid regular expression: {error}") from None
    if _NOT_RE2.search(pattern):
        raise InvalidChange(
            f"{at}: {pattern!r} uses look-around, back references or possessive repeats, which proxies do not "
            "support: they use RE2 (https://github.com/google/re2/wiki/Syntax)"
        )
