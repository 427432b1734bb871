"""Reads the answers of an API server: pure functions for every request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from autopilot.mesh.errors import MeshUnavailable


def parsed(text: str, path: str) -> dict[str, Any]:
    """The object that was answered.

    Raises:
        MeshUnavailable: it is none.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise MeshUnavailable(
            f"the answer to {path} is not JSON; check that the address is a Kubernetes API server's"
        ) from error
    if not isinstance(found, dict):
        raise MeshUnavailable(
            f"the answer to {path} is not a JSON object; check that the address is a Kubernetes API server's"
        )
    return found


def told(text: str) -> dict[str, Any]:
    """The message of a failure; empty where it cannot be read."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def names_an_object(text: str) -> bool:
    """Whether a 404 means that this object is not there; otherwise the kind is not."""
    return bool(told(text).get("details", {}).get("name"))


def says(found: object, wanted: object, *, whole: bool = True) -> bool:
    """Whether an object says all that was written; what an API server adds by itself does not count."""
    if not isinstance(wanted, dict) or not isinstance(found, dict):
        return found == wanted
    left_out = {"metadata", "status"} if whole else set()
    same = all(says(found.get(key), value, whole=False) for key, value in wanted.items() if key not in left_out)
    if not whole or not same:
        return same
    return all(
        says(found["metadata"].get(key) or {}, wanted["metadata"].get(key) or {}, whole=False)
        for key in ("labels", "annotations")
    )


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait before the next try."""
    try:
        return float(headers.get("Retry-After", 0))
    except ValueError:
        return 0.0
