"""Marks of faults on VirtualServices, and copies of rules: told from what the user wrote by whoever reads routes."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from pydantic import ValidationError

from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.routes.patch_marks import read_mark
from autopilot.wire import Wire

PREFIX = "fault.meshautopilot.io/"
"""Of the annotation, which ends in the service's name: one VirtualService may lead to several targets."""


_COPY = re.compile(r"autopilot\.(?P<service>[a-z0-9.-]+)\.(?P<fencing>\d+)\.(?P<number>\d+)")


class LaidRule(Wire):
    """What was done to one rule's own fields."""

    key: str
    before: dict[str, Any]
    """Field → what was written there; those that were not there are not here."""
    laid: dict[str, Any]
    """Field → what we wrote."""


class FaultMark(Wire):
    """Says on the object itself whose faults are laid over it, and what was there before."""

    service: str
    """Of the target; its namespace is the object's."""
    operation: str
    fencing: int
    write: int = 0
    """Number of the operation's write that laid them."""
    rules: tuple[LaidRule, ...] = ()
    made: bool = False
    """Whether the whole object is ours, and is deleted with the faults."""

    @property
    def order(self) -> tuple[int, int]:
        """As `Writer.order`."""
        return self.fencing, self.write


def marks_of(body: Object) -> list[FaultMark]:
    """Every mark of faults on an object.

    A mark that cannot be read (it was edited by hand) is left out; copies without a mark stand for one of their own.
    """
    found: dict[str, FaultMark] = {}
    for name, text in (body.get("metadata", {}).get("annotations") or {}).items():
        if name.startswith(PREFIX):
            with contextlib.suppress(ValidationError):
                mark = FaultMark.model_validate_json(text)
                if name == PREFIX + mark.service:
                    found[mark.service] = mark
    for rule in rules_of(body):
        if (told := copied_for(rule)) is None:
            continue
        service, fencing = told
        known = found.get(service, FaultMark(service=service, operation="somebody", fencing=-1))
        found[service] = known.model_copy(update={"fencing": max(fencing, known.fencing)})
    return list(found.values())


def mark_of(body: Object, service: str) -> FaultMark | None:
    """The mark of one target, as far as it can be read: for those who only look."""
    return next((mark for mark in marks_of(body) if mark.service == service), None)


def own_mark(body: Object, service: str) -> FaultMark | None:
    """The mark of one target: for whoever is about to write the object.

    Raises:
        UnreadableRecord: there is one that cannot be read, and so nobody here knows what was there before.
    """
    read_mark(body, PREFIX + service, FaultMark)
    return mark_of(body, service)


def bears_mark(body: Object, service: str) -> bool:
    """Whether something of ours lies over the object for this service, readable or not."""
    noted = PREFIX + service in (body.get("metadata", {}).get("annotations") or {})
    return noted or mark_of(body, service) is not None


def is_ours(body: Object) -> bool:
    """Whether the whole object was made to say faults: it is no route of anybody's."""
    return any(mark.made for mark in marks_of(body))


def is_copy(rule: Object) -> bool:
    """Whether a rule is a narrower copy of ours."""
    return copied_for(rule) is not None


def rules_of(body: Object) -> list[Object]:
    """The HTTP rules of a VirtualService, copies among them."""
    found: list[Object] = (body.get("spec") or {}).get("http") or []
    return found


def copied_for(rule: Object) -> tuple[str, int] | None:
    """The target whose faults a rule is a copy for, and the fencing number; None for a rule of the user's."""
    found = _COPY.fullmatch(str(rule.get("name") or ""))
    return (found["service"], int(found["fencing"])) if found else None
