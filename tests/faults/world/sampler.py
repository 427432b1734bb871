"""Looks at leases and bases all the time: who lives, who committed when, and when a lease was gone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from autopilot.mesh.errors import MeshError
from autopilot.mesh.model import LeaseStatus, Target
from tests.faults.world.dataplane import DataPlane


class Sampler:
    """What was seen of every service, by its name `mesh/namespace/service`; times in seconds since the epoch."""

    def __init__(self, planes: Sequence[DataPlane]) -> None:
        self._planes = planes
        self.forget()

    def forget(self) -> None:
        """Begins anew."""
        self.life: defaultdict[str, list[float]] = defaultdict(list)
        """When the lease was seen to have been taken or renewed."""
        self.gone: dict[str, float] = {}
        """When the last lease was first seen to be gone."""
        self.committed: dict[str, float] = {}
        """When version 2 was first seen to be the base."""
        self.held: dict[str, LeaseStatus] = {}

    @contextlib.asynccontextmanager
    async def looking(self, every: float = 0.15) -> AsyncIterator[None]:
        """Samples while the context lasts."""
        task = asyncio.create_task(self._look_on(every), name="sampler")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def look(self) -> None:
        """One sample."""
        held: dict[str, LeaseStatus] = {}
        for plane in self._planes:
            try:
                held |= {str(status.lease.target): status for status in await plane.mesh.leases()}
            except MeshError:  # not to be read now: as it was
                held |= {name: status for name, status in self.held.items() if name.startswith(plane.place.name + "/")}
        now = time.time()
        for name, status in held.items():
            before = self.held.get(name)
            if before is None or _changed(before, status):
                self.life[name].append(now)
            self.gone.pop(name, None)
        for name in self.held.keys() - held.keys():
            self.gone[name] = now
        self.held = held
        for plane in self._planes:
            for target in plane.place.targets:
                if str(target) not in self.committed and plane.base_weight(target) == 100:
                    self.committed[str(target)] = now

    def leases_of(self, target: Target) -> list[str]:
        """Whoever held it at the last look."""
        status = self.held.get(str(target))
        return [str(status.lease.holder)] if status else []

    async def _look_on(self, every: float) -> None:
        while True:
            await self.look()
            await asyncio.sleep(every)


def _changed(before: LeaseStatus, now: LeaseStatus) -> bool:
    return (before.lease.holder, before.renewed, before.deadline) != (now.lease.holder, now.renewed, now.deadline)
