"""Who holds what: every step a lease can take, each one transaction on the store.

Synchronous on purpose: a transaction is a few small files under one lock, and is the same for a worker, a guard and a
test that plays a zombie. Every step is recorded (`autopilot.mesh.audit`), ahead of what it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from autopilot.mesh.audit import Action, AuditRecord
from autopilot.mesh.envoy.config import fault_support
from autopilot.mesh.envoy.config.faults import REROUTED
from autopilot.mesh.envoy.state.restore import Ending, unknown
from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.errors import Condemned, Halted, InvalidChange, LeaseLost
from autopilot.mesh.leases.admission import Admission, Claim, refuse_other_write, refuse_stale
from autopilot.mesh.leases.overrides import NOBODY, Actor, LeaseOrders
from autopilot.mesh.leases.records import LeaseRecord, Overlay, Spare
from autopilot.mesh.leases.unreadable import taking
from autopilot.mesh.model import (
    Aspect,
    Change,
    Holder,
    InjectFault,
    Lease,
    LeasePhase,
    LeaseStatus,
    Receipt,
    SplitTraffic,
    Target,
    Tier,
    endpoints_arm,
)


class Ledger(Ending):
    """Leases and overlays of one standalone mesh.

    Args:
        store: where they lie.
        clock: seconds since the epoch.
        told: receives every audit record that was written.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
        told: Callable[[AuditRecord], None] = lambda _: None,
    ) -> None:
        super().__init__(store, clock, told)
        self.admission = Admission(store)

    def check(self, target: Target, changes: Sequence[Change]) -> None:
        """Refuses changes that name what is not there.

        Raises:
            InvalidChange: with the arms there are.
        """
        service = self.service(target)
        for change in changes:
            match change:
                case InjectFault():
                    pass  # all of them together, below
                case SplitTraffic():
                    for arm, weight in change.weights.items():
                        if endpoints_arm(arm) not in service.arms:
                            known = ", ".join(service.arms)
                            raise InvalidChange(f"{target.ref} has no arm {arm}; it has {known}")
                        if weight and not service.arms[endpoints_arm(arm)].endpoints:
                            raise InvalidChange(
                                f"arm {arm} of {target.ref} has no endpoints; start its instances first"
                            )
        fault_support.refuse(self.store.mesh.spec, service, [one for one in changes if isinstance(one, InjectFault)])

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
        """Takes the lease; see `Mesh.acquire`."""
        self.service(target)
        claim = Claim(target, tuple(aspects), operation, token, queue, asked)
        with taking(target), self.store.locked():
            now = self._clock()
            self.admission.refuse_ordered(claim, now)
            self._refuse_hidden(target)
            blockers = []
            for record in self.store.leases():
                if record.lease.target != target or not claim.excludes(record.lease.aspects):
                    continue
                if record.lease.holder.operation != operation:
                    blockers.append(record)
                    continue
                self.admission.refuse_earlier(claim, record)
                if record.token == token:
                    if record.condemned:
                        raise Condemned(f"{operation} did harm to {target}: {record.condemned}")
                    overlay = self.store.overlay_of(record.lease)
                    if overlay is None or overlay.alive(now):
                        return record.lease
                # An earlier run of the same operation, which cannot be running any more, or one whose overlay the
                # proxies gave up: what it left is lifted.
                self.end(record, by)
            for record in self.admission.overdue(claim, blockers, now):
                self.end(
                    record,
                    by.model_copy(update={"why": f"{operation} has a higher priority than {record.lease.holder}"}),
                )
            if (blind := self.store.blind(target, now)) is not None:
                raise blind
            self.admission.take_turn(claim, now)
            lease = Lease(
                target=target,
                aspects=claim.aspects,
                holder=Holder(operation=operation, fencing=self.store.next_fencing(target)),
                ttl=ttl,
                max_unattended=min(ttl, self.store.mesh.spec.max_unattended),
                planned_end=planned_end,
            )
            lease = lease.model_copy(update={"audit": self._record("acquire", lease, by, now)})
            self.store.write_lease(LeaseRecord(lease=lease, token=token, acquired=now, renewed=now, asked=asked))
            return lease

    def _refuse_hidden(self, target: Target) -> None:
        """Refuses a target that somebody may hold by a lease that cannot be read."""
        hidden = next((one for one in self.store.lease_records.unread() if one.ref == target.ref), None)
        if hidden is not None:
            raise hidden.error

    def make_ready(self, lease: Lease, changes: Sequence[Change]) -> bool:
        """Has proxies make the clusters that some faults need, before any route leads there; says whether any do.

        Raises:
            InvalidChange: the changes name what is not there. Nothing was written.
            LeaseLost: the lease is no longer held. Nothing was written.
        """
        self.check(lease.target, changes)
        needed = tuple(one for one in changes if isinstance(one, InjectFault) and isinstance(one.fault, REROUTED))
        if not needed:
            return False
        with self.store.locked():
            self._held(lease)
            before = self.store.spare_of(lease)
            had = before.changes if before else ()
            wanted = (*had, *(one for one in needed if one not in had))
            self.store.write_spare(Spare(lease=lease, changes=wanted))
            self.store.publish(self.store.rendered(self._clock()))
        return True

    def apply(self, lease: Lease, changes: Sequence[Change], by: Actor = NOBODY) -> Receipt:
        """Lays the changes over the base; see `Mesh.apply`."""
        self.check(lease.target, changes)
        with self.store.locked():
            record = self._held(lease)
            self._refuse_halted(lease)
            if uncovered := {change.aspect for change in changes} - set(lease.aspects):
                raise InvalidChange(f"the lease of {lease.holder} does not cover {', '.join(sorted(uncovered))}")
            now = self._clock()
            overlay = Overlay(lease=lease, changes=tuple(changes), deadline=lease.deadline(now))
            # The number first: a later write's is never undone, whatever becomes of this one.
            self._beat(record.model_copy(update={"lease": record.lease.for_write(lease.write)}), now)
            return self._publish("apply", overlay, by, now)

    def renew(self, lease: Lease, *, extend: bool = True) -> LeaseOrders:
        """Renews the lease; see `Mesh.renew`. Without `extend` the proxies' deadline stays as it is."""
        with self.store.locked():
            record = self._held(lease)
            now = self._clock()
            overlay = self.store.overlay_of(lease)
            blind = self.store.blind(lease.target, now, lease)  # then the deadline is left to pass
            if extend and not blind and overlay and self._falls_soon(lease, overlay, now):
                deadline = lease.deadline(now)
                if deadline > overlay.deadline:
                    by = Actor(who=lease.holder.operation, why="half of its time had passed")
                    self._publish("extend", overlay.model_copy(update={"deadline": deadline}), by, now)
            self._beat(record, now)
            halted = self.admission.halted(lease.holder.operation, lease.target)
            return LeaseOrders(halted=halted, yield_to=record.yield_to)

    def falls_soon(self, lease: Lease) -> bool:
        """Whether the next renewal will set a new deadline in the proxies."""
        if self.store.overlay_records.unread_of(lease) is not None:
            return False
        overlay = self.store.overlay_of(lease)
        return overlay is not None and self._falls_soon(lease, overlay, self._clock())

    def condemn(self, lease: Lease, reason: str) -> None:
        """From now on the lease cannot be renewed."""
        with self.store.locked():
            record = self.store.lease_of(lease)
            if record and not record.condemned:
                self.store.write_lease(record.model_copy(update={"condemned": reason}))
                self._record("condemn", lease, Actor(who=lease.holder.operation, why=reason), self._clock())

    def commit(self, lease: Lease, by: Actor = NOBODY) -> Receipt | None:
        """Makes the overlay the base; see `Mesh.commit`."""
        with self.store.locked():
            overlay = self.store.overlay_of(lease)
            record = self.store.lease_of(lease)
            if record is None:
                if overlay is None and self.store.committed(lease):
                    return None
                raise self.admission.lost(lease, self._clock())
            if overlay is None:
                raise LeaseLost(f"{lease.holder} has no overlay on {lease.target}, so there is nothing to commit")
            if not overlay.committing:
                self._held(lease)
                refuse_other_write(lease, overlay.lease)
                self._refuse_halted(lease)
                if (blind := self.store.blind(lease.target, self._clock(), lease)) is not None:
                    raise blind
                # One rename decides: before it every net goes back, after it every net goes on.
                self.store.write_overlay(overlay.model_copy(update={"phase": LeasePhase.COMMITTING}))
            return self.end(record, by)

    def lift(self, lease: Lease, by: Actor = NOBODY) -> Receipt | None:
        """Takes the overlay away; see `Mesh.lift`."""
        with self.store.locked():
            # Its holder itself ends it, so nobody need read its record, which stays where it cannot be read.
            record = None if self.store.lease_records.unread_of(lease) else self.store.lease_of(lease)
            laid = self.store.overlay_records.unread_of(lease) or self.store.overlay_of(lease)
            if record is None and laid is None:
                return None
            return self.end(record or unknown(lease), by)

    def leases(self) -> list[LeaseStatus]:
        """Every lease whose record can be read; of overlays that cannot, the changes are missing."""
        found = []
        for record in self.store.leases():
            unread = self.store.overlay_records.unread_of(record.lease)
            overlay = self.store.overlay_of(record.lease) if unread is None else None
            deadline = overlay.deadline if overlay else None
            if unread is not None and unread.envelope is not None:
                deadline = unread.envelope.deadline
            committing = self.store.committing(record.lease)
            found.append(
                LeaseStatus(
                    lease=record.lease,
                    phase=LeasePhase.COMMITTING if committing else LeasePhase.ACTIVE,
                    tier=Tier.PROXY,
                    acquired=record.acquired,
                    renewed=record.renewed,
                    deadline=deadline,
                    condemned=record.condemned,
                    halted=self.admission.halted(record.lease.holder.operation, record.lease.target),
                    yield_to=record.yield_to,
                    changes=overlay.changes if overlay else (),
                )
            )
        return found

    def _held(self, lease: Lease) -> LeaseRecord:
        record = self.store.lease_of(lease)
        if record is None:
            raise self.admission.lost(lease, self._clock())
        if record.condemned:
            raise Condemned(f"the lease of {lease.holder} on {lease.target} was condemned: {record.condemned}")
        refuse_stale(lease, record.lease)
        overlay = self.store.overlay_of(lease)
        if overlay and not overlay.alive(self._clock()):
            # The proxies fell back by themselves: what was laid must not come back to life by a late renewal.
            raise LeaseLost(
                f"{lease.holder} did not renew in time, so the proxies restored {lease.target} by themselves"
            )
        if overlay and overlay.committing:
            raise LeaseLost(f"{lease.holder} is committing {lease.target}; a commit can only be completed")
        return record

    def _refuse_halted(self, lease: Lease) -> None:
        if halted := self.admission.halted(lease.holder.operation, lease.target):
            raise Halted(halted)

    def _beat(self, record: LeaseRecord, now: float) -> None:
        self.store.write_lease(record.model_copy(update={"renewed": now, "beats": record.beats + 1}))

    def _falls_soon(self, lease: Lease, overlay: Overlay, now: float) -> bool:
        return overlay.deadline - now < lease.max_unattended / 2

    def _publish(self, action: Action, overlay: Overlay, by: Actor, now: float) -> Receipt:
        """Records and writes an overlay, then the files that follow from it."""
        lease = overlay.lease
        if (blind := self.store.blind(lease.target, now, lease)) is not None:
            raise blind
        overlays = [*(item for item in self.store.overlays() if item.lease.holder != lease.holder), overlay]
        files = self.store.rendered(now, overlays)
        earlier = self.store.overlay_of(lease)
        both = (*overlay.changes, *(earlier.changes if earlier else ()))
        answering = self._answering(lease.target, both)
        receipt = self._receipt(lease, files, now, overlay.deadline, answering=answering)
        digest = self._record(
            action,
            lease,
            by,
            now,
            changes=overlay.changes,
            before=self.weights(lease.target),
            after=self.weights(lease.target, overlays),
            receipt=receipt,
        )
        self.store.write_overlay(overlay)
        self.store.publish(files)
        return receipt.model_copy(update={"audit": digest})
