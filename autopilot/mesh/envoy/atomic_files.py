"""Files that other processes follow: written whole or not at all, one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from autopilot.mesh.errors import MeshUnavailable, UnreadableRecord
from autopilot.mesh.leases.unreadable import is_damaged, why_of
from autopilot.wire import Wire

_Record = TypeVar("_Record", bound=Wire)


def write_atomically(path: Path, content: str) -> None:
    """Replaces a file by rename, so that a reader (a proxy's inotify watch among them) sees the old or the new one.

    Raises:
        MeshUnavailable: the disk refused; the file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise MeshUnavailable(
            f"cannot write {path}: {error.strerror}; free disk space or correct the permissions"
        ) from error


@contextlib.contextmanager
def exclusive(path: Path, *, timeout: float = 10.0) -> Iterator[None]:
    """Holds the lock file `path` for the block; other processes and other threads wait.

    Raises:
        MeshUnavailable: another process held it for `timeout` seconds.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise MeshUnavailable(f"cannot open {path}: {error.strerror}") from error
    try:
        until = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise MeshUnavailable(
                        f"{path} was locked by another process for {timeout:g} s; find the process with `fuser`"
                    ) from None
                time.sleep(0.002)
        yield
    finally:
        os.close(descriptor)


def parse(path: Path, model: type[_Record]) -> _Record | None:
    """Reads one record; None where there is none.

    Raises:
        UnreadableRecord: another version wrote it, or it is damaged.
    """
    text = read_text(path)
    if text is None:
        return None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise UnreadableRecord(str(path), why_of(error), damaged=is_damaged(error)) from error


def read_text(path: Path) -> str | None:
    """The content of one record; None where there is none.

    Raises:
        UnreadableRecord: it is no UTF-8, or not a file.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableRecord(str(path), why_of(error), damaged=is_damaged(error)) from error
