"""Runs many probes beside a watch, each at its own interval: a slow one delays no other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Literal

from activities.probes.runner import ProbeRunner
from autopilot.evidence.chaos.hypothesis import Look, ProbeState, concluded
from autopilot.operations.experiment_status import ProbeRecord
from autopilot.spec.chaos.probes import MeshProbe, Probe

Phase = Literal["before", "during", "after"]


class ProbeScheduler:
    """The looks that nobody has judged yet.

    Args:
        prober: looks.
        tick: for abort conditions: seconds after which each is looked at again, where its own interval is longer.
    """

    def __init__(self, prober: ProbeRunner, tick: float | None = None) -> None:
        self._prober = prober
        self._tick = tick
        self._fresh: list[tuple[Probe, Look]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def take(self) -> list[tuple[Probe, Look]]:
        """The looks since the last call, in the order they ended.

        Raises:
            Exception: a probe cannot be looked at any more, for a fault of ours; what it was is raised as it was.
        """
        for task in self._tasks:
            if task.done() and not task.cancelled() and (failure := task.exception()) is not None:
                raise failure
        taken, self._fresh = self._fresh, []
        return taken

    @contextlib.asynccontextmanager
    async def following(self, probes: Iterable[Probe]) -> AsyncIterator[None]:
        """Looks at every probe while the context lasts; what a mesh counted before does not count."""
        self._prober.forget()
        self._tasks = [asyncio.create_task(self._follow(probe), name=f"probe {probe.name}") for probe in probes]
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, probe: Probe) -> None:
        """Looks at every interval; a look that takes longer than its interval skips the ones it overlaps."""
        loop = asyncio.get_running_loop()
        interval = min(probe.interval, self._tick or probe.interval)
        due = loop.time()
        while True:
            look = await self._prober.look(probe)
            if look.ok is not None or not self._prober.early(probe):
                self._fresh.append((probe, look))
            pause = interval
            if isinstance(probe, MeshProbe):
                pause = min(pause, self._prober.patience(probe)) if look.ok is None else pause
            due += pause
            due += max(0, (loop.time() - due) // interval) * interval
            if isinstance(probe, MeshProbe) and interval > probe.window:
                await asyncio.sleep(max(0.0, due - probe.window - loop.time()))
                await self._prober.prime(probe)
            await asyncio.sleep(max(0.0, due - loop.time()))


def record(probe: Probe, state: ProbeState, phase: Phase, step: int = 0, *, guard: bool = False) -> ProbeRecord:
    """The result of one probe in one phase, for the report; a probe without a verdict is inconclusive.

    Args:
        probe: whose record it is.
        state: what its looks came to.
        phase: of the experiment.
        step: of the method, from 1, for `during`.
        guard: whether it is an abort condition.
    """
    verdict, reason = concluded(probe, state)
    return ProbeRecord(
        name=probe.name,
        type=probe.type,
        phase=phase,
        step=step,
        guard=guard,
        verdict=verdict,
        reason=reason,
        looks=state.looks,
        failed=state.failed,
        missing=state.missing,
        samples=state.samples,
    )
