"""Marks as whoever is about to write an object must read them: one that cannot be read is never taken for none.

A mark is the only place that has what was there before, so without it nothing can be restored.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.routes.weight_patch import PREFIX, Mark
from autopilot.mesh.leases.unreadable import why_of
from autopilot.wire import Wire

_Mark = TypeVar("_Mark", bound=Wire)


def has_mark(body: Object, service: str) -> bool:
    """Whether something is laid over the object for a target, readable or not."""
    return PREFIX + service in (body.get("metadata", {}).get("annotations") or {})


def own_mark(body: Object, service: str) -> Mark | None:
    """The mark of one target: for whoever is about to write the object.

    Raises:
        UnreadableRecord: there is one that cannot be read, and so nobody here knows what was there before.
    """
    return read_mark(body, PREFIX + service, Mark)


def read_mark(body: Object, name: str, model: type[_Mark]) -> _Mark | None:
    """One mark on an object.

    Raises:
        UnreadableRecord: it cannot be read.
    """
    meta = body.get("metadata") or {}
    text = (meta.get("annotations") or {}).get(name)
    if text is None:
        return None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        where = f"{body.get('kind', 'object')} {meta.get('namespace')}/{meta.get('name')}, annotation {name}"
        raise UnreadableRecord(where, why_of(error)) from error


def unread_marks(body: Object, prefix: str, model: type[Wire]) -> list[UnreadableRecord]:
    """What is wrong with the marks of one kind on an object, where they cannot be read."""
    found = []
    for name in (body.get("metadata") or {}).get("annotations") or {}:
        try:
            _ = name.startswith(prefix) and read_mark(body, name, model)
        except UnreadableRecord as error:
            found.append(error)
    return found
