"""An API client that dies at a chosen write, and a rollout's walk over a mesh without anything around it.

Death is what `kill -9` is: the process does nothing more, whatever was under way. A write may be lost, may have been
made, or may be made later, after everybody else has moved on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.leases.ledger import KubeLedger
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.model import Aspect, Lease, SplitTraffic, Target

Mode = Literal["before", "after", "late"]
Answer = tuple[int, Mapping[str, str], str]
ME = Actor(who="ann", why="a rollout that dies")


class Dead(BaseException):
    """The process is gone: nothing catches that."""


class MortalApi(KubeApi):
    """Dies at its `point`-th write (from 0): before it, after it, or with the write still on its way."""

    point: int = -1
    mode: Mode = "before"
    writes: int = 0
    dead: bool = False
    pending: Callable[[], Answer] | None = None

    def _once(self, method: str, path: str, body: object, query: Mapping[str, str] | None, patch: str | None) -> Answer:
        if self.dead:
            raise Dead
        if method == "GET":
            return super()._once(method, path, body, query, patch)
        number, self.writes = self.writes, self.writes + 1
        if number != self.point:
            return super()._once(method, path, body, query, patch)
        self.dead = True
        if self.mode == "after":
            super()._once(method, path, body, query, patch)
        elif self.mode == "late":
            once = super()._once
            self.pending = lambda: once(method, path, body, query, patch)
        raise Dead


@dataclass
class Walk:
    """What a rollout does to a mesh: up its steps, then promoted or rolled back."""

    ledger: KubeLedger
    target: Target
    arms: tuple[str, str]
    operation: str
    ttl: float
    committing: bool = False
    """Whether the commit was asked for: from then on either end is right."""

    def go(self, *, promoted: bool) -> None:
        """Walks until it ends, or dies."""
        lease = self.ledger.acquire(
            self.target,
            [Aspect.TRAFFIC],
            operation=self.operation,
            token="run",
            ttl=self.ttl,
            planned_end=None,
            by=ME,
        )
        self._step(lease, 5)
        self._step(lease, 50)
        if promoted:
            self._step(lease, 100)
            self.committing = True
            self.ledger.commit(lease, ME)
        else:
            self.ledger.condemn(lease, "harm")
            self.ledger.lift(lease, ME)

    def _step(self, lease: Lease, weight: float) -> None:
        stable, canary = self.arms
        self.ledger.apply(lease, [SplitTraffic(weights={stable: 100 - weight, canary: weight})], ME)
        self.ledger.renew(lease)
