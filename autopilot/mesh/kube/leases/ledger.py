"""Leases in a cluster: every step of a lease, each a compare-and-set on the target's book.

The same steps as a standalone mesh's ledger, in another order of writes: first the book says what is meant, then routes
are written, each for the version that was read. A late write of a former holder meets a route that has moved on, or
leaves a mark that no lease stands behind, which the next sweep takes away.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence

from autopilot.mesh.audit import AuditRecord
from autopilot.mesh.errors import Condemned, Halted, InvalidChange, LeaseLost, MeshError, UnreadableRecord
from autopilot.mesh.kube.client.api_errors import Conflict
from autopilot.mesh.kube.client.resources import SERVICE
from autopilot.mesh.kube.faults.driver import FaultDriver
from autopilot.mesh.kube.leases.restore import Ending, injected_of, lays, split_of, unknown, weights_of
from autopilot.mesh.kube.routes.base import Route, addresses, service_of
from autopilot.mesh.kube.routes.overlay_port import Overlays
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.kube.state.target_record import OpenTargetRecord
from autopilot.mesh.leases.admission import Admission, Claim, refuse_other_write, refuse_stale
from autopilot.mesh.leases.overrides import NOBODY, Actor, LeaseOrders
from autopilot.mesh.leases.records import LeaseRecord, Overlay
from autopilot.mesh.leases.unreadable import taking
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


class KubeLedger(Ending):
    """Leases and overlays of one mesh in one cluster.

    Args:
        store: where they lie.
        overlayer: lays splits.
        max_unattended: seconds without renewal that nothing outlives.
        clock: seconds since the epoch.
        told: receives every audit record that was written.
        faults: lays faults; by default as the plain driver does.
    """

    def __init__(
        self,
        store: KubeStore,
        overlayer: Overlays,
        max_unattended: float,
        clock: Callable[[], float] = time.time,
        told: Callable[[AuditRecord], None] = lambda _: None,
        *,
        faults: FaultDriver | None = None,
    ) -> None:
        super().__init__(store, overlayer, clock, told, faults=faults)
        self._max_unattended = max_unattended

    def arms(self, target: Target, split: SplitTraffic) -> dict[str, tuple[str, ...]]:
        """The arms of a split, and what answers for each.

        Raises:
            InvalidChange: one is not there, or something leads to stable that cannot be driven.
        """
        overlayer = self.overlayer
        resolved = overlayer.resolved(target, split.ordered, split.choice)
        return {arm: overlayer.routes.endpoints(backends[0]) for arm, backends in resolved.arms.items()}

    def check(self, target: Target, changes: Sequence[Change]) -> None:
        """Refuses changes that name what is not there, or that cannot be said here.

        Raises:
            InvalidChange: with the arms there are, or with what comes nearest.
        """
        if injected := injected_of(changes):
            self.faults.check(target, injected)
        if (split := split_of(changes)) is None:
            return
        for arm, endpoints in self.arms(target, split).items():
            if split.weights[arm] and not endpoints:
                raise InvalidChange(f"arm {arm} of {target.ref} has no ready endpoints; start its pods first")

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
        asked: float = 0.0,
    ) -> Lease:
        """Takes the lease; see `Mesh.acquire`.

        Raises:
            Forbidden: routes may not be written: better said now than with the lease in hand.
        """
        with taking(target):
            return self._acquire(Claim(target, tuple(aspects), operation, token, queue, asked), ttl, planned_end, by)

    def _acquire(self, claim: Claim, ttl: float, planned_end: float | None, by: Actor) -> Lease:
        target, aspects, operation = claim.target, claim.aspects, claim.operation
        if Aspect.FAULTS in aspects and Aspect.TRAFFIC not in aspects:
            routes = self.faults.found(target)
            self.faults.refuse_unread(target, routes)
        else:
            # Also whether they may be looked at: better said now than with the lease in hand.
            services = self.store.api.list(SERVICE, target.namespace)
            addresses(self.store.api, target.namespace, target.service)
            routes = self.overlayer.found(target) or self.overlayer.nearby(target)
            if not (routes or any(one["metadata"]["name"] == target.service for one in services)):
                # Where there are routes, the target may be a name alone, its arms Services: then the first split tells.
                service_of(self.store.api, target)
        self.overlayer.refuse_unread(target, routes)
        self._ask_leave(routes)
        while True:
            found = self.store.step(target, lambda book: self._admit(book, claim, ttl, planned_end))
            if isinstance(found, LeaseRecord):
                # What it left is lifted first; then we ask again.
                why = "" if found.lease.holder.operation == operation else f"{operation} has a higher priority"
                self.end(found, by.model_copy(update={"why": why}) if why else by)
                continue
            if found.audit:
                return found
            try:
                sealed = found.model_copy(update={"audit": self._record("acquire", found, by)})
            except MeshError as error:
                if not error.retryable:  # no process will ask for it again
                    self.store.step(target, functools.partial(OpenTargetRecord.forget, lease=found), orders=False)
                raise
            self.store.step(target, functools.partial(_seal, sealed))
            return sealed

    def apply(self, lease: Lease, changes: Sequence[Change], by: Actor = NOBODY) -> Receipt:
        """Lays the changes over the base; see `Mesh.apply`."""
        self.check(lease.target, changes)
        if uncovered := {change.aspect for change in changes} - set(lease.aspects):
            raise InvalidChange(f"the lease of {lease.holder} does not cover {', '.join(sorted(uncovered))}")
        deadline = lease.deadline(self._clock())

        def intend(book: OpenTargetRecord) -> None:
            record = self._held(book, lease)
            self._refuse_halted(book, lease)
            book.write_overlay(Overlay(lease=lease, changes=tuple(changes), deadline=deadline))
            self._beat(book, record.model_copy(update={"lease": record.lease.for_write(lease.write)}))

        before, weights = self._shared(lease), weights_of(changes)
        self.store.step(lease.target, intend)
        digest = self._record("apply", lease, by, changes=changes, before=before, after=weights)
        routes, notes = self._lay(lease, changes, deadline)
        self._refuse_superseded(lease)
        receipt = self._receipt(lease, routes, self._clock(), digest)
        seen = self._seen_by_proxies(deadline, changes)
        return receipt.model_copy(update={"deadline": seen, "notes": tuple(notes)})

    def _lay(self, lease: Lease, changes: Sequence[Change], deadline: float) -> tuple[list[Route], list[str]]:
        """Lays the changes in place of those before; what it wrote, and what of those before was not ours any more."""
        target, writer = lease.target, lease.writer
        routes: list[Route] = []
        notes: list[str] = []
        if split := split_of(changes):
            routes += self.overlayer.lay(target, writer, split.ordered, deadline, choice=split.choice)
        elif lays(lease, Aspect.TRAFFIC):
            notes += self.overlayer.take_away(target, writer.fencing, write=writer.write)
        if injected := injected_of(changes):
            routes += self.faults.lay(target, writer, injected, deadline)[0]
        elif lays(lease, Aspect.FAULTS):
            notes += self.faults.take_away(target, writer.fencing, write=writer.write)
        return routes, notes

    def renew(self, lease: Lease) -> LeaseOrders:
        """Renews the lease and repairs its overlay; see `Mesh.renew`."""

        def beat(book: OpenTargetRecord) -> tuple[LeaseOrders, Overlay | None]:
            record = self._held(book, lease)
            overlay, now = book.overlay_of(lease), self._clock()
            if overlay is not None and overlay.deadline - now < lease.max_unattended / 2:
                # Not sooner: where proxies know of deadlines, each new one is pushed to them.
                overlay = overlay.model_copy(update={"deadline": lease.deadline(now)})
                book.write_overlay(overlay)
            self._beat(book, record)
            halted = Admission(book).halted(lease.holder.operation, lease.target)
            return LeaseOrders(halted=halted, yield_to=record.yield_to), overlay

        standing, overlay = self.store.step(lease.target, beat)
        if overlay is not None:
            done: list[str] = []
            writer = overlay.lease.writer
            if split := split_of(overlay.changes):
                choice = split.choice
                done += self.overlayer.look_after(lease.target, writer, split.ordered, overlay.deadline, choice=choice)
            if injected := injected_of(overlay.changes):
                done += self.faults.look_after(lease.target, writer, injected, overlay.deadline)
            if done:
                self._refuse_superseded(overlay.lease)
            for why in done:
                self._record("apply", lease, Actor(who=lease.holder.operation, why=why), changes=overlay.changes)
        return standing

    def condemn(self, lease: Lease, reason: str) -> None:
        """From now on the lease cannot be renewed."""

        def mark(book: OpenTargetRecord) -> bool:
            record = book.lease_of(lease)
            if record is None or record.condemned:
                return False
            book.write_lease(record.model_copy(update={"condemned": reason}))
            return True

        if self.store.step(lease.target, mark):
            self._record("condemn", lease, Actor(who=lease.holder.operation, why=reason), vital=True)

    def commit(self, lease: Lease, by: Actor = NOBODY) -> Receipt | None:
        """Makes the overlay the base; see `Mesh.commit`."""

        def begin(book: OpenTargetRecord) -> LeaseRecord | None:
            overlay, record = book.overlay_of(lease), book.lease_of(lease)
            if record is None:
                if overlay is None and book.committed(lease):
                    return None
                raise Admission(book).lost(lease, self._clock())
            if overlay is None:
                raise LeaseLost(f"{lease.holder} has no overlay on {lease.target}, so there is nothing to commit")
            if not overlay.committing:
                if injected_of(overlay.changes):
                    raise InvalidChange(f"{lease.holder} has laid faults, which cannot be committed; lift the lease")
                self._held(book, lease)
                refuse_other_write(lease, overlay.lease)
                self._refuse_halted(book, lease)
                # One write decides: before it every net goes back, after it every net goes on.
                book.write_overlay(overlay.model_copy(update={"phase": LeasePhase.COMMITTING}))
            return record

        record = self.store.step(lease.target, begin)
        return None if record is None else self.end(record, by)

    def lift(self, lease: Lease, by: Actor = NOBODY) -> Receipt | None:
        """Takes the overlay away; see `Mesh.lift`."""
        try:
            book = self.store.open(lease.target, orders=False)
        except UnreadableRecord as error:
            if not error.damaged:
                raise  # a commit may have begun, which only a version that reads the book can complete
            return self.restore_beside(lease, by)
        # Its holder itself ends it, so nobody need read its record, which stays where it cannot be read.
        record = book.readable_lease_of(lease)
        hidden = book.book.maybe_held(lease.holder.fencing) or book.unread_of(lease) is not None
        if record is None and book.readable_overlay_of(lease) is None and not hidden:
            return None
        return self.end(record or unknown(lease), by)

    def leases(self) -> list[LeaseStatus]:
        """Every lease whose record can be read; of overlays that cannot, deadline and changes are missing."""
        halts = self.store.halts()
        found = []
        for book in self.store.books():
            opened = OpenTargetRecord(book, halts=halts)
            for record in book.leases:
                overlay = opened.readable_overlay_of(record.lease)
                committing = opened.committing(record.lease)
                found.append(
                    LeaseStatus(
                        lease=record.lease,
                        phase=LeasePhase.COMMITTING if committing else LeasePhase.ACTIVE,
                        tier=self.tier(overlay.changes if overlay else ()),
                        acquired=record.acquired,
                        renewed=record.renewed,
                        deadline=self._seen_by_proxies(overlay.deadline, overlay.changes) if overlay else None,
                        condemned=record.condemned,
                        halted=Admission(opened).halted(record.lease.holder.operation, book.target),
                        yield_to=record.yield_to,
                        changes=overlay.changes if overlay else (),
                    )
                )
        return found

    def _ask_leave(self, routes: Sequence[Route]) -> None:
        """Asks whether the routes may be written, with patches that do nothing."""
        for route in routes:
            meta = route.body["metadata"]
            nothing = {"op": "test", "path": "/metadata/name", "value": meta["name"]}
            with contextlib.suppress(Conflict):  # it has moved on; to hear that, one must have leave
                self.store.api.patch(route.resource, meta["name"], meta["namespace"], [nothing], dry_run=True)

    def _admit(
        self, book: OpenTargetRecord, claim: Claim, ttl: float, planned_end: float | None
    ) -> Lease | LeaseRecord:
        """The lease; or the record of one that is to be ended first."""
        now = self._clock()
        admission = Admission(book)
        admission.refuse_ordered(claim, now)
        book.refuse_hidden()
        blockers = []
        for record in book.leases():
            if not claim.excludes(record.lease.aspects):
                continue
            if record.lease.holder.operation != claim.operation:
                blockers.append(record)
                continue
            admission.refuse_earlier(claim, record)
            if record.token != claim.token or record.ending:
                return record  # an earlier run of the same operation, which has ended; or half ended
            if record.condemned:
                raise Condemned(f"{claim.operation} did harm to {claim.target}: {record.condemned}")
            if self._fallen(book.overlay_of(record.lease), now):
                return record  # the proxies gave up what it had laid
            return record.lease
        if late := admission.overdue(claim, blockers, now):
            return late[0]
        book.refuse_blind(now)
        admission.take_turn(claim, now)
        lease = Lease(
            target=claim.target,
            aspects=claim.aspects,
            holder=Holder(operation=claim.operation, fencing=book.next_fencing()),
            ttl=ttl,
            max_unattended=min(ttl, self._max_unattended),
            planned_end=planned_end,
        )
        book.write_lease(LeaseRecord(lease=lease, token=claim.token, acquired=now, renewed=now, asked=claim.asked))
        return lease

    def _held(self, book: OpenTargetRecord, lease: Lease) -> LeaseRecord:
        record, overlay = book.lease_of(lease), book.overlay_of(lease)
        if record is None:
            raise Admission(book).lost(lease, self._clock())
        if record.condemned:
            raise Condemned(f"the lease of {lease.holder} on {lease.target} was condemned: {record.condemned}")
        refuse_stale(lease, record.lease)
        if self._fallen(overlay, self._clock()):
            # What was laid must not come back to life by a late renewal.
            raise LeaseLost(
                f"{lease.holder} did not renew in time, so the proxies restored {lease.target} by themselves"
            )
        if record.ending:
            raise LeaseLost(f"{lease.holder} is being ended on {lease.target}, so nothing was written")
        if overlay and overlay.committing:
            raise LeaseLost(f"{lease.holder} is committing {lease.target}; a commit can only be completed")
        return record

    def _refuse_superseded(self, lease: Lease) -> None:
        """What we wrote must not stay where somebody ended us meanwhile, or a later write of ours was accepted.

        A later write that laid nothing leaves no mark that could have refused ours.
        """
        record = self.store.open(lease.target).lease_of(lease)
        if record is not None:
            if record.lease.write > lease.write:
                self._take_away(lease, write=lease.write)
            refuse_stale(lease, record.lease)
        else:
            self._take_away(lease)
            raise LeaseLost(f"{lease.holder} was ended on {lease.target} while it wrote; the write was removed again")

    def _refuse_halted(self, book: OpenTargetRecord, lease: Lease) -> None:
        if halted := Admission(book).halted(lease.holder.operation, lease.target):
            raise Halted(halted)

    def _beat(self, book: OpenTargetRecord, record: LeaseRecord) -> None:
        book.write_lease(record.model_copy(update={"renewed": self._clock(), "beats": record.beats + 1}))

    def tier(self, changes: Sequence[Change]) -> Tier:
        """What restores these changes when no process of Autopilot lives."""
        injected = injected_of(changes)
        return self.faults.tier(injected) if injected else self.overlayer.tier

    def _seen_by_proxies(self, deadline: float, changes: Sequence[Change]) -> float | None:
        """The deadline, where proxies keep it themselves."""
        return deadline if self.tier(changes) is Tier.PROXY else None

    def _fallen(self, overlay: Overlay | None, now: float) -> bool:
        """Whether the proxies have gone back to the base by themselves, or to a part of it."""
        if overlay is None or overlay.alive(now):
            return False
        injected = injected_of(overlay.changes)
        return self.faults.expire(injected) if injected else self.overlayer.tier is Tier.PROXY


def _seal(lease: Lease, book: OpenTargetRecord) -> None:
    record = book.lease_of(lease)
    if record is not None:
        book.write_lease(record.model_copy(update={"lease": lease}))
