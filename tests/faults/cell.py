"""One cell of the table: one kill point of one walk, and one event."""

from __future__ import annotations

from dataclasses import dataclass, field

from autopilot.mesh.model import Target
from tests.faults.judge import LATE, Seen, Terms
from tests.faults.walks import Point

LONGEST_STAND = 9.0
"""Seconds after which Temporal may have given up on what is held, and begun it anew."""


@dataclass
class Cell:
    """A rollout that is held at a point, and what becomes of it. Times in seconds since the epoch."""

    point: Point
    event: str
    net: str
    target: Target
    operation: str
    started: float = 0.0
    reached: float | None = None
    stood: bool = False
    """Whether it stood at its point when the event came."""
    struck: float = 0.0
    deadline: float | None = None
    """When the proxies fall back by themselves, as it stood at the event."""
    gone: float | None = None
    """When its lease was seen to be gone."""
    actions: int = 0
    """How many of its walk's actions are done."""
    terms: Terms | None = None
    seen: Seen | None = None
    restored: float | None = None
    """Seconds from the event to the last request that version 2 answered."""
    restore_began: float | None = None
    """Seconds from the event to the begin of the workflow's own restore."""
    lost_reports: int = 0
    """Runs that Temporal saw end and of which no report is kept."""
    stall: float = 0.0
    """Seconds for which a judge of the batch was held up at the longest."""
    landed: list[str] = field(default_factory=list)
    """Late attempts that were not refused."""
    reported: list[str] = field(default_factory=list)
    """What the reports of its runs say, the last run's first."""
    violations: list[str] = field(default_factory=list)

    @property
    def merely_late(self) -> bool:
        """Whether all that is wrong is the time it took."""
        return bool(self.violations) and all(LATE in sentence for sentence in self.violations)

    def strike(self, now: float) -> None:
        """The event comes."""
        self.struck = now
        self.stood = self.reached is not None and now - self.reached < LONGEST_STAND
