"""All that is kept of one target: one `coordination.k8s.io` Lease beside the service, one compare-and-set a step.

`kubectl get leases` shows who holds what and since when; the whole record lies in one annotation of the same object.
"""

from __future__ import annotations

import datetime as dt

from pydantic import ValidationError

from autopilot.mesh.errors import MeshError
from autopilot.mesh.kube.api import Object
from autopilot.mesh.kube.resources import LEASE
from autopilot.mesh.model import Lease, Plain, Target
from autopilot.mesh.orders import Halt, Tombstone
from autopilot.mesh.records import Condemnation, LastRun, LeaseRecord, Overlay, Ticket

ANNOTATION = "meshautopilot.io/book"
MANAGED = {"app.kubernetes.io/managed-by": "autopilot", "meshautopilot.io/record": "book"}
SELECTOR = ",".join(f"{key}={value}" for key, value in MANAGED.items())


class Book(Plain):
    """What is written of one target."""

    target: Target
    fencing: int = 0
    """How many leases the target has had."""
    leases: tuple[LeaseRecord, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    committed: str = ""
    """The holder that was the last to commit."""
    harm: Condemnation | None = None
    last: LastRun | None = None
    """The run whose lease ended last."""
    stone: Tombstone | None = None
    tickets: tuple[Ticket, ...] = ()


class OpenBook:
    """A book being written in: a `Shelf` of one target, and its orders. Nothing counts before it is closed.

    Args:
        book: as it was read.
        version: its resourceVersion; empty for one that does not exist yet.
        halts: every halt in force in this mesh.
    """

    def __init__(self, book: Book, version: str = "", halts: list[Halt] | None = None) -> None:
        self.book = book
        self.version = version
        self.read = book
        self._halts = halts or []

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return self.book != self.read

    @property
    def orders(self) -> OpenBook:
        """Orders lie in the same book."""
        return self

    def leases(self) -> list[LeaseRecord]:
        """Every lease held."""
        return list(self.book.leases)

    def lease_of(self, lease: Lease) -> LeaseRecord | None:
        """The record of this very lease."""
        return next((record for record in self.book.leases if record.lease.holder == lease.holder), None)

    def overlay_of(self, lease: Lease) -> Overlay | None:
        """What this lease has laid."""
        return next((overlay for overlay in self.book.overlays if overlay.lease.holder == lease.holder), None)

    def write_lease(self, record: LeaseRecord) -> None:
        """Writes a lease record."""
        others = (one for one in self.book.leases if one.lease.holder != record.lease.holder)
        self._change(leases=(*others, record))

    def write_overlay(self, overlay: Overlay) -> None:
        """Writes an overlay record."""
        others = (one for one in self.book.overlays if one.lease.holder != overlay.lease.holder)
        self._change(overlays=(*others, overlay))

    def forget(self, lease: Lease) -> None:
        """The lease and its overlay have ended."""
        self._change(
            leases=tuple(one for one in self.book.leases if one.lease.holder != lease.holder),
            overlays=tuple(one for one in self.book.overlays if one.lease.holder != lease.holder),
        )

    def next_fencing(self) -> int:
        """Counts one holder more."""
        self._change(fencing=self.book.fencing + 1)
        return self.book.fencing

    def remember_commit(self, lease: Lease) -> None:
        """Notes who was the last to commit."""
        self._change(committed=str(lease.holder))

    def committed(self, lease: Lease) -> bool:
        """Whether this lease was the last to be committed."""
        return self.book.committed == str(lease.holder)

    def remember_condemned(self, record: LeaseRecord) -> None:
        """Notes whose harm was found last."""
        reason = record.condemned or "harm was found"
        noted = Condemnation(operation=record.lease.holder.operation, token=record.token, reason=reason)
        self._change(harm=noted)

    def condemned(self, target: Target) -> Condemnation | None:
        """Whose harm was found last."""
        return self.book.harm if target == self.book.target else None

    def remember_run(self, record: LeaseRecord) -> None:
        """Notes whose lease ended last."""
        if (last := LastRun.of(record)) is not None:
            self._change(last=last)

    def last_run(self, target: Target) -> LastRun | None:
        """Whose lease ended last."""
        return self.book.last if target == self.book.target else None

    def halts(self) -> list[Halt]:
        """Every halt in force."""
        return self._halts

    def tombstone(self, target: Target) -> Tombstone | None:
        """The one on this target."""
        return self.book.stone if target == self.book.target else None

    def write_tombstone(self, stone: Tombstone | None) -> None:
        """A person takes the target back, or hands it back (None)."""
        self._change(stone=stone)

    def tickets(self, target: Target) -> list[Ticket]:
        """Who waits, the longest first."""
        return sorted(self.book.tickets, key=lambda ticket: ticket.number) if target == self.book.target else []

    def write_ticket(self, target: Target, ticket: Ticket) -> None:
        """Joins the queue, or says that one still waits."""
        others = (one for one in self.book.tickets if one.number != ticket.number)
        self._change(tickets=(*others, ticket))

    def remove_ticket(self, target: Target, ticket: Ticket) -> None:
        """Leaves the queue."""
        self._change(tickets=tuple(one for one in self.book.tickets if one.number != ticket.number))

    def _change(self, **changes: object) -> None:
        self.book = self.book.model_copy(update=changes)


def name_of(target: Target) -> str:
    """Of the Lease object."""
    return f"autopilot.{target.service}"


def to_object(opened: OpenBook) -> Object:
    """The Lease object of a book, for create or replace."""
    book = opened.book
    body: Object = {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": {
            "name": name_of(book.target),
            "namespace": book.target.namespace,
            "labels": dict(MANAGED),
            "annotations": {ANNOTATION: book.model_dump_json()},
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


def from_object(body: Object) -> tuple[Book, str]:
    """The book in a Lease object, and its resourceVersion.

    Raises:
        MeshError: it holds none that can be read.
    """
    meta = body["metadata"]
    text = (meta.get("annotations") or {}).get(ANNOTATION, "")
    try:
        return Book.model_validate_json(text), str(meta["resourceVersion"])
    except ValidationError as error:
        where = f"Lease {meta['namespace']}/{meta['name']}"
        raise MeshError(
            f"{where} has no valid record: {error}; delete it, then the next sweep restores the routes"
        ) from error


def _micro(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
