"""What patterns say of length, said again: the API server estimates what rules cost by declared lengths alone."""

from __future__ import annotations

import re
from typing import Final

MOST: Final = 1 << 16
"""A pattern that allows more says nothing of length."""

_KNOWN: Final = {
    r"^([a-z0-9.-]+/)?v[a-z0-9]+$": 317,
}
"""Patterns without an end to them, and what Kubernetes allows there: a group of 253, a slash, a version of 63."""


def longest(pattern: str) -> int | None:
    """The most characters that a text of the pattern has, where it is written between `^` and `$`; None: any number."""
    if pattern in _KNOWN:
        return _KNOWN[pattern]
    if not (pattern.startswith("^") and pattern.endswith("$")):
        return None
    length: int = re._parser.parse(pattern).getwidth()[1]  # type: ignore[attr-defined] # noqa: SLF001 - nobody else counts
    return length if length < MOST else None
