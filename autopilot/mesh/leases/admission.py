"""Decides which operation gets a target: people's orders first, then priorities, then the queue.

The same for every provider: each shows what it keeps as `AdmissionRecords`, and sees to it that nobody else writes
meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from autopilot.kinds import priority_of
from autopilot.mesh.errors import Condemned, Halted, LeaseHeld, LeaseLost, LeasePending, StaleWrite, TakenOver
from autopilot.mesh.leases.overrides import Halt, Tombstone
from autopilot.mesh.leases.records import Condemnation, LastRun, LeaseRecord, Ticket
from autopilot.mesh.model import Aspect, Lease, Target

EXCLUDES = {
    Aspect.TRAFFIC: {Aspect.TRAFFIC, Aspect.FAULTS},
    Aspect.FAULTS: {Aspect.TRAFFIC, Aspect.FAULTS},
    Aspect.ACCESS: {Aspect.ACCESS},
    Aspect.RESILIENCE: {Aspect.RESILIENCE},
}
"""Aspects of one target that two operations cannot hold at the same time."""

YIELD_GRACE = 10.0
"""Seconds that the lower priority has to restore by itself; after that the guard restores it."""
QUEUE_GRACE = 30.0
"""Seconds without a request after which an operation leaves the queue."""


class Orders(Protocol):
    """People's orders, and the queue."""

    def halts(self) -> list[Halt]:
        """Every halt in force."""
        ...

    def tombstone(self, target: Target) -> Tombstone | None:
        """The one on this target."""
        ...

    def tickets(self, target: Target) -> list[Ticket]:
        """Who waits for this target, the longest first."""
        ...

    def write_ticket(self, target: Target, ticket: Ticket) -> None:
        """Joins the queue, or says that one still waits."""
        ...

    def remove_ticket(self, target: Target, ticket: Ticket) -> None:
        """Leaves the queue."""
        ...


class AdmissionRecords(Protocol):
    """The part of a provider's records that admission needs; no other process writes while it is in use."""

    @property
    def orders(self) -> Orders:
        """People's orders, and the queue."""
        ...

    def leases(self) -> list[LeaseRecord]:
        """Every lease held."""
        ...

    def committing(self, lease: Lease) -> bool:
        """Whether what this lease has laid is becoming the base."""
        ...

    def write_lease(self, record: LeaseRecord) -> None:
        """Writes a lease record."""
        ...

    def condemned(self, target: Target) -> Condemnation | None:
        """The last operation whose harm was found on the target."""
        ...

    def last_run(self, target: Target) -> LastRun | None:
        """The run whose lease on the target ended last."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """Who asks for what."""

    target: Target
    aspects: tuple[Aspect, ...]
    operation: str
    token: str
    queue: bool = False
    asked: float = 0.0
    """When the run asked for the first time, by Temporal's clock, seconds since the epoch; 0 where that is not told."""

    def excludes(self, aspects: Sequence[Aspect]) -> bool:
        """Whether the claim and these aspects cannot stand side by side."""
        return any(aspect in EXCLUDES[other] for other in aspects for aspect in self.aspects)


