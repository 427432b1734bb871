"""Which labels a label selector means, as Kubernetes reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether an object with these labels is selected; an empty selector selects all.

    Args:
        selector: `matchLabels` and `matchExpressions`.
        labels: of the object.
    """
    given = selector or {}
    wanted: Mapping[str, str] = given.get("matchLabels") or {}
    return wanted.items() <= labels.items() and all(_holds(one, labels) for one in given.get("matchExpressions") or [])


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    found, values = labels.get(str(expression["key"])), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return found in values
        case "NotIn":
            return found not in values
        case "Exists":
            return found is not None
        case _:
            return found is None
