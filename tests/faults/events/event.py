"""What an event is, and how long its net may take; the events themselves are in `strikes`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from tests.faults.world.scene import Scene

Strike = Callable[[Scene], Awaitable[None]]
Net = Literal["none", "clean-up", "guard child", "lease", "guard", "envoy"]
"""Who must restore: the workflow itself, its guard child, whoever comes first once the lease is not renewed,
`autopilot guard` alone, or the proxies alone."""

SHORT, LONG = 2.0, 14.0
"""Seconds to live: short where a lease must run out, long where another net must be quicker than any lease."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; every cell of a batch meets the same."""

    name: str
    net: Net
    strike: Strike
    ttl: float = SHORT
    bound: float = SHORT + 2
    """Seconds after the event until which version 2 may answer, unless the rollout lives (`envoy`: its deadline)."""
    lives: bool = True
    """Whether rollouts may go on after it."""
    ends: bool = False
    """Whether it ends rollouts: one that had not begun to commit must be the base then."""
    patience: float = 6.0
    """Seconds after which whatever still goes on is aborted."""
    moves_clocks: bool = False
    reruns: bool = False
    """Whether rollouts begin again: what the last run reports is not all that happened once one had begun to commit."""
    grace: float = 120.0
    """Seconds without Temporal, or with nobody who polls for the workflow, after which leases are no longer renewed."""
    may_fail: bool = True
    """Whether an operation may end as `Failed` for it."""
    may_lose: bool = True
    """Whether an operation that watches for long may lose its lease by it."""
    waits: float | None = None
    """Seconds within which an operation that has something to restore must have begun to."""
    heartbeat: float | None = None
    """Seconds after which Temporal gives up on a long activity that says nothing; None: as the lease's time asks."""

    @property
    def heartbeat_timeout(self) -> float:
        """Seconds, as operations are started with it."""
        return self.heartbeat or (1.5 if self.ttl < 5 else 5.0)


EVENTS: dict[str, Event] = {}


def event(
    name: str,
    net: Net,
    *,
    ttl: float = SHORT,
    bound: float = SHORT + 2,
    lives: bool = True,
    ends: bool = False,
    patience: float = 6.0,
    moves_clocks: bool = False,
    reruns: bool = False,
    grace: float = 120.0,
    may_fail: bool = True,
    may_lose: bool = True,
    waits: float | None = None,
    heartbeat: float | None = None,
) -> Callable[[Strike], Strike]:
    """Puts an event into the table."""

    def put(strike: Strike) -> Strike:
        EVENTS[name] = Event(
            name,
            net,
            strike,
            ttl=ttl,
            bound=bound,
            lives=lives,
            ends=ends,
            patience=patience,
            moves_clocks=moves_clocks,
            reruns=reruns,
            grace=grace,
            may_fail=may_fail,
            may_lose=may_lose,
            waits=waits,
            heartbeat=heartbeat,
        )
        return strike

    return put
