"""The audit records of one standalone mesh: a file of JSON lines that only ever grows.

Written ahead of what it records, under the same lock: a record without its change is a crash at that instant, a change
without its record cannot be.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from autopilot.mesh.audit import GENESIS, AuditRecord, link_of
from autopilot.mesh.errors import MeshError, MeshUnavailable

_LONGEST = 65536
"""Bytes that one record may have: far more than any does."""


class AuditLog:
    """Appends and reads; `append` needs the store's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: AuditRecord) -> AuditRecord:
        """Seals the record with its number and the digest of the one before, and writes it.

        Raises:
            MeshUnavailable: the disk refused; the file is as it was.
        """
        try:
            with self.path.open("a+b") as stream:
                whole, last = _end(stream.fileno())
                number, digest = _linked(last, self.path) if last else (0, GENESIS)
                sealed = record.model_copy(update={"sequence": number + 1, "previous": digest})
                if whole < os.fstat(stream.fileno()).st_size:
                    stream.truncate(whole)  # cut off by a full disk or a crash: its write was never confirmed
                try:
                    os.write(stream.fileno(), sealed.model_dump_json().encode() + b"\n")
                    os.fsync(stream.fileno())
                except OSError:
                    stream.truncate(whole)
                    raise
        except OSError as error:
            raise MeshUnavailable(
                f"cannot write {self.path}: {error.strerror}; free disk space or correct the permissions"
            ) from error
        return sealed

    def read(self) -> Iterator[AuditRecord]:
        """Every record, in the order they were written.

        Raises:
            MeshError: a line is no record.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield _parsed(line, self.path)


def _end(descriptor: int) -> tuple[int, bytes]:
    """The length of all whole lines in bytes, and the last of them."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - _LONGEST)
    tail = os.pread(descriptor, size - start, start)
    whole = tail.rfind(b"\n") + 1
    line = tail[:whole].rstrip(b"\n").rpartition(b"\n")[2]
    return start + whole, line


def _linked(line: bytes, path: Path) -> tuple[int, str]:
    try:
        return link_of(line)
    except ValueError as error:
        raise _not_a_record(path) from error


def _parsed(line: bytes, path: Path) -> AuditRecord:
    try:
        return AuditRecord.model_validate_json(line)
    except ValidationError as error:
        raise _not_a_record(path) from error


def _not_a_record(path: Path) -> MeshError:
    return MeshError(
        f"{path} has a line that is not an audit record of this version; run the version that wrote it, or move the "
        "file away, then a new one is started"
    )
