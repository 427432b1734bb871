"""Ends leases in a cluster: restores or commits, from any process, and sweeps marks that have no lease.

Routes first, the record next, the lease last. A halt never blocks a restore.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

from autopilot.mesh.audit import Action, AuditRecord
from autopilot.mesh.audit_writer import AuditWriter
from autopilot.mesh.errors import LeaseLost, MeshError, MeshUnavailable, UnreadableRecord
from autopilot.mesh.kube.client.api_errors import Refused
from autopilot.mesh.kube.faults.driver import FaultDriver
from autopilot.mesh.kube.routes.base import Route
from autopilot.mesh.kube.routes.overlay_port import Marked, Overlays
from autopilot.mesh.kube.state.audit_log import KubeAuditLog
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.kube.state.target_record import OpenTargetRecord, TargetRecord
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.leases.records import LeaseRecord, Overlay
from autopilot.mesh.model import (
    EVERY_RULE,
    LAST_WRITE,
    Aspect,
    Change,
    Holder,
    InjectFault,
    Lease,
    Receipt,
    SplitTraffic,
    Target,
)

BY_DEADLINE = Actor(who="autopilot", net="mesh", why="its deadline passed")
LOOK_EVERY = 5.0
"""Seconds between two searches for marks without a lease."""


class Ending:
    """The half of a ledger that ends leases.

    Args:
        store: where they lie.
        overlayer: lays splits.
        clock: seconds since the epoch.
        told: receives every audit record that was written.
        faults: lays faults.
    """

    def __init__(
        self,
        store: KubeStore,
        overlayer: Overlays,
        clock: Callable[[], float] = time.time,
        told: Callable[[AuditRecord], None] = lambda _: None,
        *,
        faults: FaultDriver | None = None,
    ) -> None:
        self.store = store
        self.overlayer = overlayer
        self.faults = faults or FaultDriver(store, overlayer.routes, "plain")
        self.journal = KubeAuditLog(store)
        self.books = AuditWriter(lambda: self.journal, told)
        self._clock = clock
        self._looked = -LOOK_EVERY
        self._seen: set[tuple[Target, str, tuple[int, int]]] = set()
        """Marks that the last look found."""

    def tidy(self, by: Actor = BY_DEADLINE, books: Sequence[TargetRecord] | None = None) -> list[str]:
        """Ends what is due, and removes marks without a lease; returns what was done.

        Args:
            by: who does it.
            books: every book, where they have just been read.

        Raises:
            MeshError: of the first target that could not be tidied, after all the others. A record that cannot be
                read is no failure: only another version can end what it is about.
        """
        done: list[str] = []
        failed: list[MeshError] = []
        for book in self.store.books() if books is None else books:
            try:
                done += self._tidy(book, by)
            except UnreadableRecord:
                continue
            except MeshError as error:
                failed.append(error)
        if time.monotonic() - self._looked >= LOOK_EVERY:
            self._looked = time.monotonic()
            done += self._sweep_marks(by)
        self.books.settle()
        if failed:
            raise failed[0]
        return done

    def _tidy(self, book: TargetRecord, by: Actor) -> list[str]:
        done, now = [], self._clock()
        held = {str(record.lease.holder) for record in book.leases}
        for overlay in book.overlays:
            if str(overlay.lease.holder) not in held and not book.maybe_held(overlay.lease.holder.fencing):
                self.end(unknown(overlay.lease), by)
                done.append(f"{book.target}: removed an overlay of {overlay.lease.holder} that had no lease any more")
        for record in book.leases:
            end = record.lease.planned_end
            if end is not None and now > end and self.lift_if_unchanged(record, by):
                done.append(f"{book.target}: {record.lease.holder} had reached its planned end")
        return done

    def weights(self, target: Target) -> tuple[dict[str, float], dict[str, float]]:
        """Percent by arm: in force now, and in the base configuration."""
        return self.overlayer.in_force(target, self.overlayer.found(target))

    def end(self, record: LeaseRecord, by: Actor) -> Receipt:
        """Removes the lease's overlay, or completes its commit where one had begun.

        Routes first, the record next, the lease last: a failure in between leaves the lease, and all of it is done
        again. A lease that no longer exists has no overlay any more. What was laid is told by marks on the objects, so
        the overlay's record need not be understood.

        Raises:
            UnreadableRecord: the overlay may be becoming the base, which only a version that can read it completes.
        """
        lease = record.lease
        overlay = self._begin_end(lease)
        commit = split_of(overlay.changes) if overlay is not None and overlay.committing else None
        before = self._shared(lease)
        notes = self._take_away(lease, commit)
        routes = self.overlayer.found(lease.target) if lays(lease, Aspect.TRAFFIC) else []
        after, _ = self.overlayer.in_force(lease.target, routes)

        def forget(book: OpenTargetRecord) -> None:
            book.refuse_unknown_end(lease)
            if book.committing(lease) and commit is None:
                raise LeaseLost(f"{lease.holder} started to commit {lease.target} meanwhile")
            if commit is not None:
                book.remember_commit(lease)
            if record.condemned:
                book.remember_condemned(record)
            book.remember_run(record)
            book.forget(lease)

        if notes:
            by = by.model_copy(update={"why": "; ".join(filter(None, [by.why, *notes]))})
        action: Action = "lift" if commit is None else "commit"
        digest = self._record(action, lease, by, before=before, after=after, vital=True)
        self.store.step(lease.target, forget, orders=False)
        return self._receipt(lease, routes, self._clock(), digest).model_copy(update={"notes": tuple(notes)})

    def restore_beside(self, lease: Lease, by: Actor) -> Receipt:
        """Removes what a lease has laid, for its holder, where the book is damaged and so stays as it is."""
        before = self._shared(lease)
        notes = self._take_away(lease)
        routes = self.overlayer.found(lease.target) if lays(lease, Aspect.TRAFFIC) else []
        digest = self._record("lift", lease, by, before=before, after=self._shared(lease), vital=True)
        return self._receipt(lease, routes, self._clock(), digest).model_copy(update={"notes": tuple(notes)})

    def _take_away(self, lease: Lease, commit: SplitTraffic | None = None, *, write: int = LAST_WRITE) -> list[str]:
        """Takes away what this lease has laid up to a write, or one before it; what was not ours, one sentence each."""
        notes: list[str] = []
        if lays(lease, Aspect.FAULTS):
            notes += self.faults.take_away(lease.target, lease.holder.fencing, write=write)
        if lays(lease, Aspect.TRAFFIC):
            fencing, choice = lease.holder.fencing, commit.choice if commit else EVERY_RULE
            weights = commit.ordered if commit else None
            notes += self.overlayer.take_away(lease.target, fencing, write=write, commit=weights, choice=choice)
        return notes

    def _shared(self, lease: Lease) -> dict[str, float]:
        """Percent by arm in force now, where the lease may change it."""
        return self.weights(lease.target)[0] if lays(lease, Aspect.TRAFFIC) else {}

    def _begin_end(self, lease: Lease) -> Overlay | None:
        """Says in the book that the lease is being ended, so that no commit begins meanwhile.

        Returns:
            What it has laid: where a commit had begun before, that becomes the base.
        """

        def mark(book: OpenTargetRecord) -> Overlay | None:
            book.refuse_unknown_end(lease)
            record, overlay = book.readable_lease_of(lease), book.readable_overlay_of(lease)
            if record is not None and not (overlay is not None and overlay.committing):
                book.write_lease(record.model_copy(update={"ending": True}))
            return overlay

        try:
            return self.store.step(lease.target, mark, orders=False)
        except (MeshUnavailable, Refused):  # a restore does not wait for that
            opened = self.store.open(lease.target, orders=False)
            opened.refuse_unknown_end(lease)
            return opened.readable_overlay_of(lease)

    def lift_if_unchanged(self, seen: LeaseRecord, by: Actor) -> bool:
        """Ends a lease that stood still, unless it was renewed since `seen` was read; says whether it did."""
        record = self.store.open(seen.lease.target, orders=False).lease_of(seen.lease)
        if record is None or record.beats != seen.beats:
            return False
        self.end(record, by)
        return True

    def _sweep_marks(self, by: Actor) -> list[str]:
        """Removes marks without a lease; raises the first failure after all the others were tried."""
        done: list[str] = []
        failed: list[MeshError] = []
        marked = [*self.overlayer.marked(self.store.mesh), *self.faults.marked(self.store.mesh)]
        for found in marked:
            try:
                done += self._sweep_mark(found, by)
            except UnreadableRecord:
                continue  # whether its lease is alive cannot be told
            except MeshError as error:
                failed.append(error)
        self._seen = {_place(found) for found in marked}
        if failed and not done:
            raise failed[0]
        return done

    def _sweep_mark(self, found: Marked, by: Actor) -> list[str]:
        book, mark = self.store.open(found.target, orders=False), found.mark
        if book.book.maybe_held(mark.fencing):
            return []
        left, why = f"{mark.operation}#{mark.fencing}", "that had no lease any more"
        last = next((one.lease.write for one in book.leases() if one.lease.holder.fencing == mark.fencing), LAST_WRITE)
        if last != LAST_WRITE:
            if mark.write >= last or _place(found) not in self._seen:
                return []  # in order, or the later write is replacing it at this moment: the next look decides
            left, why = f"write {mark.write} of {left}", f"that arrived after write {last}"
        holder = Holder(operation=mark.operation, fencing=mark.fencing)
        lease = Lease(target=found.target, aspects=(), holder=holder, ttl=0, max_unattended=0)
        notes = self._take_away(lease, write=mark.write)
        said = "; ".join([f"{found.route.name}: removed an overlay of {left} {why}", *notes])
        self._record("lift", lease, by.model_copy(update={"why": said}), vital=True)
        return [said]

    def _record(
        self,
        action: Action,
        lease: Lease,
        by: Actor,
        *,
        changes: Sequence[Change] = (),
        before: dict[str, float] | None = None,
        after: dict[str, float] | None = None,
        vital: bool = False,
    ) -> str:
        record = AuditRecord(
            sequence=0,
            time=self._clock(),
            action=action,
            actor=by,
            target=str(lease.target),
            operation=lease.holder.operation,
            fencing=lease.holder.fencing,
            changes=tuple(changes),
            before=before or {},
            after=after or {},
        )
        return self.books.write(record, vital=vital)

    def _receipt(self, lease: Lease, routes: Sequence[Route], now: float, audit: str) -> Receipt:
        versions = {route.name: str(route.body["metadata"].get("generation", 0)) for route in routes}
        written = "\n".join(f"{route.name} {route.body.get('spec')}" for route in routes)
        return Receipt(
            target=lease.target,
            holder=lease.holder,
            digest=hashlib.sha256(written.encode()).hexdigest(),
            versions=versions,
            written=now,
            audit=audit,
        )


def _place(found: Marked) -> tuple[Target, str, tuple[int, int]]:
    return found.target, found.route.name, found.mark.order


def lays(lease: Lease, aspect: Aspect) -> bool:
    """Whether the lease may have laid something of this aspect; of what has no lease, nobody knows."""
    return not lease.aspects or aspect in lease.aspects


def injected_of(changes: Sequence[Change]) -> list[InjectFault]:
    """The faults among changes."""
    return [change for change in changes if isinstance(change, InjectFault)]


def unknown(lease: Lease) -> LeaseRecord:
    """A record for what lies there without one."""
    return LeaseRecord(lease=lease, token="", acquired=0, renewed=0)


def split_of(changes: Sequence[Change]) -> SplitTraffic | None:
    """The split among changes."""
    return next((change for change in changes if isinstance(change, SplitTraffic)), None)


def weights_of(changes: Sequence[Change]) -> dict[str, float]:
    """Percent by arm, where traffic is split among changes; stable's first."""
    split = split_of(changes)
    return split.ordered if split else {}
