"""Failures of the mesh and of telemetry that only the worker meets, turned on and off by files."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from autopilot.mesh.envoy.atomic_files import write_atomically
from autopilot.mesh.errors import MeshUnavailable
from autopilot.mesh_registry.meshes import Meshes
from autopilot.telemetry.fault_effects.port import Counted, FaultEffects, Hop, Mark
from autopilot.telemetry.model import Observation, Subject, TelemetryError, TelemetrySource
from tests.faults.world.control import Control

TELEMETRY_DOWN = "telemetry-down"
REFUSING = "mesh-refuses"
SLOTS_TAKEN = "slots-taken"
DISK_FULL = "disk-full"
"""Where no small disk can be made: what `write_atomically` says when one is full."""


class Unreachable:
    """A telemetry source whose proxies cannot be reached while the switch is on."""

    def __init__(self, source: TelemetrySource, control: Control) -> None:
        self._source = source
        self._control = control

    @property
    def name(self) -> str:
        return self._source.name

    async def observe(self, subjects: Sequence[Subject]) -> list[Observation]:
        if self._control.is_on(TELEMETRY_DOWN):
            raise TelemetryError("no Envoy answered: the crash suite has taken telemetry down")
        return await self._source.observe(subjects)

    async def close(self) -> None:
        await self._source.close()


class Blind:
    """The same for whoever sees what experiments do."""

    def __init__(self, witness: FaultEffects, control: Control) -> None:
        self._witness = witness
        self._control = control

    @property
    def lag(self) -> float:
        return self._witness.lag

    def seen_by(self, subject: Subject, mark: Mark) -> str:
        return self._witness.seen_by(subject, mark)

    async def effects(self, subject: Subject, marks: Sequence[Mark]) -> list[Counted]:
        self._look()
        return await self._witness.effects(subject, marks)

    async def hops(self, subjects: Sequence[Subject]) -> list[Hop]:
        self._look()
        return await self._witness.hops(subjects)

    async def close(self) -> None:
        await self._witness.close()

    def _look(self) -> None:
        if self._control.is_on(TELEMETRY_DOWN):
            raise TelemetryError("no Envoy answered: the crash suite has taken telemetry down")


def install(control: Control, meshes: Meshes) -> None:
    """Puts the switches between the worker and the world."""

    def write(path: Path, content: str) -> None:
        if control.is_on(REFUSING):
            raise MeshUnavailable(f"cannot write {path}: the crash suite refuses")
        if control.is_on(DISK_FULL):
            raise MeshUnavailable(f"cannot write {path}: {os.strerror(errno.ENOSPC)}")
        write_atomically(path, content)

    for name, module in list(sys.modules.items()):
        if name.startswith("autopilot.mesh.") and getattr(module, "write_atomically", None) is write_atomically:
            module.write_atomically = write  # type: ignore[attr-defined]
    for attached in meshes.attached.values():
        attached.proxies.source = Unreachable(attached.proxies.source, control)
        attached.witness = Blind(attached.witness, control)
