"""What lies beside the proxies' configuration on disk: one lease record and one overlay record a holder."""

from __future__ import annotations

from autopilot.mesh.model import Change, Lease, LeasePhase, Plain


class LeaseRecord(Plain):
    """The sign of life of an operation. Renewing rewrites this file alone."""

    lease: Lease
    token: str
    """Which run of the operation asked; the same token asking again gets the same lease."""
    acquired: float
    renewed: float
    beats: int = 0
    condemned: str | None = None


class Overlay(Plain):
    """What one holder has laid over the base, and until when proxies may follow it."""

    lease: Lease
    changes: tuple[Change, ...]
    deadline: float
    """Seconds since the epoch."""
    phase: LeasePhase = LeasePhase.ACTIVE

    def alive(self, now: float) -> bool:
        """Whether it is in force: a commit under way never falls back."""
        return self.phase is LeasePhase.COMMITTING or now < self.deadline
