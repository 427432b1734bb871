"""Two of Istio's StringMatches as one: a match of a rule has room for one of each header, of the path, of the method.

Pure. Where both can be computed as one, they are; what cannot be said as one is refused, never approximated.
"""

from __future__ import annotations

import re

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import Object

_WORDS = re.compile(r"\(?[A-Za-z0-9/_-]+(\|[A-Za-z0-9/_-]+)*\)?")
"""A regular expression that is a choice of texts, such as `GET|POST`: the one kind whose texts can be counted."""


def both(one: Object, other: Object, where: str, of: str) -> Object | None:
    """One StringMatch for two; None where no text is both.

    Args:
        one: the one that stands in a rule, or comes from another scope; empty for any text.
        other: the scope's; empty for any text.
        where: the scope's field, and where the first one stands, for the message.
        of: what Istio allows one match of, and what to do instead, for the message.

    Raises:
        InvalidChange: Istio has no match for both.
    """
    if one == other or not other:
        return one
    if not one:
        return other
    (kind, text), (second, another) = _only(one), _only(other)
    if "regex" in (kind, second):
        return _chosen((kind, text), (second, another), where, of)
    if kind == second == "exact":
        return None
    if kind == second == "prefix":
        longer, shorter = sorted((text, another), key=len, reverse=True)
        return {"prefix": longer} if longer.startswith(shorter) else None
    exact, prefix = (text, another) if kind == "exact" else (another, text)
    return {"exact": exact} if exact.startswith(prefix) else None


def _chosen(one: tuple[str, str], other: tuple[str, str], where: str, of: str) -> Object | None:
    """The texts of the one that is a choice of texts, as far as the other takes them."""
    known = _texts(one) or _texts(other)
    against = other if _texts(one) else one
    told = _texts(against)
    if not known or not (told or against[0] == "prefix"):
        raise InvalidChange(
            f"{where} matches by {one[0]} {one[1]!r}, the scope by {other[0]} {other[1]!r}, and Istio allows one match "
            f"of {of}"
        )
    left = [text for text in known if (text in told if told else text.startswith(against[1]))]
    if not left:
        return None
    return {"exact": left[0]} if len(left) == 1 else {"regex": "|".join(left)}


def _texts(match: tuple[str, str]) -> list[str]:
    """Every text that it takes; empty where they cannot be counted."""
    kind, text = match
    if kind == "exact":
        return [text]
    if kind != "regex" or not _WORDS.fullmatch(text) or text.startswith("(") != text.endswith(")"):
        return []
    return list(dict.fromkeys(text.strip("()").split("|")))


def _only(match: Object) -> tuple[str, str]:
    kind, text = next(iter(match.items()))
    return str(kind), str(text)
