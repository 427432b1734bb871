"""Orders of people on a standalone mesh: halt, take over, hand back. Works when no other process of Autopilot runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from autopilot.mesh.audit import Action, AuditRecord
from autopilot.mesh.envoy.state.ledger import Ledger
from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.mesh.leases.overrides import Actor, Halt, Tombstone
from autopilot.mesh.model import Holder, Receipt, Target


class Overrides:
    """Orders of people, each one transaction on the ledger's store. `clock` gives seconds since the epoch."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._store = ledger.store
        self._clock = clock

    def take_over(self, operation: str, by: Actor, until: float | None) -> list[Receipt]:
        """Restores every target that the operation holds, and keeps each until it is handed back.

        Raises:
            InvalidChange: it holds none.
        """
        with self._store.locked():
            records = [record for record in self._store.leases() if record.lease.holder.operation == operation]
            if not records:
                raise InvalidChange(f"{operation} holds no lease here; `autopilot leases` lists the holders")
            receipts = []
            failed: list[MeshError] = []
            for record in records:
                # First the tombstone: whoever asks between the two is refused.
                self._store.orders.write_tombstone(
                    Tombstone(
                        target=record.lease.target, operation=operation, actor=by, since=self._clock(), until=until
                    )
                )
                try:
                    receipts.append(self._ledger.end(record, by))
                except MeshError as error:
                    failed.append(error)  # one target's trouble is not another's
            if failed:
                raise failed[0]
            return receipts

    def hand_back(self, target: Target, by: Actor) -> bool:
        """Lets operations take the target again; False where no person had taken it over."""
        with self._store.locked():
            stone = self._store.orders.tombstone(target)
            if stone is None:
                return False
            self._note("hand-back", str(target), by, operation=stone.operation)
            self._store.orders.remove_tombstone(target)
            return True

    def halt(self, halt: Halt) -> list[tuple[Holder, Receipt]]:
        """Presses the button: what must end is restored before this returns, what may stay stays where it is."""
        with self._store.locked():
            self._note("halt", halt.name, halt.actor)
            self._store.orders.write_halt(halt)
            ended = []
            failed: list[MeshError] = []
            for record in self._store.leases():
                operation = record.lease.holder.operation
                if halt.covers(operation, record.lease.target) and halt.ends(operation):
                    try:
                        ended.append((record.lease.holder, self._ledger.end(record, halt.actor)))
                    except MeshError as error:
                        failed.append(error)  # one target's trouble is not another's
            if failed:
                raise failed[0]
            return ended

    def unhalt(self, kind: str, namespace: str, by: Actor) -> bool:
        """Lets the button go that was pressed for this scope; False where none was."""
        with self._store.locked():
            for halt in self._store.orders.halts():
                if (halt.kind, halt.namespace) == (kind, namespace):
                    self._note("unhalt", halt.name, by)
                    self._store.orders.remove_halt(halt)
                    return True
            return False

    def refused(self, target: Target, operation: str) -> str:
        """Why this operation could not start on the target now; empty where no order forbids it."""
        if halted := self._ledger.admission.halted(operation, target):
            return halted
        stone = self._store.orders.tombstone(target)
        return stone.reason if stone is not None and stone.stands(self._clock()) else ""

    def _note(self, action: Action, target: str, by: Actor, operation: str = "") -> None:
        # A stop must never fail for want of a record.
        record = AuditRecord(
            sequence=0, time=self._clock(), action=action, actor=by, target=target, operation=operation
        )
        self._ledger.books.write(record, vital=action == "halt")
