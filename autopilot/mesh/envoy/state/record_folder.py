"""A folder of records, one file a holder: read one by one, so that one that cannot be read hides no other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from autopilot.mesh.envoy.atomic_files import parse, read_text
from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.leases.records import LeaseRecord, Overlay, Spare
from autopilot.mesh.leases.unreadable import OverlayEnvelope, envelope_of
from autopilot.mesh.model import Holder, Lease, Target
from autopilot.wire import Wire

_Record = TypeVar("_Record", LeaseRecord, Overlay, Spare)
_NAME = re.compile(r"(?P<namespace>[a-z0-9-]+)\.(?P<service>[a-z0-9-]+)\.(?P<fencing>\d+)\.json")


@dataclass(frozen=True, slots=True)
class Unread:
    """A record that cannot be read: its name says of which lease it is."""

    path: Path
    error: UnreadableRecord
    ref: str
    """`namespace/service`; empty where the name is none of ours."""
    fencing: int | None
    envelope: OverlayEnvelope | None

    def may_be_in_force(self, now: float) -> bool:
        """Whether proxies may follow it at `now`, seconds since the epoch; of most nobody knows."""
        return self.envelope is None or self.envelope.may_be_in_force(now)

    def is_of(self, lease: Lease) -> bool:
        """Whether it is this lease's own."""
        if self.envelope is not None and self.envelope.lease.holder != lease.holder:
            return False
        return (self.ref, self.fencing) == (lease.target.ref, lease.holder.fencing)


class RecordFolder(Generic[_Record]):
    """The records of one kind.

    Args:
        folder: where they lie.
        model: what they are.
        aside: where damaged ones go whose end has come.
    """

    def __init__(self, folder: Path, model: type[_Record], aside: Path) -> None:
        self._folder = folder
        self._model: type[_Record] = model
        self._aside = aside

    def path(self, target: Target, holder: Holder) -> Path:
        """Where the record of a holder lies."""
        return self._folder / _name(target, holder)

    def records(self) -> list[_Record]:
        """Every record that can be read."""
        return self.read()[0]

    def unread(self) -> list[Unread]:
        """Every other one."""
        return self.read()[1]

    def read(self) -> tuple[list[_Record], list[Unread]]:
        """All of them."""
        found: list[_Record] = []
        unread: list[Unread] = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                record = self._parsed(path)
            except UnreadableRecord as error:
                unread.append(_unread(path, error))
            else:
                found += [record] if record is not None else []
        return found, unread

    def of(self, lease: Lease) -> _Record | None:
        """The record of this very lease (same target, same holder); None where there is none.

        Raises:
            UnreadableRecord: there is one, and it cannot be read.
        """
        record = self._parsed(self.path(lease.target, lease.holder))
        return record if record and record.lease.holder == lease.holder else None

    def unread_of(self, lease: Lease) -> Unread | None:
        """The record of this very lease, where it cannot be read."""
        path = self.path(lease.target, lease.holder)
        try:
            self._parsed(path)
        except UnreadableRecord as error:
            found = _unread(path, error)
            return found if found.is_of(lease) else None
        return None

    def remove(self, lease: Lease) -> None:
        """Removes the record of a lease that has ended, its changes understood or not.

        One that is damaged is moved aside with all its bytes; one that says nothing of its holder stays.
        """
        path = self.path(lease.target, lease.holder)
        try:
            self._parsed(path)
        except UnreadableRecord as error:
            found = _unread(path, error)
            if found.is_of(lease) and found.envelope is None and error.damaged:
                self._put_aside(path)
            if not found.is_of(lease) or found.envelope is None:
                return
        path.unlink(missing_ok=True)

    def _put_aside(self, path: Path) -> None:
        self._aside.mkdir(parents=True, exist_ok=True)
        name, number = f"{self._folder.name}.{path.name}", 1
        while (self._aside / name).exists():
            number += 1
            name = f"{self._folder.name}.{path.name}.{number}"
        path.rename(self._aside / name)

    def _parsed(self, path: Path) -> _Record | None:
        record = parse(path, self._model)
        if record is not None and path.name != (named := _name(record.lease.target, record.lease.holder)):
            raise UnreadableRecord(str(path), f"what it says belongs into {named}")
        return record


def _name(target: Target, holder: Holder) -> str:
    return f"{target.namespace}.{target.service}.{holder.fencing}.json"


def _unread(path: Path, error: UnreadableRecord) -> Unread:
    match = _NAME.fullmatch(path.name)
    ref = f"{match['namespace']}/{match['service']}" if match else ""
    return Unread(path, error, ref, int(match["fencing"]) if match else None, _envelope(path))


def _envelope(path: Path) -> OverlayEnvelope | None:
    try:
        text = read_text(path)
    except UnreadableRecord:
        return None
    found = envelope_of(text) if text is not None else None
    if found is None or path.name != _name(found.lease.target, found.lease.holder):
        return None
    return found


def replaceable(path: Path, model: type[Wire]) -> bool:
    """Whether a note at this place may be replaced: none that cannot be read is."""
    try:
        parse(path, model)
    except UnreadableRecord:
        return False
    return True
