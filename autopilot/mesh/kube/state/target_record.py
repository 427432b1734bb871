"""All that is kept of one target: one `coordination.k8s.io` Lease beside the service, one compare-and-set a step.

`kubectl get leases` shows who holds what and since when; the whole record lies in one annotation of the same object.
"""

from __future__ import annotations

from pydantic import Field

from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.leases.overrides import Halt, Tombstone, unread_tombstone
from autopilot.mesh.leases.records import Condemnation, LastRun, LeaseRecord, Overlay, Ticket
from autopilot.mesh.leases.unreadable import OverlayEnvelope
from autopilot.mesh.model import Holder, Lease, LeasePhase, Target
from autopilot.wire import Wire

ANNOTATION = "meshautopilot.io/book"
MANAGED = {"app.kubernetes.io/managed-by": "autopilot", "meshautopilot.io/record": "book"}
SELECTOR = ",".join(f"{key}={value}" for key, value in MANAGED.items())


class KeptPart(Wire):
    """A part of a book that this version does not understand: it stays in the book as it came."""

    field: str
    text: str
    """As JSON."""
    why: str = ""
    """What is wrong with it; empty where this version does not know the field at all, and need not."""
    whole: bool = False
    """Whether it is all of its field."""
    holder: Holder | None = None
    """Whose lease or overlay it is, where it says so."""
    envelope: OverlayEnvelope | None = None


class TargetRecord(Wire):
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
    kept: tuple[KeptPart, ...] = Field(default=(), exclude=True)

    @property
    def unread(self) -> tuple[KeptPart, ...]:
        """Parts that cannot be read."""
        return tuple(one for one in self.kept if one.why)

    def maybe_held(self, fencing: int) -> bool:
        """Whether a lease that cannot be read may be the one with this number."""
        return any(
            one.field == "leases" and (one.holder is None or one.holder.fencing == fencing) for one in self.unread
        )

    def error(self, part: KeptPart) -> UnreadableRecord:
        """What is raised where a part would have to be read."""
        where = f"Lease {self.target.namespace}/{name_of(self.target)}, {part.field}"
        return UnreadableRecord(where, part.why)


class OpenTargetRecord:
    """A target record being written: `AdmissionRecords` of one target, and its orders. Nothing counts until `close`.

    Args:
        book: as it was read.
        version: its resourceVersion; empty for one that does not exist yet.
        halts: every halt in force in this mesh.
    """

    def __init__(self, book: TargetRecord, version: str = "", halts: list[Halt] | None = None) -> None:
        self.book = book
        self.version = version
        self.read = book
        self._halts = halts or []

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return self.book != self.read

    @property
    def orders(self) -> OpenTargetRecord:
        """Orders lie in the same book."""
        return self

    def leases(self) -> list[LeaseRecord]:
        """Every lease held."""
        return list(self.book.leases)

    def lease_of(self, lease: Lease) -> LeaseRecord | None:
        """The record of this very lease.

        Raises:
            UnreadableRecord: it may be one that cannot be read.
        """
        found = next((record for record in self.book.leases if record.lease.holder == lease.holder), None)
        if found is None and self.book.maybe_held(lease.holder.fencing):
            raise self.book.error(next(one for one in self.book.unread if one.field == "leases"))
        return found

    def readable_lease_of(self, lease: Lease) -> LeaseRecord | None:
        """The record of this very lease; None where there is none, or none that can be read."""
        return next((record for record in self.book.leases if record.lease.holder == lease.holder), None)

    def overlay_of(self, lease: Lease) -> Overlay | None:
        """What this lease has laid.

        Raises:
            UnreadableRecord: its record cannot be read.
        """
        if (part := self.unread_of(lease)) is not None:
            raise self.book.error(part)
        return self.readable_overlay_of(lease)

    def readable_overlay_of(self, lease: Lease) -> Overlay | None:
        """What this lease has laid; None where it has laid nothing, or nothing that can be read."""
        return next((overlay for overlay in self.book.overlays if overlay.lease.holder == lease.holder), None)

    def unread_of(self, lease: Lease) -> KeptPart | None:
        """What this lease has laid, where its record cannot be read."""
        return next((one for one in self.book.unread if one.field == "overlays" and one.holder == lease.holder), None)

    def refuse_hidden(self) -> None:
        """Refuses the target to everybody while a lease on it, or a note of whom to refuse, cannot be read.

        Raises:
            UnreadableRecord: with its place.
        """
        for part in self.book.unread:
            if part.field in ("leases", "harm", "last", "committed"):
                raise self.book.error(part)

    def refuse_blind(self, now: float) -> None:
        """Refuses the target while an overlay that cannot be read may be in force at `now`, seconds since the epoch.

        Raises:
            UnreadableRecord: with its place.
        """
        for part in self.book.unread:
            if part.field == "overlays" and (part.envelope is None or part.envelope.may_be_in_force(now)):
                raise self.book.error(part)

    def refuse_unknown_end(self, lease: Lease) -> None:
        """Refuses to end a lease by going back where only a version that reads its overlay can complete it.

        Raises:
            UnreadableRecord: it may be a commit.
        """
        part = self.unread_of(lease)
        if part is not None and (part.envelope is None or not part.envelope.active):
            raise self.book.error(part)

    def committing(self, lease: Lease) -> bool:
        """Whether what this lease has laid is becoming the base."""
        if (part := self.unread_of(lease)) is not None:
            return part.envelope is not None and part.envelope.phase == LeasePhase.COMMITTING
        overlay = self.readable_overlay_of(lease)
        return overlay is not None and overlay.committing

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
            kept=tuple(one for one in self.book.kept if one.field != "overlays" or one.holder != lease.holder),
        )

    def next_fencing(self) -> int:
        """Counts one holder more."""
        self._change(fencing=self.book.fencing + 1)
        return self.book.fencing

    def remember_commit(self, lease: Lease) -> None:
        """Notes who was the last to commit."""
        self._change(committed=str(lease.holder))

    def committed(self, lease: Lease) -> bool:
        """Whether this lease was the last to be committed.

        Raises:
            UnreadableRecord: who was, cannot be read.
        """
        if (part := next((one for one in self.book.unread if one.field == "committed"), None)) is not None:
            raise self.book.error(part)
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
        """The one on this target; one that cannot be read blocks it too."""
        part = next((one for one in self.book.unread if one.field == "stone"), None)
        if part is not None and target == self.book.target:
            return unread_tombstone(target, self.book.error(part))
        return self.book.stone if target == self.book.target else None

    def write_tombstone(self, stone: Tombstone | None) -> None:
        """A person takes the target back, or hands it back (None); one that could not be read goes by that."""
        self._change(stone=stone, kept=tuple(one for one in self.book.kept if one.field != "stone"))

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
        whole = {one.field for one in self.book.kept if one.whole or one.field in ("harm", "last")}
        # A note that another version left is not written over.
        self.book = self.book.model_copy(update={key: value for key, value in changes.items() if key not in whole})


def name_of(target: Target) -> str:
    """Of the Lease object."""
    return f"autopilot.{target.service}"
