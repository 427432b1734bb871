"""Ends leases of a standalone mesh: restores or commits, from any process, and tidies what nobody holds.

A restore needs no understanding of what was laid, for the base is known: so an overlay of a newer version can be
removed too. Only what was being committed waits for a version that can read it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

from autopilot.mesh.audit import Action, AuditRecord
from autopilot.mesh.audit_writer import AuditWriter
from autopilot.mesh.envoy.config.laid_fault import Laid
from autopilot.mesh.envoy.config.render import ProxyFiles
from autopilot.mesh.envoy.config.routes import effective_weights, folded
from autopilot.mesh.envoy.mesh_file import set_weights
from autopilot.mesh.envoy.state.record_folder import Unread
from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.errors import InvalidChange, MeshError, UnreadableRecord
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.leases.records import LeaseRecord, Overlay
from autopilot.mesh.model import Change, InjectFault, Lease, Receipt, Target
from autopilot.spec.mesh import MeshService

_LINGERING = 30.0
"""Seconds beyond the longest answer that clusters of faults outlive them."""
BY_DEADLINE = Actor(who="autopilot", net="mesh", why="its deadline passed")


class Ending:
    """The half of a ledger that ends leases.

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
        self.store = store
        self._clock = clock
        self.books = AuditWriter(lambda: store.journal, told)

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

    def lift_if_unchanged(self, seen: LeaseRecord, by: Actor) -> bool:
        """Ends a lease that stood still, unless it was renewed since `seen` was read; says whether it did."""
        with self.store.locked():
            record = self.store.lease_of(seen.lease)
            if record is None or record.beats != seen.beats:
                return False
            self.end(record, by)
            return True

    def tidy(self, by: Actor = BY_DEADLINE) -> list[str]:
        """Restores overlays whose lease is gone, and makes every file what it should be; returns what was done.

        Raises:
            MeshError: of the first overlay that could not be removed, after all else.
        """
        done: list[str] = []
        failed: list[MeshError] = []
        with self.store.locked():
            now = self._clock()
            leases, hidden = self.store.lease_records.read()
            held = {str(record.lease.holder) for record in leases}
            # Whether such a lease is alive cannot be known: what it has laid stays until its deadline.
            maybe = {(one.ref, one.fencing) for one in hidden}
            self._drop_spares(held, maybe, now)
            for overlay in self.store.overlays():
                lease = overlay.lease
                if str(lease.holder) in held or (lease.target.ref, lease.holder.fencing) in maybe:
                    continue
                try:
                    self.end(unknown(lease), by)
                except MeshError as error:
                    failed.append(error)  # one target's trouble is not another's
                    continue
                done.append(f"{lease.target}: removed an overlay of {lease.holder} that had no lease any more")
            if written := self.store.publish(self.store.rendered(now)):
                done.append(f"rewrote {', '.join(path.parent.name + '/' + path.name for path in written)}")
                for overlay in self.store.overlays():
                    if not overlay.alive(now):
                        self._record("expire", overlay.lease, by, now, vital=True)
            self.books.settle()
        if troubles := [error for error in failed if not isinstance(error, UnreadableRecord)]:
            raise troubles[0]
        return done

    def weights(self, target: Target, overlays: Sequence[Overlay] | None = None) -> dict[str, float]:
        """The target's weights in percent: in force now, or under these overlays."""
        now = self._clock()
        changes = [
            change
            for overlay in (self.store.overlays() if overlays is None else overlays)
            if overlay.lease.target == target and overlay.alive(now)
            for change in overlay.changes
        ]
        return folded(effective_weights(self.service(target), changes))

    def end(self, record: LeaseRecord, by: Actor) -> Receipt:
        """Takes what the lease has laid away, or finishes its commit where one had begun. Needs the store's lock.

        Raises:
            UnreadableRecord: only another version can end it, or tell the routes after it. Nothing was written.
        """
        lease, now = record.lease, self._clock()
        unread = self.store.overlay_records.unread_of(lease)
        overlay = self.store.overlay_of(lease) if unread is None else None
        self._refuse_unknown_end(lease, overlay, unread, now)
        others = [item for item in self.store.overlays() if item.lease.holder != lease.holder]
        commit = overlay is not None and overlay.committing
        before = self.weights(lease.target)
        if commit and overlay is not None:
            service = self.service(lease.target)
            set_weights(self.store.mesh_file, service.ref, folded(effective_weights(service, overlay.changes)))
            self.store.remember_commit(lease)
        if record.condemned:
            self.store.remember_condemned(record)
        if self.store.spare_records.unread_of(lease) is None and (spare := self.store.spare_of(lease)):
            # Requests that are on their way through these clusters must find them there until they are answered.
            self.store.write_spare(spare.model_copy(update={"until": now + self._lingering(lease.target)}))
        files = self.store.rendered(now, others, ending=lease)
        answering = unread is not None or self._answering(lease.target, overlay.changes if overlay else ())
        receipt = self._receipt(lease, files, now, None, answering=answering)
        action: Action = "commit" if commit else "lift"
        digest = self._record(
            action, lease, by, now, before=before, after=self.weights(lease.target, others), receipt=receipt, vital=True
        )
        self.store.publish(files)
        self.store.remember_run(record)
        self.store.forget(lease)
        return receipt.model_copy(update={"audit": digest})

    def _refuse_unknown_end(self, lease: Lease, overlay: Overlay | None, unread: Unread | None, now: float) -> None:
        if unread is not None and not (unread.error.damaged if unread.envelope is None else unread.envelope.active):
            raise unread.error  # it may be a commit, which only a version that reads it can complete
        in_force = unread.may_be_in_force(now) if unread is not None else overlay is not None and overlay.alive(now)
        if in_force and (blind := self.store.blind(lease.target, now, lease)) is not None:
            # Another operation's: without it no routes can be told that lack this overlay alone. The deadline holds.
            raise blind

    def _record(
        self,
        action: Action,
        lease: Lease,
        by: Actor,
        now: float,
        *,
        changes: Sequence[Change] = (),
        before: dict[str, float] | None = None,
        after: dict[str, float] | None = None,
        receipt: Receipt | None = None,
        vital: bool = False,
    ) -> str:
        record = AuditRecord(
            sequence=0,
            time=now,
            action=action,
            actor=by,
            target=str(lease.target),
            operation=lease.holder.operation,
            fencing=lease.holder.fencing,
            changes=tuple(changes),
            before=before or {},
            after=after or {},
            receipt=receipt.digest if receipt else "",
        )
        return self.books.write(record, vital=vital)

    def _lingering(self, target: Target) -> float:
        service = self.store.mesh.spec.service(target.ref)
        return (service.timeout if service else 0.0) + _LINGERING

    def _drop_spares(self, held: set[str], maybe: set[tuple[str, int | None]], now: float) -> None:
        for spare in self.store.spares():
            if str(spare.lease.holder) in held or (spare.lease.target.ref, spare.lease.holder.fencing) in maybe:
                continue
            if spare.until is None:  # its end was not recorded: count from now
                self.store.write_spare(spare.model_copy(update={"until": now + self._lingering(spare.lease.target)}))
            elif now > spare.until:
                self.store.drop_spare(spare)

    def _answering(self, target: Target, changes: Sequence[Change]) -> bool:
        """Whether some of the changes are made where the target answers."""
        service = self.store.mesh.spec.service(target.ref)
        laid = [Laid(service, 0, one) for one in changes if service and isinstance(one, InjectFault)]
        return any(one.inbound for one in laid)

    def _receipt(
        self, lease: Lease, files: dict[str, ProxyFiles], now: float, deadline: float | None, *, answering: bool
    ) -> Receipt:
        versions = self.store.route_versions(files, lease.target, answering=answering)
        digest = hashlib.sha256("\n".join(f"{name} {versions[name]}" for name in sorted(versions)).encode()).hexdigest()
        return Receipt(
            target=lease.target, holder=lease.holder, digest=digest, versions=versions, deadline=deadline, written=now
        )


def unknown(lease: Lease) -> LeaseRecord:
    """A record for what lies there without one."""
    return LeaseRecord(lease=lease, token="", acquired=0, renewed=0)
