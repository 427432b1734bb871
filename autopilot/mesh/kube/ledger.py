"""Who holds what in a cluster: every step a lease can take, each one compare-and-set on the target's book.

The same steps as a standalone mesh's ledger, in another order of writes: first the book says what is meant, then routes
are written, each for the version that was read. A late write of a former holder meets a route that has moved on, or
leaves a mark that no lease stands behind, which the next sweep takes away.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from collections.abc import Callable, Sequence

from autopilot.mesh.admission import Admission, Claim
from autopilot.mesh.audit import Action, AuditRecord
from autopilot.mesh.books import Books
from autopilot.mesh.errors import Condemned, Halted, InvalidChange, LeaseLost, MeshError, MeshUnavailable
from autopilot.mesh.kube.api import Conflict, Refused
from autopilot.mesh.kube.book import Book, OpenBook
from autopilot.mesh.kube.journal import KubeJournal
from autopilot.mesh.kube.overlays import Marked, Overlays
from autopilot.mesh.kube.routes import Route
from autopilot.mesh.kube.store import KubeStore
from autopilot.mesh.model import (
    Aspect,
    Change,
    Holder,
    Lease,
    LeasePhase,
    LeaseStatus,
    Receipt,
    SplitTraffic,
    Target,
    Tier,
)
from autopilot.mesh.orders import NOBODY, Actor, Standing
from autopilot.mesh.records import LeaseRecord, Overlay
from autopilot.spec.faults import describe

BY_DEADLINE = Actor(who="autopilot", net="mesh", why="its deadline passed")
LOOK_EVERY = 5.0
"""Seconds between two looks for marks that no lease stands behind."""


class KubeLedger:
    """Leases and overlays of one mesh in one cluster.

    Args:
        store: where they lie.
        overlayer: lays overlays.
        max_unattended: seconds without renewal that nothing outlives.
        clock: seconds since the epoch.
        told: hears of every audit record that was written.
    """

    def __init__(
        self,
        store: KubeStore,
        overlayer: Overlays,
        max_unattended: float,
        clock: Callable[[], float] = time.time,
        told: Callable[[AuditRecord], None] = lambda _: None,
    ) -> None:
        self.store = store
        self.overlayer = overlayer
        self.journal = KubeJournal(store)
        self.books = Books(lambda: self.journal, told)
        self._max_unattended = max_unattended
        self._clock = clock
        self._looked = -LOOK_EVERY

    def arms(self, target: Target, routes: Sequence[Route] | None = None) -> dict[str, tuple[str, ...]]:
        """The target's arms, and what answers for each.

        Raises:
            InvalidChange: no such target.
        """
        routes = self.overlayer.found(target) if routes is None else routes
        found = self.overlayer.routes.arms(target, routes)
        if not found:
            raise InvalidChange(
                f"{target.ref} has no versions that can be told apart; name them in its route, or as subsets"
            )
        return found

    def check(self, target: Target, changes: Sequence[Change]) -> None:
        """Refuses changes that name what is not there.

        Raises:
            InvalidChange: with the arms there are.
        """
        arms = self.arms(target)
        for change in changes:
            if not isinstance(change, SplitTraffic):
                raise InvalidChange(f"{describe(change.fault)} cannot be said here yet")
            for arm, weight in change.weights.items():
                if arm not in arms:
                    raise InvalidChange(f"{target.ref} has no arm {arm}; it has {', '.join(arms)}")
                if weight and not arms[arm]:
                    raise InvalidChange(f"arm {arm} of {target.ref} has no ready endpoints; start it first")

    def acquire(
        self,
        target: Target,
        aspects: Sequence[Aspect],
        *,
        operation: str,
        token: str,
        ttl: float,
        planned_end: float | None,
        queue: bool = False,
        by: Actor = NOBODY,
    ) -> Lease:
        """Takes the lease; see `Mesh.acquire`.

        Raises:
            Forbidden: routes may not be written: better said now than with the lease in hand.
        """
        routes = self.overlayer.found(target)
        self.arms(target, routes)
        self._ask_leave(routes)
        claim = Claim(target, tuple(aspects), operation, token, queue)
        while True:
            found = self.store.step(target, lambda book: self._admit(book, claim, ttl, planned_end))
            if isinstance(found, LeaseRecord):
                # What it left is lifted first; then we ask again.
                why = "" if found.lease.holder.operation == operation else f"{operation} goes before it"
                self.end(found, by.model_copy(update={"why": why}) if why else by)
                continue
            if found.audit:
                return found
            try:
                sealed = found.model_copy(update={"audit": self._record("acquire", found, by)})
            except MeshError as error:
                if not error.retryable:  # nobody will ask for it again
                    self.store.step(target, functools.partial(OpenBook.forget, lease=found), orders=False)
                raise
            self.store.step(target, functools.partial(_seal, sealed))
            return sealed

    def apply(self, lease: Lease, changes: Sequence[Change], by: Actor = NOBODY) -> Receipt:
        """Lays the changes over the base; see `Mesh.apply`."""
        self.check(lease.target, changes)
        if uncovered := {change.aspect for change in changes} - set(lease.aspects):
            raise InvalidChange(f"lease {lease.holder} does not cover {', '.join(sorted(uncovered))}")
        deadline = lease.deadline(self._clock())

        def intend(book: OpenBook) -> None:
            record = self._held(book, lease)
            self._refuse_halted(book, lease)
            book.write_overlay(Overlay(lease=lease, changes=tuple(changes), deadline=deadline))
            self._beat(book, record)

        before, _ = self.weights(lease.target)
        weights = _weights(changes)
        self.store.step(lease.target, intend)
        digest = self._record("apply", lease, by, changes=changes, before=before, after=weights)
        routes = self.overlayer.lay(lease.target, lease.holder, weights, deadline)
        self._refuse_ended(lease)
        receipt = self._receipt(lease, routes, self._clock(), digest)
        return receipt.model_copy(update={"deadline": self._seen_by_proxies(deadline)})

    def renew(self, lease: Lease) -> Standing:
        """Says that the operation lives, and looks after what it has laid; see `Mesh.renew`."""

        def beat(book: OpenBook) -> tuple[Standing, Overlay | None]:
            record = self._held(book, lease)
            overlay, now = book.overlay_of(lease), self._clock()
            if overlay is not None and overlay.deadline - now < lease.max_unattended / 2:
                # Not sooner: where proxies know of deadlines, each new one is pushed to them.
                overlay = overlay.model_copy(update={"deadline": lease.deadline(now)})
                book.write_overlay(overlay)
            self._beat(book, record)
            halted = Admission(book).halted(lease.holder.operation, lease.target)
            return Standing(halted=halted, yield_to=record.yield_to), overlay

        standing, overlay = self.store.step(lease.target, beat)
        if overlay is not None:
            weights = _weights(overlay.changes)
            done = self.overlayer.look_after(lease.target, lease.holder, weights, overlay.deadline)
            if done:
                self._refuse_ended(lease)
            for why in done:
                self._record("apply", lease, Actor(who=lease.holder.operation, why=why), changes=overlay.changes)
        return standing

    def condemn(self, lease: Lease, reason: str) -> None:
        """From now on the lease cannot be renewed."""

        def mark(book: OpenBook) -> bool:
            record = book.lease_of(lease)
            if record is None or record.condemned:
                return False
            book.write_lease(record.model_copy(update={"condemned": reason}))
            return True

        if self.store.step(lease.target, mark):
            self._record("condemn", lease, Actor(who=lease.holder.operation, why=reason), vital=True)

    def commit(self, lease: Lease, by: Actor = NOBODY) -> Receipt | None:
        """Makes the overlay the base; see `Mesh.commit`."""

        def begin(book: OpenBook) -> LeaseRecord | None:
            overlay, record = book.overlay_of(lease), book.lease_of(lease)
            if record is None:
                if overlay is None and book.committed(lease):
                    return None
                raise Admission(book).lost(lease, self._clock())
            if overlay is None:
                raise LeaseLost(f"{lease.holder} has laid nothing over {lease.target}: nothing to commit")
            if not overlay.committing:
                self._held(book, lease)
                self._refuse_halted(book, lease)
                # One write decides: before it every net goes back, after it every net goes on.
                book.write_overlay(overlay.model_copy(update={"phase": LeasePhase.COMMITTING}))
            return record

        record = self.store.step(lease.target, begin)
        return None if record is None else self.end(record, by)

    def lift(self, lease: Lease, by: Actor = NOBODY) -> Receipt | None:
        """Takes the overlay away; see `Mesh.lift`."""
        book = self.store.open(lease.target, orders=False)
        record = book.lease_of(lease)
        if record is None and book.overlay_of(lease) is None:
            return None
        return self.end(record or _unknown(lease), by)

    def lift_if_unchanged(self, seen: LeaseRecord, by: Actor) -> bool:
        """Ends a lease that stood still, unless it was renewed since `seen` was read; says whether it did."""
        record = self.store.open(seen.lease.target, orders=False).lease_of(seen.lease)
        if record is None or record.beats != seen.beats:
            return False
        self.end(record, by)
        return True

    def leases(self) -> list[LeaseStatus]:
        """Every lease held."""
        halts = self.store.halts()
        found = []
        for book in self.store.books():
            opened = OpenBook(book, halts=halts)
            for record in book.leases:
                overlay = opened.overlay_of(record.lease)
                found.append(
                    LeaseStatus(
                        lease=record.lease,
                        phase=overlay.phase if overlay else LeasePhase.ACTIVE,
                        tier=self.overlayer.tier,
                        acquired=record.acquired,
                        renewed=record.renewed,
                        deadline=self._seen_by_proxies(overlay.deadline) if overlay else None,
                        condemned=record.condemned,
                        halted=Admission(opened).halted(record.lease.holder.operation, book.target),
                        yield_to=record.yield_to,
                        changes=overlay.changes if overlay else (),
                    )
                )
        return found

    def tidy(self, by: Actor = BY_DEADLINE, books: Sequence[Book] | None = None) -> list[str]:
        """Ends what is due, and takes away what no lease stands behind; returns what was done.

        Args:
            by: who does it.
            books: every book, where they have just been read.

        Raises:
            MeshError: of the first target that could not be tidied, after all the others.
        """
        done, failed = [], []
        for book in self.store.books() if books is None else books:
            try:
                done += self._tidy(book, by)
            except MeshError as error:
                failed.append(error)
        if time.monotonic() - self._looked >= LOOK_EVERY:
            self._looked = time.monotonic()
            done += self._sweep_marks(by)
        self.books.settle()
        if failed:
            raise failed[0]
        return done

    def _tidy(self, book: Book, by: Actor) -> list[str]:
        done, now = [], self._clock()
        held = {str(record.lease.holder) for record in book.leases}
        for overlay in book.overlays:
            if str(overlay.lease.holder) not in held:
                self.end(_unknown(overlay.lease), by)
                done.append(f"{book.target}: removed what {overlay.lease.holder} left without a lease")
        for record in book.leases:
            end = record.lease.planned_end
            if end is not None and now > end and self.lift_if_unchanged(record, by):
                done.append(f"{book.target}: {record.lease.holder} was to end by now")
        return done

    def weights(self, target: Target) -> tuple[dict[str, float], dict[str, float]]:
        """Percent by arm: in force now, and when nobody operates."""
        return self.overlayer.in_force(target, self.overlayer.found(target))

    def end(self, record: LeaseRecord, by: Actor) -> Receipt:
        """Takes away what the lease has laid, or finishes its commit where one had begun.

        Routes first, the record next, the lease last: whoever fails in between leaves a lease behind, and does all of
        it again. A lease that was forgotten has nothing laid any more.
        """
        lease = record.lease
        commit = self._begin_end(lease)
        before, _ = self.weights(lease.target)
        notes = self.overlayer.take_away(lease.target, lease.holder.fencing, commit=commit)
        routes = self.overlayer.found(lease.target)
        after, _ = self.overlayer.in_force(lease.target, routes)

        def forget(book: OpenBook) -> None:
            current = book.overlay_of(lease)
            if current is not None and current.committing and commit is None:
                raise LeaseLost(f"{lease.holder} began to commit {lease.target} meanwhile")
            if commit is not None:
                book.remember_commit(lease)
            if record.condemned:
                book.remember_condemned(record)
            book.forget(lease)

        if notes:
            by = by.model_copy(update={"why": "; ".join(filter(None, [by.why, *notes]))})
        action: Action = "lift" if commit is None else "commit"
        digest = self._record(action, lease, by, before=before, after=after, vital=True)
        self.store.step(lease.target, forget, orders=False)
        return self._receipt(lease, routes, self._clock(), digest).model_copy(update={"notes": tuple(notes)})

    def _begin_end(self, lease: Lease) -> dict[str, float] | None:
        """Says in the book that the lease is being ended, so that no commit begins meanwhile.

        Returns:
            The weights that become the base, where a commit had begun before; None for a restore.
        """

        def mark(book: OpenBook) -> Overlay | None:
            record, overlay = book.lease_of(lease), book.overlay_of(lease)
            if record is not None and not (overlay is not None and overlay.committing):
                book.write_lease(record.model_copy(update={"ending": True}))
            return overlay

        try:
            overlay = self.store.step(lease.target, mark, orders=False)
        except (MeshUnavailable, Refused):  # a restore does not wait for that
            overlay = self.store.open(lease.target, orders=False).overlay_of(lease)
        return _weights(overlay.changes) if overlay is not None and overlay.committing else None

    def _ask_leave(self, routes: Sequence[Route]) -> None:
        """Asks whether the routes may be written, with patches that do nothing."""
        for route in routes:
            meta = route.body["metadata"]
            nothing = {"op": "test", "path": "/metadata/name", "value": meta["name"]}
            with contextlib.suppress(Conflict):  # it has moved on; to hear that, one must have leave
                self.store.api.patch(route.resource, meta["name"], meta["namespace"], [nothing], dry_run=True)

    def _admit(self, book: OpenBook, claim: Claim, ttl: float, planned_end: float | None) -> Lease | LeaseRecord:
        """The lease; or the record of one that is to be ended first."""
        now = self._clock()
        admission = Admission(book)
        admission.refuse_ordered(claim, now)
        blockers = []
        for record in book.leases():
            if not claim.excludes(record.lease.aspects):
                continue
            if record.lease.holder.operation != claim.operation:
                blockers.append(record)
            elif record.token != claim.token or record.ending:
                return record  # an earlier run of the same operation, which cannot be running any more; or half ended
            elif record.condemned:
                raise Condemned(f"{claim.operation} did harm to {claim.target}: {record.condemned}")
            elif self._fallen(book.overlay_of(record.lease), now):
                return record  # the proxies gave up what it had laid
            else:
                return record.lease
        if late := admission.overdue(claim, blockers, now):
            return late[0]
        admission.take_turn(claim, now)
        lease = Lease(
            target=claim.target,
            aspects=claim.aspects,
            holder=Holder(operation=claim.operation, fencing=book.next_fencing()),
            ttl=ttl,
            max_unattended=min(ttl, self._max_unattended),
            planned_end=planned_end,
        )
        book.write_lease(LeaseRecord(lease=lease, token=claim.token, acquired=now, renewed=now))
        return lease

    def _sweep_marks(self, by: Actor) -> list[str]:
        """Takes away what no lease stands behind; what fails is handed on after all the others."""
        done, failed = [], []
        for found in self.overlayer.marked(self.store.mesh):
            try:
                done += self._sweep_mark(found, by)
            except MeshError as error:
                failed.append(error)
        if failed and not done:
            raise failed[0]
        return done

    def _sweep_mark(self, found: Marked, by: Actor) -> list[str]:
        book = self.store.open(found.target, orders=False)
        if any(record.lease.holder.fencing == found.mark.fencing for record in book.leases()):
            return []
        notes = self.overlayer.take_away(found.target, found.mark.fencing)
        left = f"{found.mark.operation}#{found.mark.fencing}"
        said = "; ".join([f"{found.route.name}: took away what {left} left without a lease", *notes])
        holder = Holder(operation=found.mark.operation, fencing=found.mark.fencing)
        lease = Lease(target=found.target, aspects=(), holder=holder, ttl=0, max_unattended=0)
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

    def _held(self, book: OpenBook, lease: Lease) -> LeaseRecord:
        record, overlay = book.lease_of(lease), book.overlay_of(lease)
        if record is None:
            raise Admission(book).lost(lease, self._clock())
        if record.condemned:
            raise Condemned(f"the lease of {lease.holder} on {lease.target} was condemned: {record.condemned}")
        if self._fallen(overlay, self._clock()):
            # What was laid must not come back to life by a late renewal.
            raise LeaseLost(f"{lease.holder} did not renew in time: the proxies took {lease.target} back by themselves")
        if record.ending:
            raise LeaseLost(f"{lease.holder} is being ended on {lease.target}: nothing was written")
        if overlay and overlay.committing:
            raise LeaseLost(f"{lease.holder} is committing {lease.target}: it can only be finished")
        return record

    def _refuse_ended(self, lease: Lease) -> None:
        """Where somebody ended us while we wrote, what we wrote must not stay."""
        if self.store.open(lease.target).lease_of(lease) is None:
            self.overlayer.take_away(lease.target, lease.holder.fencing)
            raise LeaseLost(f"{lease.holder} was ended on {lease.target} while it wrote: taken away again")

    def _refuse_halted(self, book: OpenBook, lease: Lease) -> None:
        if halted := Admission(book).halted(lease.holder.operation, lease.target):
            raise Halted(halted)

    def _beat(self, book: OpenBook, record: LeaseRecord) -> None:
        book.write_lease(record.model_copy(update={"renewed": self._clock(), "beats": record.beats + 1}))

    def _seen_by_proxies(self, deadline: float) -> float | None:
        """The deadline, where proxies keep it themselves."""
        return deadline if self.overlayer.tier is Tier.PROXY else None

    def _fallen(self, overlay: Overlay | None, now: float) -> bool:
        """Whether the proxies have gone back to the base by themselves."""
        return self.overlayer.tier is Tier.PROXY and overlay is not None and not overlay.alive(now)

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


def _seal(lease: Lease, book: OpenBook) -> None:
    record = book.lease_of(lease)
    if record is not None:
        book.write_lease(record.model_copy(update={"lease": lease}))


def _unknown(lease: Lease) -> LeaseRecord:
    """A record for what lies there without one."""
    return LeaseRecord(lease=lease, token="", acquired=0, renewed=0)


def _weights(changes: Sequence[Change]) -> dict[str, float]:
    found: dict[str, float] = {}
    for change in changes:
        if isinstance(change, SplitTraffic):
            found |= change.weights
    return found
