"""Orders and queues of one standalone mesh, as files beside its leases: they are valid whichever processes run.

What cannot be read counts as it is named: a halt stops what its name covers, a tombstone blocks its target, and a place
in the queue stays taken. All of them are kept until a person, or a version that can read them, removes them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from autopilot.mesh.envoy.atomic_files import parse, write_atomically
from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.leases.overrides import Halt, Tombstone, unread_halt, unread_tombstone
from autopilot.mesh.leases.records import Ticket
from autopilot.mesh.model import Target
from autopilot.wire import Wire

_NEVER = 1e18
"""When a ticket that cannot be read was seen last, seconds since the epoch: it never leaves the queue by itself."""


class OverridesStore:
    """Halts, tombstones and tickets under `<directory>/autopilot/orders`. Methods that write need the store's lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def halts(self) -> list[Halt]:
        """Every halt in force."""
        found = (_halt(path) for path in sorted(self._folder.glob("halt.*.json")))
        return [halt for halt in found if halt is not None]

    def write_halt(self, halt: Halt) -> None:
        """Presses the button; what was pressed for the same scope before is replaced."""
        self._write(f"halt.{halt.name}.json", halt.model_dump_json())

    def remove_halt(self, halt: Halt) -> None:
        """Lets the button go."""
        (self._folder / f"halt.{halt.name}.json").unlink(missing_ok=True)

    def tombstones(self) -> list[Tombstone]:
        """Every target that a person took back and that can be read, those included whose time is over."""
        found = []
        for path in sorted(self._folder.glob("tombstone.*.json")):
            with contextlib.suppress(UnreadableRecord):  # `unread` names it, and it blocks its target
                found.append(parse(path, Tombstone))
        return [stone for stone in found if stone is not None]

    def tombstone(self, target: Target) -> Tombstone | None:
        """The one on this target."""
        try:
            return parse(self._folder / _stone(target), Tombstone)
        except UnreadableRecord as error:
            return unread_tombstone(target, error)

    def write_tombstone(self, stone: Tombstone) -> None:
        """A person takes a target back."""
        self._write(_stone(stone.target), stone.model_dump_json())

    def remove_tombstone(self, target: Target) -> None:
        """Hands a target back."""
        (self._folder / _stone(target)).unlink(missing_ok=True)

    def tickets(self, target: Target) -> list[Ticket]:
        """Who waits for this target, the longest first."""
        pattern = f"ticket.{target.namespace}.{target.service}.*.json"
        found = (_read_ticket(path) for path in self._folder.glob(pattern))
        return sorted((ticket for ticket in found if ticket is not None), key=lambda ticket: ticket.number)

    def write_ticket(self, target: Target, ticket: Ticket) -> None:
        """Joins the queue, or says that one still waits."""
        self._write(_ticket(target, ticket), ticket.model_dump_json())

    def remove_ticket(self, target: Target, ticket: Ticket) -> None:
        """Leaves the queue."""
        (self._folder / _ticket(target, ticket)).unlink(missing_ok=True)

    def unread(self) -> list[UnreadableRecord]:
        """What cannot be read."""
        found = []
        kinds: tuple[tuple[str, type[Wire]], ...] = (("halt", Halt), ("tombstone", Tombstone), ("ticket", Ticket))
        for kind, model in kinds:
            for path in sorted(self._folder.glob(f"{kind}.*.json")):
                try:
                    parse(path, model)
                except UnreadableRecord as error:
                    found.append(error)
        return found

    def _write(self, name: str, content: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder / name, content)


def _halt(path: Path) -> Halt | None:
    try:
        return parse(path, Halt)
    except UnreadableRecord as error:
        return unread_halt(path.name.removeprefix("halt.").removesuffix(".json"), error)


def _read_ticket(path: Path) -> Ticket | None:
    try:
        return parse(path, Ticket)
    except UnreadableRecord:
        number = path.name.removesuffix(".json").rpartition(".")[2]
        # Nobody waits for it, and its number is given to nobody else.
        return Ticket(number=int(number), operation="", aspects=(), seen=_NEVER) if number.isdecimal() else None


def _stone(target: Target) -> str:
    return f"tombstone.{target.namespace}.{target.service}.json"


def _ticket(target: Target, ticket: Ticket) -> str:
    return f"ticket.{target.namespace}.{target.service}.{ticket.number}.json"
