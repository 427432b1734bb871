"""The port every mesh provider implements: the one place where operations meet a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from autopilot.mesh.audit import AuditRecord
from autopilot.mesh.leases.overrides import Actor, Halt, LeaseOrders, Tombstone
from autopilot.mesh.leases.unreadable import Unreadable
from autopilot.mesh.model import (
    Aspect,
    Capability,
    Change,
    FaultSign,
    Holder,
    Lease,
    LeaseStatus,
    Plan,
    Receipt,
    SplitTraffic,
    Target,
    TargetState,
)
from autopilot.spec.chaos.experiment import Action
from autopilot.spec.chaos.limits import Ceilings


class Mesh(Protocol):
    """A mesh that can be observed, and changed by overlays under leases. Every call is safe to repeat."""

    @property
    def name(self) -> str:
        """The name of the mesh."""
        ...

    @property
    def max_unattended(self) -> float:
        """Maximum seconds that an overlay outlives the last renewal by its holder."""
        ...

    @property
    def ceilings(self) -> Ceilings:
        """Limits for experiments, set by the administrator of the mesh."""
        ...

    async def capabilities(self) -> list[Capability]:
        """The changes it supports, and what restores them when no process of Autopilot lives."""
        ...

    async def observe(self, target: Target, split: SplitTraffic | None = None) -> TargetState:
        """The target's arms, endpoints and weights now.

        Args:
            target: the target.
            split: whose arms are meant; without one, those that can be told without a spec.

        Raises:
            InvalidChange: no such target, or no such arm; or, before anything is laid, something leads to the split's
                stable arm that cannot be driven.
        """
        ...

    async def ready(self, target: Target, arms: Sequence[str]) -> dict[str, int]:
        """How many endpoints of each arm take requests now; cheap, for it is asked every second or two.

        Returns:
            Arm → ready endpoints. An arm is left out where the mesh has no view of its endpoints of its own.

        Raises:
            MeshError: there is no answer, which is no evidence of anything.
        """
        ...

    async def plan(self, target: Target, changes: Sequence[Change]) -> Plan:
        """What the changes would write. Writes nothing.

        Raises:
            InvalidChange: the changes name what is not there.
        """
        ...

    async def check_action(self, target: Target, action: Action) -> None:
        """Looks whether an action on workloads or nodes could be taken now. Writes nothing.

        Raises:
            InvalidChange: it could not, or it would lose what its specification does not give up.
            MeshError: that could not be found out.
        """
        ...

    async def signs(self, lease: Lease, changes: Sequence[Change]) -> list[FaultSign]:
        """How each fault among the changes is recognised in the counters of proxies, in order.

        Raises:
            InvalidChange: no such target.
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
        queue: bool = False,
        by: Actor = ...,
        asked: float = 0.0,
    ) -> Lease:
        """Takes the lease, or returns the one that the same `token` (a run of the operation) took before.

        An earlier run of the same operation has ended: what it left is lifted first. A holder of a lower priority is
        asked to give way, and is restored if it does not.

        Args:
            target: what is to be changed.
            aspects: the sides of it.
            operation: the workflow id of whoever asks.
            token: which run of it.
            ttl: seconds without renewal after which guards restore.
            planned_end: seconds since the epoch at which the operation ends in any case.
            queue: whether to wait in turn.
            by: who is named for it.
            asked: when this run asked, seconds since the epoch by Temporal's clock: it orders the runs of an operation.

        Raises:
            StaleWrite: a later run of the same operation holds the lease: this request was delayed.
            LeasePending: ask again: the holder gives way, or with `queue` it is not our turn yet.
            LeaseHeld: another operation holds one of the aspects, or one that excludes them.
            Halted: the stop button is pressed.
            TakenOver: a person has the target.
            Condemned: this run did harm to the target before.
            InvalidChange: no such target.
        """
        ...

    async def apply(self, lease: Lease, changes: Sequence[Change], by: Actor = ...) -> Receipt:
        """Lays the changes over the base, in place of those this lease had made before; returns once written.

        `lease.write` is the write's number. A write that arrives after a later one of the same lease is refused.

        Raises:
            StaleWrite: a later write was accepted before. Nothing was written.
            LeaseLost: the lease is no longer held, or condemned. Nothing was written.
            Halted: a halt is in force. Nothing was written.
            ClockSkew: a proxy's clock differs by more than deadlines allow. Nothing was written.
            InvalidChange: the changes name what is not there. Nothing was written.
        """
        ...

    async def verify(self, receipt: Receipt, *, timeout: float | None = None) -> None:
        """Waits until the data plane itself reports what was written.

        Raises:
            MeshUnavailable: it did not within `timeout` seconds (default: 10); the message names the proxies that lag.
        """
        ...

    async def renew(self, lease: Lease) -> LeaseOrders:
        """Renews the lease: updates the lease record, and the proxies' deadline when half of it has passed.

        Returns:
            Whether a halt stops it, and whether an operation of a higher priority waits.

        Raises:
            LeaseLost: the lease is no longer held, or condemned; or a later write than `lease.write` was accepted.
        """
        ...

    async def condemn(self, lease: Lease, reason: str) -> None:
        """Harm was found: from now on the lease cannot be renewed. Does nothing where the lease is gone."""
        ...

    async def commit(self, lease: Lease, by: Actor = ...) -> Receipt | None:
        """Makes the overlay the base, and ends the lease; None where this was done before.

        Raises:
            LeaseLost: the lease was lost before the commit began. Nothing was written.
            StaleWrite: what is laid is another write than `lease.write`, the one that is meant. Nothing was written.
            Halted: a halt is in force, and the commit had not begun. Nothing was written.
        """
        ...

    async def lift(self, lease: Lease, by: Actor = ...) -> Receipt | None:
        """Takes the overlay away and ends the lease; None where it is gone. Rolls forward what was committing."""
        ...

    async def leases(self) -> list[LeaseStatus]:
        """Every lease held on this mesh."""
        ...

    async def unreadable(self) -> list[Unreadable]:
        """Records that this version cannot read: another one wrote them, or they are damaged.

        Each is kept as it is. Nothing starts on its target, and nothing else is stopped by it.
        """
        ...

    async def sweep(self, by: Actor = ...) -> list[str]:
        """One round of a guard: restores what is no longer renewed, finishes commits, enforces deadlines.

        Returns:
            What was done, one sentence each; empty when all is as it should be.
        """
        ...

    async def take_over(self, operation: str, by: Actor, until: float | None = None) -> list[Receipt]:
        """Restores every target that the operation holds, and blocks each until it is handed back.

        Args:
            operation: its workflow id.
            by: who does it, and why.
            until: when the targets hand themselves back, seconds since the epoch; None for never.

        Raises:
            InvalidChange: it holds none.
        """
        ...

    async def hand_back(self, target: Target, by: Actor) -> bool:
        """Lets operations take the target again; False where no person had taken it over."""
        ...

    async def halt(self, halt: Halt) -> list[tuple[Holder, Receipt]]:
        """Starts a halt. Operations that must end are restored when this returns; returns them."""
        ...

    async def unhalt(self, kind: str, namespace: str, by: Actor) -> bool:
        """Releases the halt of this scope; False where there was none."""
        ...

    async def orders(self) -> tuple[list[Halt], list[Tombstone]]:
        """Every halt in force, and every target that a person took back."""
        ...

    async def refused(self, target: Target, operation: str) -> str:
        """Why people's orders forbid this operation to start on the target now; empty where none does."""
        ...

    async def audit(self) -> list[AuditRecord]:
        """Every record of a change, in the order they were made.

        Raises:
            MeshError: what is kept is damaged.
        """
        ...

    async def close(self) -> None:
        """Closes connections."""
        ...
