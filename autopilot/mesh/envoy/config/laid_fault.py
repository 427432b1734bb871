"""One fault of one overlay, as proxies meet it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from autopilot.mesh.envoy.config.names import (
    fault_name,
)
from autopilot.mesh.model import InjectFault, endpoints_arm
from autopilot.spec.chaos.faults import (
    Abort,
    Bandwidth,
    Delay,
    Fault,
    GrpcAbort,
)
from autopilot.spec.chaos.scope import Scope
from autopilot.spec.mesh import MeshService

FILTERED = (Delay, Abort, GrpcAbort, Bandwidth)
"""Made by the fault filter."""


EVERYBODY = Scope(percentage=100.0)


_LATER_FIELDS = ("path", "method", "rule")
"""Of scopes: not part of a fault's name where they are empty, so that an upgrade renames no fault that is laid."""


@dataclass(frozen=True, slots=True)
class Laid:
    """One fault as a holder has laid it over a service."""

    service: MeshService
    fencing: int
    change: InjectFault

    @property
    def fault(self) -> Fault:
        """What it does."""
        return self.change.fault

    @property
    def name(self) -> str:
        """Of its routes, counters and clusters: another fault of the same holder is called otherwise."""
        later = {name for name in _LATER_FIELDS if getattr(self.scope, name) is None}
        said = self.change.model_dump_json(exclude={"scope": later})
        digest = hashlib.sha256(said.encode()).hexdigest()[:8]
        return fault_name(self.fencing, digest)

    @property
    def scope(self) -> Scope:
        """Whom it meets."""
        return self.change.scope or EVERYBODY

    @property
    def inbound(self) -> bool:
        """Whether it is laid at the target's side."""
        return self.scope.view == "policy" and isinstance(self.fault, FILTERED)

    def meets(self, arm: str) -> bool:
        """Whether requests to this arm are meant."""
        return self.scope.arm in (None, endpoints_arm(arm))
