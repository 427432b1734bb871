"""Orders of people on a mesh of a cluster: halt, take over, hand back. Works when no other process of ours runs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from autopilot.mesh.audit import Action, AuditRecord
from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.mesh.kube.leases.ledger import KubeLedger
from autopilot.mesh.kube.state.target_record import OpenTargetRecord
from autopilot.mesh.leases.admission import Admission
from autopilot.mesh.leases.overrides import Actor, Halt, Tombstone
from autopilot.mesh.model import Holder, Receipt, Target


class KubeOverrides:
    """Orders of people. `clock` gives seconds since the epoch."""

    def __init__(self, ledger: KubeLedger, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._store = ledger.store
        self._clock = clock

    def take_over(self, operation: str, by: Actor, until: float | None) -> list[Receipt]:
        """Restores every target that the operation holds, and keeps each until it is handed back.

        Raises:
            InvalidChange: it holds none.
        """
        held = [
            record
            for book in self._store.books()
            for record in book.leases
            if record.lease.holder.operation == operation
        ]
        if not held:
            raise InvalidChange(f"{operation} holds no lease here; `autopilot leases` lists the holders")
        receipts, failed = [], []
        for record in held:
            target = record.lease.target
            stone = Tombstone(target=target, operation=operation, actor=by, since=self._clock(), until=until)
            try:
                # First the tombstone: whoever asks between the two is refused.
                self._store.step(target, functools.partial(OpenTargetRecord.write_tombstone, stone=stone), orders=False)
                receipts.append(self._ledger.end(record, by))
            except MeshError as error:
                failed.append(error)  # one target's trouble is not another's
        if failed:
            raise failed[0]
        return receipts

    def hand_back(self, target: Target, by: Actor) -> bool:
        """Lets operations take the target again; False where no person had taken it over."""
        stone = self._store.open(target).tombstone(target)
        if stone is None:
            return False
        self._note("hand-back", str(target), by, operation=stone.operation)
        self._store.step(target, lambda book: book.write_tombstone(None))
        return True

    def halt(self, halt: Halt) -> list[tuple[Holder, Receipt]]:
        """Presses the button: what must end is restored before this returns, what may stay stays where it is."""
        self._note("halt", halt.name, halt.actor)
        self._store.write_halt(halt)
        ended, failed = [], []
        for book in self._store.books():
            for record in book.leases:
                operation = record.lease.holder.operation
                if halt.covers(operation, book.target) and halt.ends(operation):
                    try:
                        ended.append((record.lease.holder, self._ledger.end(record, halt.actor)))
                    except MeshError as error:
                        failed.append(error)  # one target's trouble is not another's
        if failed:
            raise failed[0]
        return ended

    def unhalt(self, kind: str, namespace: str, by: Actor) -> bool:
        """Lets the button go that was pressed for this scope; False where none was."""
        for halt in self._store.halts(fresh=True):
            if (halt.kind, halt.namespace) == (kind, namespace):
                self._note("unhalt", halt.name, by)
                self._store.remove_halt(halt)
                return True
        return False

    def orders(self) -> tuple[list[Halt], list[Tombstone]]:
        """Every halt, and every target that a person has."""
        stones = [book.stone for book in self._store.books() if book.stone is not None]
        return self._store.halts(fresh=True), stones

    def refused(self, target: Target, operation: str) -> str:
        """Why this operation could not start on the target now; empty where no order forbids it."""
        book = self._store.open(target)
        if halted := Admission(book).halted(operation, target):
            return halted
        stone = book.tombstone(target)
        return stone.reason if stone is not None and stone.stands(self._clock()) else ""

    def _note(self, action: Action, target: str, by: Actor, operation: str = "") -> None:
        record = AuditRecord(
            sequence=0, time=self._clock(), action=action, actor=by, target=target, operation=operation
        )
        # A stop must never fail for want of a record.
        self._ledger.books.write(record, vital=action == "halt")
