"""Checks the hypothesis while no fault is laid: before the method, to decide whether to start it, and after the
restore, when the counters of the faults must no longer rise."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final, Literal

from activities.contracts.chaos import Steady, SteadyRequest
from activities.lease_renewal import LeaseRenewer
from activities.probes.runner import ProbeRunner
from activities.probes.scheduler import ProbeScheduler, record
from activities.temporal_health import TemporalHealth
from autopilot.evidence.chaos.hypothesis import ProbeState, settled, update
from autopilot.evidence.model import Inconclusive
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.operations.experiment_status import ProbeRecord
from autopilot.spec.chaos.probes import PHASES, Probe

_PAUSE = 0.05
_ENDS: Final[dict[str, Literal["leaseLost", "condemned", "takenOver", "halted"]]] = {
    "leaseLost": "leaseLost",
    "condemned": "condemned",
    "takenOver": "takenOver",
    "halted": "halted",
}


class SteadyStateCheck:
    """Looks at every probe of one phase until each has an answer."""

    def __init__(self, request: SteadyRequest, attached: AttachedMesh, health: TemporalHealth) -> None:
        self._request = request
        modes = PHASES[request.phase]
        self._probes = {probe.name: probe for probe in request.spec.hypothesis.probes if probe.mode in modes}
        self._states: dict[str, ProbeState] = {}
        self._keeper = (
            LeaseRenewer(attached.mesh, request.lease, health, grace=request.temporal_grace, halt="end")
            if request.lease
            else None
        )

    async def run(self, prober: ProbeRunner) -> Steady:
        """Returns once every probe has passed, failed, or had no data for too long."""
        until = time.monotonic() + sum(_patience(prober, probe) for probe in self._probes.values())
        looking = ProbeScheduler(prober)
        async with self._kept() as kept, looking.following(self._probes.values()):
            while True:
                for probe, look in looking.take():
                    state = self._states.get(probe.name, ProbeState())
                    self._states[probe.name] = update(probe, state, look, final=True)
                if settled(self._states.get(name, ProbeState()) for name in self._probes):
                    return Steady(probes=self.records())
                if time.monotonic() > until:
                    return Steady(probes=self.records())
                if kept is not None and kept.done() and (unheard := kept.result()).cause in _ENDS:
                    return Steady(probes=self.records(), ended=_ENDS[unheard.cause], reason=unheard.reason)
                await asyncio.sleep(_PAUSE)

    @contextlib.asynccontextmanager
    async def _kept(self) -> AsyncIterator[asyncio.Task[Inconclusive] | None]:
        """Keeps the lease, where there is one."""
        if self._keeper is None:
            yield None
            return
        async with self._keeper.keeping() as kept:
            yield kept

    def records(self) -> tuple[ProbeRecord, ...]:
        """What each probe has come to."""
        return tuple(
            record(probe, self._states.get(name, ProbeState()), self._request.phase)
            for name, probe in self._probes.items()
        )


def _patience(prober: ProbeRunner, probe: Probe) -> float:
    """Seconds in which a probe has an answer one way or the other, with some to spare."""
    looks = probe.failures + probe.successes + probe.missing
    return 1.0 + prober.patience(probe) + looks * (probe.interval + probe.timeout)
