"""The port every mesh provider implements: the one place where operations meet a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from autopilot.mesh.model import (
    Aspect,
    Capability,
    Change,
    Lease,
    LeaseStatus,
    Plan,
    Receipt,
    Target,
    TargetState,
)


class Mesh(Protocol):
    """A mesh that can be observed, and changed by overlays under leases. Every call is safe to repeat."""

    @property
    def name(self) -> str:
        """What people call this mesh."""
        ...

    async def capabilities(self) -> list[Capability]:
        """Which changes it can make, and who undoes them when everything of ours is gone."""
        ...

    async def observe(self, target: Target) -> TargetState:
        """The target's arms, endpoints and weights now.

        Raises:
            InvalidChange: no such target.
        """
        ...

    async def plan(self, target: Target, changes: Sequence[Change]) -> Plan:
        """What the changes would write. Writes nothing.

        Raises:
            InvalidChange: the changes name what is not there.
        """
        ...

    async def acquire(
        self,
        target: Target,
        aspects: Sequence[Aspect],
        *,
        operation: str,
        token: str,
        ttl: float,
        planned_end: float | None = None,
    ) -> Lease:
        """Takes the lease, or returns the one that the same `token` (a run of the operation) took before.

        An earlier run of the same operation cannot be running any more: what it left is lifted first.

        Raises:
            LeaseHeld: another operation holds one of the aspects, or one that excludes them.
            InvalidChange: no such target.
        """
        ...

    async def apply(self, lease: Lease, changes: Sequence[Change]) -> Receipt:
        """Lays the changes over the base, in place of those this lease had made before; returns once written.

        Raises:
            LeaseLost: the lease is no longer held, or condemned. Nothing was written.
            InvalidChange: the changes name what is not there. Nothing was written.
        """
        ...

    async def verify(self, receipt: Receipt, *, timeout: float = 10.0) -> None:
        """Waits until the data plane itself reports what was written.

        Raises:
            MeshUnavailable: it did not within `timeout` seconds; the message names the proxies that lag.
        """
        ...

    async def renew(self, lease: Lease) -> None:
        """Says that the operation lives: touches the lease record, and the proxies' deadline when half of it is gone.

        Raises:
            LeaseLost: the lease is no longer held, or condemned.
        """
        ...

    async def condemn(self, lease: Lease, reason: str) -> None:
        """Harm was found: from now on the lease cannot be renewed. Does nothing where the lease is gone."""
        ...

    async def commit(self, lease: Lease) -> Receipt | None:
        """Makes the overlay the base, and ends the lease; None where this was done before.

        Raises:
            LeaseLost: the lease went before the commit began. Nothing was written.
        """
        ...

    async def lift(self, lease: Lease) -> Receipt | None:
        """Takes the overlay away and ends the lease; None where it is gone. Rolls forward what was committing."""
        ...

    async def leases(self) -> list[LeaseStatus]:
        """Every lease held on this mesh."""
        ...

    async def sweep(self) -> list[str]:
        """One round of a guard: restores what nobody renews any more, finishes commits, honours deadlines.

        Returns:
            What was done, one sentence each; empty when all is as it should be.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...
