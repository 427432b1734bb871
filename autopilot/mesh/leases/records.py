"""What providers keep of leases, beside what they lay: one lease record and one overlay record a holder."""

from __future__ import annotations

from autopilot.mesh.model import Aspect, Change, Lease, LeasePhase
from autopilot.wire import Wire


class LeaseRecord(Wire):
    """The sign of life of an operation. Renewing rewrites this file alone."""

    lease: Lease
    """With the number of the last write that was accepted."""
    token: str
    """Which run of the operation asked; the same token asking again gets the same lease."""
    acquired: float
    renewed: float
    asked: float = 0.0
    """When this run asked for the lease: which of two runs is the later one. 0 where that was not told."""
    beats: int = 0
    condemned: str | None = None
    ending: bool = False
    """Whether its restore has begun: the lease can then only be ended."""
    yield_to: str = ""
    """The operation of a higher priority that waits for the target."""
    yield_asked: float = 0.0
    """When it first asked, seconds since the epoch."""


class Overlay(Wire):
    """What one holder has laid over the base, and until when proxies may follow it."""

    lease: Lease
    changes: tuple[Change, ...]
    deadline: float
    """Seconds since the epoch."""
    phase: LeasePhase = LeasePhase.ACTIVE

    @property
    def committing(self) -> bool:
        """Whether it is becoming the base: every net rolls forward."""
        return self.phase is LeasePhase.COMMITTING

    def alive(self, now: float) -> bool:
        """Whether it is in force: a commit under way never falls back."""
        return self.committing or now < self.deadline


class Spare(Wire):
    """Clusters that stand in for arms' own, for faults that need them: made before routes lead there, kept after."""

    lease: Lease
    changes: tuple[Change, ...]
    until: float | None = None
    """Until when requests may still be on their way through them, seconds since the epoch; None while the lease is."""


class Condemnation(Wire):
    """The last harm found on a target: the run that did it may not come back, though its lease is gone."""

    operation: str
    token: str
    reason: str


class LastRun(Wire):
    """The run whose lease on a target ended last: one of the same operation that asked before it comes too late."""

    operation: str
    token: str
    asked: float

    @classmethod
    def of(cls, record: LeaseRecord) -> LastRun | None:
        """What is to be remembered of a record; None where nobody told when the run asked."""
        if not record.asked:
            return None
        return cls(operation=record.lease.holder.operation, token=record.token, asked=record.asked)


class Ticket(Wire):
    """One operation that waits for a target, in turn."""

    number: int
    operation: str
    aspects: tuple[Aspect, ...]
    seen: float
    """When it last asked, seconds since the epoch; an operation that stops asking leaves the queue."""
