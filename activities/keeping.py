"""Renews a lease on behalf of an operation, for as long as that operation can still receive results.

Whichever long activity acts for the operation renews. It stops when it returns, when Temporal has been silent for the
operation's grace, and when the operation's workflow is parked: from then on guards and proxies restore.
"""

from __future__ import annotations

import time
from typing import Literal

from activities.pulse import Pulse
from activities.signatures import HaltRule
from autopilot.evidence.model import Inconclusive
from autopilot.mesh.errors import Condemned, LeaseLost, MeshError, TakenOver
from autopilot.mesh.model import Lease
from autopilot.mesh.orders import Standing
from autopilot.mesh.port import Mesh

_LONGEST = 5.0
"""Maximum seconds between two renewals; a person's order or a higher priority takes effect within the same time."""


class Keeper:
    """Renews one lease.

    Args:
        mesh: where it is held.
        lease: the lease.
        pulse: of Temporal.
        grace: seconds without Temporal after which it is left to run out.
        halt: what the stop button means to whoever acts.
    """

    def __init__(self, mesh: Mesh, lease: Lease, pulse: Pulse, *, grace: float, halt: HaltRule) -> None:
        self._mesh = mesh
        self._lease = lease
        self._pulse = pulse
        self._grace = grace
        self._halt = halt
        self._every = min(_LONGEST, lease.ttl / 10)
        self._renewed = -self._every

    async def renew(self) -> Inconclusive | None:
        """Renews the lease when it is due; returns the reason where the operation cannot go on."""
        if time.monotonic() - self._renewed < self._every:
            return None
        if await self._unheard():
            return None  # no workflow would receive our verdict: let the guards restore
        try:
            standing = await self._mesh.renew(self._lease)
        except LeaseLost as error:
            return Inconclusive(cause=_cause(error), reason=str(error))
        except MeshError:
            return None  # no answer, or a missing right: the next tick retries, and the deadline stays
        self._renewed = time.monotonic()
        return self._ordered(standing)

    def _ordered(self, standing: Standing) -> Inconclusive | None:
        if standing.yield_to:
            return Inconclusive(
                cause="takenOver",
                reason=f"{standing.yield_to}, which has a higher priority, takes {self._lease.target} over",
            )
        if standing.halted and self._halt == "end":
            return Inconclusive(cause="halted", reason=standing.halted)
        if not standing.halted and self._halt == "over":
            return Inconclusive(cause="stopped", reason="the halt was released")
        return None

    async def _unheard(self) -> bool:
        if self._pulse.silent > self._grace:
            return True
        return await self._pulse.parked(self._lease.holder.operation) > self._grace


def _cause(error: LeaseLost) -> Literal["leaseLost", "takenOver", "condemned"]:
    match error:
        case TakenOver():
            return "takenOver"
        case Condemned():
            return "condemned"
        case _:
            return "leaseLost"
