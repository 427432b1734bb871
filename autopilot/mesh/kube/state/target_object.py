"""A target's book as an object of the cluster: read part by part, so that one part that cannot be read hides no other.

What this version does not know (a field, a lease, an overlay of the next release) goes back with every write as it
came.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.client.resources import LEASE
from autopilot.mesh.kube.state.target_record import (
    ANNOTATION,
    MANAGED,
    KeptPart,
    OpenTargetRecord,
    TargetRecord,
    name_of,
)
from autopilot.mesh.leases.overrides import Tombstone
from autopilot.mesh.leases.records import Condemnation, LastRun, LeaseRecord, Overlay, Ticket
from autopilot.mesh.leases.unreadable import envelope_of, why_of
from autopilot.mesh.model import Holder, Target
from autopilot.wire import Wire

_Part = TypeVar("_Part", bound=BaseModel)
_LISTS: dict[str, type[Wire]] = {"leases": LeaseRecord, "overlays": Overlay, "tickets": Ticket}
_SINGLE: dict[str, type[Wire]] = {"harm": Condemnation, "last": LastRun, "stone": Tombstone}


class _Head(Wire):
    """What every book must have."""

    target: Target
    fencing: int = 0


class _Lease(Wire):
    holder: Holder


class _LeaseEnvelope(Wire):
    lease: _Lease


def to_object(opened: OpenTargetRecord) -> Object:
    """The Lease object of a book, for create or replace."""
    book = opened.book
    body: Object = {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": {
            "name": name_of(book.target),
            "namespace": book.target.namespace,
            "labels": dict(MANAGED),
            "annotations": {ANNOTATION: _text(book)},
        },
        "spec": {"leaseTransitions": book.fencing},
    }
    if opened.version:
        body["metadata"]["resourceVersion"] = opened.version
    if book.leases:
        record = book.leases[-1]
        body["spec"] |= {
            "holderIdentity": str(record.lease.holder),
            "leaseDurationSeconds": max(1, round(record.lease.ttl)),
            "acquireTime": _micro(record.acquired),
            "renewTime": _micro(record.renewed),
        }
    return body


def from_object(body: Object) -> tuple[TargetRecord, str]:
    """The book in a Lease object, and its resourceVersion.

    Raises:
        UnreadableRecord: it holds none that can be read; the object is never written then.
    """
    meta = body["metadata"]
    where = f"Lease {meta['namespace']}/{meta['name']}"
    text = (meta.get("annotations") or {}).get(ANNOTATION, "")
    try:
        head = _Head.model_validate_json(text)
    except ValidationError as error:
        damaged = error.errors(include_url=False)[0]["type"] in ("json_invalid", "model_type")
        raise UnreadableRecord(where, why_of(error), damaged=damaged) from error
    said: dict[str, Any] = json.loads(text)
    kept: list[KeptPart] = []
    found: dict[str, Any] = {}
    for field, value in said.items():
        if field in _LISTS and isinstance(value, list):
            parts = [_part(field, one, _LISTS[field], kept) for one in value]
            found[field] = tuple(one for one in parts if one is not None)
        elif field in _SINGLE:
            found[field] = None if value is None else _part(field, value, _SINGLE[field], kept)
        elif field == "committed" and isinstance(value, str):
            found[field] = value
        elif field not in ("target", "fencing"):
            known = field in _LISTS or field == "committed"
            why = "it has an unknown form" if known else ""
            kept.append(KeptPart(field=field, text=json.dumps(value), why=why, whole=True))
    book = TargetRecord(target=head.target, fencing=head.fencing, kept=tuple(kept), **found)
    return book, str(meta["resourceVersion"])


def _part(field: str, value: object, model: type[_Part], kept: list[KeptPart]) -> _Part | None:
    text = json.dumps(value)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        envelope = envelope_of(text) if field == "overlays" else None
        holder = envelope.lease.holder if envelope is not None else _holder(text)
        kept.append(KeptPart(field=field, text=text, why=why_of(error), envelope=envelope, holder=holder))
        return None


def _holder(text: str) -> Holder | None:
    try:
        return _LeaseEnvelope.model_validate_json(text).lease.holder
    except ValidationError:
        return None


def _text(book: TargetRecord) -> str:
    if not book.kept:
        return book.model_dump_json()
    said: dict[str, Any] = book.model_dump(mode="json")
    for part in book.kept:
        value = json.loads(part.text)
        if part.field in _LISTS and not part.whole:
            said[part.field].append(value)
        else:
            said[part.field] = value  # of a field that is kept, nothing is written: see `OpenTargetRecord`
    return json.dumps(said, separators=(",", ":"))


def _micro(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
