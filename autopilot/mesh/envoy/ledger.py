"""Who holds what: every step a lease can take, each one transaction on the store.

Synchronous on purpose: a transaction is a few small files under one lock, and is the same for a worker, a guard and a
test that plays a zombie.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

from autopilot.mesh.envoy.base import set_weights
from autopilot.mesh.envoy.records import LeaseRecord, Overlay
from autopilot.mesh.envoy.render import ProxyFiles
from autopilot.mesh.envoy.routes import effective_weights, folded
from autopilot.mesh.envoy.store import Store
from autopilot.mesh.errors import InvalidChange, LeaseHeld, LeaseLost
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
    endpoints_arm,
)
from autopilot.spec.mesh import MeshService

_EXCLUDES = {
    Aspect.TRAFFIC: {Aspect.TRAFFIC, Aspect.FAULTS},
    Aspect.FAULTS: {Aspect.TRAFFIC, Aspect.FAULTS},
    Aspect.ACCESS: {Aspect.ACCESS},
    Aspect.RESILIENCE: {Aspect.RESILIENCE},
}


class Ledger:
    """Leases and overlays of one standalone mesh. `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self._clock = clock

    def service(self, target: Target) -> MeshService:
        """The target as the base describes it.

        Raises:
            InvalidChange: no such service in this mesh.
        """
        service = self.store.mesh.spec.service(target.ref)
        if service is None:
            known = ", ".join(sorted(service.ref for service in self.store.mesh.spec.services))
            raise InvalidChange(f"mesh {self.store.mesh.metadata.name} has no service {target.ref}; it has {known}")
        return service

    def check(self, target: Target, changes: Sequence[Change]) -> None:
        """Refuses changes that name what is not there.

        Raises:
            InvalidChange: with the arms there are.
        """
        service = self.service(target)
        for change in changes:
            match change:
                case SplitTraffic():
                    for arm, weight in change.weights.items():
                        if endpoints_arm(arm) not in service.arms:
                            known = ", ".join(service.arms)
                            raise InvalidChange(f"{target.ref} has no arm {arm}; it has {known}")
                        if weight and not service.arms[endpoints_arm(arm)].endpoints:
                            raise InvalidChange(f"arm {arm} of {target.ref} has no endpoints; start it first")

    def acquire(
        self,
        target: Target,
        aspects: Sequence[Aspect],
        *,
        operation: str,
        token: str,
        ttl: float,
        planned_end: float | None,
    ) -> Lease:
        """Takes the lease; see `Mesh.acquire`."""
        self.service(target)
        with self.store.locked():
            now = self._clock()
            for record in self.store.leases():
                if record.lease.target != target or not _exclude(record.lease.aspects, aspects):
                    continue
                if record.lease.holder.operation != operation:
                    holder = record.lease.holder.operation
                    raise LeaseHeld(
                        f"{target} is held by {holder}; wait for its end, or end it with `autopilot abort {holder}`",
                        holder,
                    )
                if record.token == token and not record.condemned:
                    return record.lease
                # An earlier run of the same operation, which cannot be running any more: what it left is lifted.
                self._end(record.lease, commit=self._committing(record.lease))
            lease = Lease(
                target=target,
                aspects=tuple(aspects),
                holder=Holder(operation=operation, fencing=self.store.next_fencing(target)),
                ttl=ttl,
                max_unattended=min(ttl, self.store.mesh.spec.max_unattended),
                planned_end=planned_end,
            )
            self.store.write_lease(LeaseRecord(lease=lease, token=token, acquired=now, renewed=now))
            return lease

    def apply(self, lease: Lease, changes: Sequence[Change]) -> Receipt:
        """Lays the changes over the base; see `Mesh.apply`."""
        self.check(lease.target, changes)
        with self.store.locked():
            record = self._held(lease)
            if uncovered := {change.aspect for change in changes} - set(lease.aspects):
                raise InvalidChange(f"lease {lease.holder} does not cover {', '.join(sorted(uncovered))}")
            now = self._clock()
            overlay = Overlay(lease=lease, changes=tuple(changes), deadline=self._deadline(lease, now))
            self.store.write_overlay(overlay)
            self._beat(record, now)
            return self._publish(lease, now, overlay.deadline)

    def renew(self, lease: Lease) -> None:
        """Says that the operation lives; see `Mesh.renew`."""
        with self.store.locked():
            record = self._held(lease)
            now = self._clock()
            overlay = self.store.overlay_of(lease)
            if overlay and overlay.deadline - now < lease.max_unattended / 2:
                deadline = self._deadline(lease, now)
                if deadline > overlay.deadline:
                    self.store.write_overlay(overlay.model_copy(update={"deadline": deadline}))
                    self._publish(lease, now, deadline)
            self._beat(record, now)

    def condemn(self, lease: Lease, reason: str) -> None:
        """From now on the lease cannot be renewed."""
        with self.store.locked():
            record = self.store.lease_of(lease)
            if record and not record.condemned:
                self.store.write_lease(record.model_copy(update={"condemned": reason}))

    def commit(self, lease: Lease) -> Receipt | None:
        """Makes the overlay the base; see `Mesh.commit`."""
        with self.store.locked():
            overlay = self.store.overlay_of(lease)
            if self.store.lease_of(lease) is None:
                if overlay is None and self.store.committed(lease):
                    return None
                raise LeaseLost(f"{lease.holder} no longer holds {lease.target}: nothing was committed")
            if overlay is None:
                raise LeaseLost(f"{lease.holder} has laid nothing over {lease.target}: nothing to commit")
            if overlay.phase is LeasePhase.ACTIVE:
                self._held(lease)
                # One rename decides: before it every net goes back, after it every net goes on.
                self.store.write_overlay(overlay.model_copy(update={"phase": LeasePhase.COMMITTING}))
            return self._end(lease, commit=True)

    def lift(self, lease: Lease) -> Receipt | None:
        """Takes the overlay away; see `Mesh.lift`."""
        with self.store.locked():
            if self.store.lease_of(lease) is None and self.store.overlay_of(lease) is None:
                return None
            return self._end(lease, commit=self._committing(lease))

    def lift_if_unchanged(self, seen: LeaseRecord) -> bool:
        """Ends a lease that stood still, unless it was renewed since `seen` was read; says whether it did."""
        with self.store.locked():
            record = self.store.lease_of(seen.lease)
            if record is None or record.beats != seen.beats:
                return False
            self._end(seen.lease, commit=self._committing(seen.lease))
            return True

    def leases(self) -> list[LeaseStatus]:
        """Every lease held."""
        found = []
        for record in self.store.leases():
            overlay = self.store.overlay_of(record.lease)
            found.append(
                LeaseStatus(
                    lease=record.lease,
                    phase=overlay.phase if overlay else LeasePhase.ACTIVE,
                    tier=Tier.PROXY,
                    acquired=record.acquired,
                    renewed=record.renewed,
                    deadline=overlay.deadline if overlay else None,
                    condemned=record.condemned,
                    changes=overlay.changes if overlay else (),
                )
            )
        return found

    def tidy(self) -> list[str]:
        """Restores overlays whose lease is gone, and makes every file what it should be; returns what was done."""
        done = []
        with self.store.locked():
            held = {str(record.lease.holder) for record in self.store.leases()}
            for overlay in self.store.overlays():
                if str(overlay.lease.holder) not in held:
                    self._end(overlay.lease, commit=overlay.phase is LeasePhase.COMMITTING)
                    done.append(f"{overlay.lease.target}: removed what {overlay.lease.holder} left without a lease")
            if written := self.store.publish(self.store.rendered(self._clock())):
                done.append(f"rewrote {', '.join(path.parent.name + '/' + path.name for path in written)}")
        return done

    def weights(self, target: Target) -> dict[str, float]:
        """The target's weights in force now, in percent."""
        now = self._clock()
        changes = [
            change
            for overlay in self.store.overlays()
            if overlay.lease.target == target and overlay.alive(now)
            for change in overlay.changes
        ]
        return folded(effective_weights(self.service(target), changes))

    def _held(self, lease: Lease) -> LeaseRecord:
        record = self.store.lease_of(lease)
        if record is None:
            raise LeaseLost(f"{lease.holder} no longer holds {lease.target}: nothing was written")
        if record.condemned:
            raise LeaseLost(f"the lease of {lease.holder} on {lease.target} was condemned: {record.condemned}")
        overlay = self.store.overlay_of(lease)
        if overlay and not overlay.alive(self._clock()):
            # The proxies fell back by themselves: what was laid must not come back to life by a late renewal.
            raise LeaseLost(f"{lease.holder} did not renew in time: the proxies took {lease.target} back by themselves")
        if overlay and overlay.phase is LeasePhase.COMMITTING:
            raise LeaseLost(f"{lease.holder} is committing {lease.target}: it can only be finished")
        return record

    def _committing(self, lease: Lease) -> bool:
        overlay = self.store.overlay_of(lease)
        return overlay is not None and overlay.phase is LeasePhase.COMMITTING

    def _end(self, lease: Lease, *, commit: bool) -> Receipt:
        overlay = self.store.overlay_of(lease)
        if commit and overlay is not None:
            service = self.service(lease.target)
            set_weights(self.store.mesh_file, service.ref, folded(effective_weights(service, overlay.changes)))
            self.store.remember_commit(lease)
        others = [item for item in self.store.overlays() if item.lease.holder != lease.holder]
        now = self._clock()
        files = self.store.rendered(now, others)
        self.store.publish(files)
        self.store.forget(lease)
        return self._receipt(lease, files, now, None)

    def _beat(self, record: LeaseRecord, now: float) -> None:
        self.store.write_lease(record.model_copy(update={"renewed": now, "beats": record.beats + 1}))

    def _deadline(self, lease: Lease, now: float) -> float:
        deadline = now + lease.max_unattended
        return deadline if lease.planned_end is None else min(deadline, lease.planned_end)

    def _publish(self, lease: Lease, now: float, deadline: float) -> Receipt:
        files = self.store.rendered(now)
        self.store.publish(files)
        return self._receipt(lease, files, now, deadline)

    def _receipt(self, lease: Lease, files: dict[str, ProxyFiles], now: float, deadline: float | None) -> Receipt:
        versions = self.store.route_versions(files, lease.target)
        digest = hashlib.sha256("\n".join(f"{name} {versions[name]}" for name in sorted(versions)).encode()).hexdigest()
        return Receipt(
            target=lease.target, holder=lease.holder, digest=digest, versions=versions, deadline=deadline, written=now
        )


def _exclude(held: Sequence[Aspect], wanted: Sequence[Aspect]) -> bool:
    return any(aspect in _EXCLUDES[other] for other in held for aspect in wanted)
