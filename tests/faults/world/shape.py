"""What the world of the suite looks like: its meshes, their services, and the files that describe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autopilot.local.ports import LOOPBACK, allocate
from autopilot.mesh.model import Target
from tests.faults.world.traffic import Client

BASE = {"v1": 100, "v2": 0}
"""What every service has when nobody operates."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of everything."""

    meshes: int = 1
    services: int = 8
    """In every mesh."""
    period: float = 0.1
    """Seconds from one request of a client to its next."""
    max_unattended: float = 120.0
    together: int = 1
    """Services behind one outbound listener, told apart by their Host header."""


@dataclass(frozen=True, slots=True)
class MeshPlace:
    """One mesh: a folder with its `mesh.yaml`, one proxy, and the services behind it."""

    name: str
    folder: Path
    admin: int
    listeners: tuple[int, ...]
    """A port for every group of services."""
    targets: tuple[Target, ...]
    together: int

    @property
    def file(self) -> Path:
        return self.folder / "mesh.yaml"

    def describe(self, versions: Mapping[str, int], max_unattended: float) -> str:
        """The text of `mesh.yaml`: every service's traffic to v1."""
        arms = ", ".join(f"{name}: {{endpoints: ['{LOOPBACK}:{port}']}}" for name, port in versions.items())
        weights = ", ".join(f"{name}: {weight}" for name, weight in BASE.items())
        services = [
            f"    - {{name: {target.service}, namespace: {target.namespace}, arms: {{{arms}}}, weights: {{{weights}}}}}"
            for target in self.targets
        ]
        outbound = []
        for number, port in enumerate(self.listeners):
            called = ", ".join(target.ref for target in self.targets if self._group(target) == number)
            outbound.append(f"        - {{name: out{number}, address: '{LOOPBACK}:{port}', services: [{called}]}}")
        lines = [
            "apiVersion: meshautopilot.io/v1alpha1",
            "kind: Mesh",
            f"metadata: {{name: {self.name}}}",
            "spec:",
            f"  maxUnattended: {max_unattended:g}s",
            "  chaos: {maxTraffic: 100%, maxConcurrent: 100}",
            "  services:",
            *services,
            "  proxies:",
            "    - name: caller",
            f"      admin: {LOOPBACK}:{self.admin}",
            "      outbound:",
            *outbound,
        ]
        return "\n".join(lines) + "\n"

    def clients(self) -> list[Client]:
        """One caller for every service."""
        return [
            Client(str(target), f"{target.service}.{target.namespace}", self.listeners[self._group(target)])
            for target in self.targets
        ]

    def _group(self, target: Target) -> int:
        return self.targets.index(target) // self.together


def places(folder: Path, shape: Shape, others: Sequence[str] = ()) -> tuple[list[MeshPlace], dict[str, int]]:
    """Where the meshes are, and ports for `others`: all found together, so that none is given twice."""
    groups = -(-shape.services // shape.together)
    meshes = {f"m{number}": number for number in range(1, shape.meshes + 1)}
    wanted = [f"{name} {part}" for name in meshes for part in ("admin", *range(groups))]
    ports = allocate([*others, *wanted])
    found = []
    for name, number in meshes.items():
        first = 1 + (number - 1) * shape.services
        targets = tuple(
            Target(mesh=name, namespace="shop", service=f"s{index:02}")
            for index in range(first, first + shape.services)
        )
        listeners = tuple(ports[f"{name} {group}"] for group in range(groups))
        found.append(MeshPlace(name, folder / name, ports[f"{name} admin"], listeners, targets, shape.together))
    return found, {name: ports[name] for name in others}
