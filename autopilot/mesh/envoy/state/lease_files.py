"""The records of a standalone mesh, as files: what is held and laid, and what must be remembered of it.

What cannot be read is kept as it is, and raises only for the very lease or target that it is about.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from autopilot.mesh.envoy.atomic_files import parse, read_text, write_atomically
from autopilot.mesh.envoy.state.audit_log import AuditLog
from autopilot.mesh.envoy.state.overrides_store import OverridesStore
from autopilot.mesh.envoy.state.record_folder import RecordFolder, Unread, replaceable
from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.leases.records import Condemnation, LastRun, LeaseRecord, Overlay, Spare
from autopilot.mesh.model import Lease, LeasePhase, Target
from autopilot.wire import Wire


class Records:
    """Everything below `<directory>/autopilot`. Methods that write need the store's lock."""

    @property
    def directory(self) -> Path:
        """Where everything but the mesh file lies."""
        raise NotImplementedError

    @property
    def orders(self) -> OverridesStore:
        """People's orders, and the queue."""
        return OverridesStore(self.directory / "autopilot" / "orders")

    @property
    def journal(self) -> AuditLog:
        """The audit records."""
        return AuditLog(self.directory / "autopilot" / "audit.jsonl")

    @property
    def lease_records(self) -> RecordFolder[LeaseRecord]:
        """Who holds what."""
        return RecordFolder(self.directory / "autopilot" / "leases", LeaseRecord, self.aside)

    @property
    def overlay_records(self) -> RecordFolder[Overlay]:
        """What is laid, in force or not."""
        return RecordFolder(self.directory / "autopilot" / "overlays", Overlay, self.aside)

    @property
    def spare_records(self) -> RecordFolder[Spare]:
        """Clusters that were made for faults, in use or not."""
        return RecordFolder(self.directory / "autopilot" / "spares", Spare, self.aside)

    @property
    def aside(self) -> Path:
        """Where damaged records go whose operation has ended."""
        return self.directory / "autopilot" / "unreadable"

    def leases(self) -> list[LeaseRecord]:
        """Every lease whose record can be read."""
        return self.lease_records.records()

    def overlays(self) -> list[Overlay]:
        """Every overlay whose record can be read, in force or not."""
        return self.overlay_records.records()

    def lease_of(self, lease: Lease) -> LeaseRecord | None:
        """The record of this very lease; None when it is gone.

        Raises:
            UnreadableRecord: it cannot be read.
        """
        return self.lease_records.of(lease)

    def overlay_of(self, lease: Lease) -> Overlay | None:
        """What this lease has laid, or None.

        Raises:
            UnreadableRecord: its record cannot be read.
        """
        return self.overlay_records.of(lease)

    def committing(self, lease: Lease) -> bool:
        """Whether what this lease has laid is becoming the base."""
        if (unread := self.overlay_records.unread_of(lease)) is not None:
            return unread.envelope is not None and unread.envelope.phase == LeasePhase.COMMITTING
        overlay = self.overlay_of(lease)
        return overlay is not None and overlay.committing

    def blind(self, target: Target, now: float, besides: Lease | None = None) -> UnreadableRecord | None:
        """Why the routes of a target cannot be rendered at `now`, seconds since the epoch; None where they can.

        Args:
            target: whose routes.
            now: overlays that are known to be over by then are nothing to render.
            besides: a lease whose own overlay is left out.
        """
        return next((one.error for one in self.hidden(now, besides) if one.ref == target.ref), None)

    def hidden(self, now: float, besides: Lease | None = None) -> list[Unread]:
        """Overlays that cannot be read and may be in force at `now`, besides a lease's own."""
        return [
            one
            for one in self.overlay_records.unread()
            if one.may_be_in_force(now) and (besides is None or not one.is_of(besides))
        ]

    def next_fencing(self, target: Target) -> int:
        """Counts one holder more for the target; never gives the same number twice.

        Raises:
            UnreadableRecord: the last number cannot be read.
        """
        path = self.fencing_file(target)
        said = read_text(path)
        if said is not None and not said.strip().isdecimal():
            raise UnreadableRecord(str(path), "it is not a number")
        number = int(said) + 1 if said is not None else 1
        write_atomically(path, f"{number}\n")
        return number

    def write_lease(self, record: LeaseRecord) -> None:
        """Writes a lease record."""
        lease = record.lease
        write_atomically(self.lease_records.path(lease.target, lease.holder), record.model_dump_json())

    def write_overlay(self, overlay: Overlay) -> None:
        """Writes an overlay record; `publish` makes proxies follow it."""
        lease = overlay.lease
        write_atomically(self.overlay_records.path(lease.target, lease.holder), overlay.model_dump_json())

    def spares(self) -> list[Spare]:
        """Clusters that were made for faults, in use or not."""
        return self.spare_records.records()

    def write_spare(self, spare: Spare) -> None:
        """Writes which clusters a lease needs; `publish` makes proxies have them."""
        lease = spare.lease
        write_atomically(self.spare_records.path(lease.target, lease.holder), spare.model_dump_json())

    def spare_of(self, lease: Lease) -> Spare | None:
        """The clusters made for this lease, or None.

        Raises:
            UnreadableRecord: the record of them cannot be read.
        """
        return self.spare_records.of(lease)

    def drop_spare(self, spare: Spare) -> None:
        """Removes a spare: no request is in flight through its clusters any more."""
        self.spare_records.remove(spare.lease)

    def forget(self, lease: Lease) -> None:
        """Removes the overlay first and the lease last, so that a crash between leaves a lease to be swept.

        A lease record that cannot be read stays: another version may know more of it.
        """
        self.overlay_records.remove(lease)
        if self.lease_records.unread_of(lease) is None:
            self.lease_records.remove(lease)

    def remember_commit(self, lease: Lease) -> None:
        """Notes which holder was the last to commit, so that a repeated commit is told from a late one."""
        path = self._committed_file(lease.target)
        with contextlib.suppress(UnreadableRecord):  # it is kept, and the commit that it tells of is long over
            read_text(path)
            write_atomically(path, str(lease.holder))

    def committed(self, lease: Lease) -> bool:
        """Whether this lease was the last to be committed on its target.

        Raises:
            UnreadableRecord: who was, cannot be read.
        """
        return read_text(self._committed_file(lease.target)) == str(lease.holder)

    def remember_condemned(self, record: LeaseRecord) -> None:
        """Notes whose harm was found last: its run must not take the target again."""
        noted = Condemnation(
            operation=record.lease.holder.operation, token=record.token, reason=record.condemned or "harm was found"
        )
        self._note(self._condemned_file(record.lease.target), noted)

    def condemned(self, target: Target) -> Condemnation | None:
        """Whose harm was found last on the target."""
        return parse(self._condemned_file(target), Condemnation)

    def remember_run(self, record: LeaseRecord) -> None:
        """Notes whose lease ended last: an earlier run of the same operation must not take the target."""
        if (last := LastRun.of(record)) is not None:
            self._note(self._last_run_file(record.lease.target), last)

    def last_run(self, target: Target) -> LastRun | None:
        """Whose lease on the target ended last."""
        return parse(self._last_run_file(target), LastRun)

    def fencing_file(self, target: Target) -> Path:
        """How many leases the target has had."""
        return self.directory / "autopilot" / "fencing" / _stem(target)

    def _note(self, path: Path, noted: Wire) -> None:
        """Replaces a note, unless another version's is there: an end never fails for want of a note."""
        if replaceable(path, type(noted)):
            write_atomically(path, noted.model_dump_json())

    def _committed_file(self, target: Target) -> Path:
        return self.directory / "autopilot" / "fencing" / f"{_stem(target)}.committed"

    def _condemned_file(self, target: Target) -> Path:
        return self.directory / "autopilot" / "fencing" / f"{_stem(target)}.condemned"

    def _last_run_file(self, target: Target) -> Path:
        return self.directory / "autopilot" / "fencing" / f"{_stem(target)}.last-run"


def _stem(target: Target) -> str:
    return f"{target.namespace}.{target.service}"
