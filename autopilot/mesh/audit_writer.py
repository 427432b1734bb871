"""Writes a mesh's audit records to any journal; a restore never waits for a record."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from autopilot.mesh.audit import AuditRecord
from autopilot.mesh.errors import MeshError


class AuditLog(Protocol):
    """Where records are kept."""

    def append(self, record: AuditRecord) -> AuditRecord:
        """Seals the record with its number and the digest of the one before, and writes it.

        Raises:
            MeshUnavailable: it cannot be written now.
            MeshError: what is kept is damaged.
        """
        ...


class AuditWriter:
    """Writes the journal, and passes on every record that was written.

    Args:
        journal: where to write; asked at every record, for a mesh file may move its directory.
        told: receives every record with its digest.
    """

    def __init__(self, journal: Callable[[], AuditLog], told: Callable[[AuditRecord], None]) -> None:
        self._journal = journal
        self._told = told
        self._owed: list[AuditRecord] = []
        self._writing = threading.Lock()

    def write(self, record: AuditRecord, *, vital: bool = False) -> str:
        """Writes a record and returns its digest; one of a `vital` change that cannot be written is owed.

        Raises:
            MeshUnavailable: the disk refused, and the change can wait.
            MeshError: what is kept is damaged, and the change can wait.
        """
        try:
            self.settle()
            sealed = self._journal().append(record)
        except MeshError:
            if not vital:
                raise
            self._owed.append(record)  # a restore never waits for its record
            return ""
        self._told(sealed)
        return sealed.digest

    def settle(self) -> None:
        """Writes what is owed.

        Raises:
            MeshUnavailable: the disk still refuses.
        """
        with self._writing:
            while self._owed:
                sealed = self._journal().append(self._owed[0])
                del self._owed[0]
                self._told(sealed)