class Admission:
    """Decides about claims, and remembers who waits."""

    def __init__(self, store: AdmissionRecords) -> None:
        self._store = store

    def refuse_ordered(self, claim: Claim, now: float) -> None:
        """Refuses a claim that an order of a person, or harm found earlier, forbids.

        Raises:
            Halted: a halt is in force.
            TakenOver: a person has the target.
            Condemned: harm was found in this run earlier.
            StaleWrite: a later run of the same operation had the target, and has ended.
        """
        if halt := self.halted(claim.operation, claim.target):
            raise Halted(halt)
        stone = self._store.orders.tombstone(claim.target)
        if stone is not None and stone.stands(now):
            raise TakenOver(stone.reason)
        noted = self._store.condemned(claim.target)
        if noted is not None and (noted.operation, noted.token) == (claim.operation, claim.token):
            raise Condemned(f"{claim.operation} did harm to {claim.target}: {noted.reason}")
        last = self._store.last_run(claim.target)
        if last is not None and last.operation == claim.operation:
            _refuse_earlier(claim, last.token, last.asked, "a later run of it had the target, and has ended")

    def halted(self, operation: str, target: Target) -> str:
        """The halt that stops this operation; empty where none does."""
        return next((halt.reason for halt in self._store.orders.halts() if halt.covers(operation, target)), "")

    def refuse_earlier(self, claim: Claim, record: LeaseRecord) -> None:
        """Refuses a run that asked before the run of the same operation that has the lease.

        Temporal runs one run of an operation after the other, so of two the later one is alive.

        Raises:
            StaleWrite: the request was delayed, and a later run has the lease by now.
        """
        why = f"a later run of it holds the target as {record.lease.holder}"
        _refuse_earlier(claim, record.token, record.asked, why)

    def overdue(self, claim: Claim, blockers: Sequence[LeaseRecord], now: float) -> list[LeaseRecord]:
        """The blockers that were asked to give way and did not: the caller must end them.

        Raises:
            LeasePending: they were asked just now, or are still restoring; or the claim waits in the queue.
            LeaseHeld: an operation of the same or a higher priority holds the target.
        """
        mine = priority_of(claim.operation)
        late = []
        for record in blockers:
            holder = record.lease.holder.operation
            if mine <= priority_of(holder):
                self._refuse_or_queue(claim, holder, now)
            if not record.yield_to or priority_of(record.yield_to) < mine:
                asked = record.model_copy(update={"yield_to": claim.operation, "yield_asked": now})
                self._store.write_lease(asked)
            elif self._store.committing(record.lease):
                pass  # it can only be finished, and is about to be
            elif now - record.yield_asked > YIELD_GRACE:
                late.append(record)
                continue
            raise LeasePending(
                f"{claim.operation} has the higher priority: {holder} was asked to release {claim.target}, and "
                "is restoring it",
                holder,
            )
        return late

    def take_turn(self, claim: Claim, now: float) -> None:
        """Lets those who have waited longer go first; an admitted operation leaves the queue.

        Raises:
            LeasePending, LeaseHeld: another operation is first in the queue.
        """
        tickets = self._store.orders.tickets(claim.target)
        own = next((ticket for ticket in tickets if ticket.operation == claim.operation), None)
        for ticket in tickets:
            if ticket is own:
                break
            if now - ticket.seen > QUEUE_GRACE:
                self._store.orders.remove_ticket(claim.target, ticket)
            elif claim.excludes(ticket.aspects) and priority_of(ticket.operation) >= priority_of(claim.operation):
                self._refuse_or_queue(claim, ticket.operation, now)
        if own is not None:
            self._store.orders.remove_ticket(claim.target, own)

    def lost(self, lease: Lease, now: float) -> LeaseLost:
        """The error for a former holder: who has its target now."""
        operation, target = lease.holder.operation, lease.target
        stone = self._store.orders.tombstone(target)
        if stone is not None and stone.operation == operation and stone.stands(now):
            return TakenOver(stone.reason)
        for halt in self._store.orders.halts():
            if halt.covers(operation, target) and halt.ends(operation):
                return TakenOver(halt.reason)
        claim = Claim(target, lease.aspects, operation, token="")
        for record in self._store.leases():
            other = record.lease
            if other.target == target and claim.excludes(other.aspects) and other.holder != lease.holder:
                said = f"{other.holder} holds {target} now, so nothing was written"
                higher = priority_of(other.holder.operation) > priority_of(operation)
                return TakenOver(said) if higher else LeaseLost(said)
        return LeaseLost(f"{lease.holder} no longer holds {target}, so nothing was written")

    def _refuse_or_queue(self, claim: Claim, holder: str, now: float) -> None:
        if not claim.queue:
            raise LeaseHeld(
                f"{claim.target} is held by {holder}; wait for its end, start with `--queue` to wait in turn, "
                f"or end it with `autopilot abort {holder}`",
                holder,
            )
        tickets = self._store.orders.tickets(claim.target)
        own = next((ticket for ticket in tickets if ticket.operation == claim.operation), None)
        number = own.number if own else max((ticket.number for ticket in tickets), default=0) + 1
        ticket = Ticket(number=number, operation=claim.operation, aspects=claim.aspects, seen=now)
        self._store.orders.write_ticket(claim.target, ticket)
        raise LeasePending(f"{claim.operation} waits in turn: {holder} holds {claim.target}", holder)


def _refuse_earlier(claim: Claim, token: str, asked: float, why: str) -> None:
    if token != claim.token and claim.asked and asked > claim.asked:
        raise StaleWrite(
            f"{claim.operation} asked for {claim.target} too late: {why}; the request was delayed, and nothing was "
            "written"
        )


def refuse_stale(lease: Lease, accepted: Lease) -> None:
    """Refuses whatever is done for an earlier write than the last that was accepted.

    Args:
        lease: as it was presented.
        accepted: as the record has it.

    Raises:
        StaleWrite: the attempt was delayed.
    """
    if lease.write < accepted.write:
        raise StaleWrite(
            f"write {lease.write} of {lease.holder} arrived after write {accepted.write} had been accepted: it was "
            "delayed, and nothing was written"
        )


def refuse_other_write(lease: Lease, laid: Lease) -> None:
    """Refuses to commit another write than the one that is laid; one without a number is of an earlier version.

    Args:
        lease: as it was presented: its number is the write that is meant.
        laid: the lease that the overlay was laid under.

    Raises:
        StaleWrite: another write is laid.
    """
    if laid.write and laid.write != lease.write:
        raise StaleWrite(
            f"{lease.holder} commits its write {lease.write}, and its write {laid.write} is laid on {lease.target}: "
            "nothing was committed"
        )
