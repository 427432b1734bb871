"""Orders and queues of one standalone mesh, as files beside its leases: they are valid whichever processes run."""

from __future__ import annotations

from pathlib import Path

from autopilot.mesh.envoy.files import parse, write_atomically
from autopilot.mesh.model import Target
from autopilot.mesh.orders import Halt, Tombstone
from autopilot.mesh.records import Ticket


class OrderBook:
    """Halts, tombstones and tickets under `<directory>/autopilot/orders`. Methods that write need the store's lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def halts(self) -> list[Halt]:
        """Every halt in force."""
        found = (parse(path, Halt) for path in sorted(self._folder.glob("halt.*.json")))
        return [halt for halt in found if halt is not None]

    def write_halt(self, halt: Halt) -> None:
        """Presses the button; what was pressed for the same scope before is replaced."""
        self._write(f"halt.{halt.name}.json", halt.model_dump_json())

    def remove_halt(self, halt: Halt) -> None:
        """Lets the button go."""
        (self._folder / f"halt.{halt.name}.json").unlink(missing_ok=True)

    def tombstones(self) -> list[Tombstone]:
        """Every target that a person took back, those included whose time is over."""
        found = (parse(path, Tombstone) for path in sorted(self._folder.glob("tombstone.*.json")))
        return [stone for stone in found if stone is not None]

    def tombstone(self, target: Target) -> Tombstone | None:
        """The one on this target."""
        return parse(self._folder / _stone(target), Tombstone)

    def write_tombstone(self, stone: Tombstone) -> None:
        """A person takes a target back."""
        self._write(_stone(stone.target), stone.model_dump_json())

    def remove_tombstone(self, target: Target) -> None:
        """Hands a target back."""
        (self._folder / _stone(target)).unlink(missing_ok=True)

    def tickets(self, target: Target) -> list[Ticket]:
        """Who waits for this target, the longest first."""
        pattern = f"ticket.{target.namespace}.{target.service}.*.json"
        found = (parse(path, Ticket) for path in self._folder.glob(pattern))
        return sorted((ticket for ticket in found if ticket is not None), key=lambda ticket: ticket.number)

    def write_ticket(self, target: Target, ticket: Ticket) -> None:
        """Joins the queue, or says that one still waits."""
        self._write(_ticket(target, ticket), ticket.model_dump_json())

    def remove_ticket(self, target: Target, ticket: Ticket) -> None:
        """Leaves the queue."""
        (self._folder / _ticket(target, ticket)).unlink(missing_ok=True)

    def _write(self, name: str, content: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder / name, content)


def _stone(target: Target) -> str:
    return f"tombstone.{target.namespace}.{target.service}.json"


def _ticket(target: Target, ticket: Ticket) -> str:
    return f"ticket.{target.namespace}.{target.service}.{ticket.number}.json"
