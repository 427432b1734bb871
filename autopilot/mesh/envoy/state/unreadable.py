"""Which records of a standalone mesh this version cannot read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from autopilot.mesh.envoy.atomic_files import parse, read_text
from autopilot.mesh.envoy.state.record_folder import Unread
from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.leases.records import Condemnation, LastRun
from autopilot.mesh.leases.unreadable import LEASE_HIDDEN, NOTHING_STARTS, ORDER_HIDDEN, OVERLAY_HIDDEN, Unreadable


def inventory(store: Store) -> list[Unreadable]:
    """All of them, each with what follows from it."""
    found = [
        *_named(store.lease_records.unread(), LEASE_HIDDEN),
        *_named(store.overlay_records.unread(), OVERLAY_HIDDEN),
        *_named(store.spare_records.unread(), "the clusters of its target stay as they are"),
    ]
    found += [Unreadable(where=one.where, why=one.why, effect=ORDER_HIDDEN) for one in store.orders.unread()]
    found += _notes(store.directory / "autopilot" / "fencing")
    if store.aside.is_dir():
        effect = "none: its operation has ended; delete it once you have looked at it"
        found += [
            Unreadable(where=str(path), why="it is damaged", effect=effect) for path in sorted(store.aside.iterdir())
        ]
    return found


def _named(records: Iterable[Unread], effect: str) -> list[Unreadable]:
    return [Unreadable(where=one.error.where, why=one.error.why, target=one.ref, effect=effect) for one in records]


def _notes(folder: Path) -> Iterator[Unreadable]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):
            continue  # being written
        try:
            _look(path)
        except UnreadableRecord as error:
            ref = "/".join(path.name.split(".")[:2])
            yield Unreadable(where=error.where, why=error.why, target=ref, effect=NOTHING_STARTS)


def _look(path: Path) -> None:
    match path.suffix:
        case ".condemned":
            parse(path, Condemnation)
        case ".last-run":
            parse(path, LastRun)
        case ".committed":
            read_text(path)
        case _:
            if not (read_text(path) or "0").strip().isdecimal():
                raise UnreadableRecord(str(path), "it is not a number")
