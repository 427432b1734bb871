"""One step of an experiment while its faults are laid: looks, counts, and stops it as soon as it must be.

Its loop waits for nothing but its tick: probes, counters and the lease are asked in tasks beside it.
Apart from Temporal: what it heartbeats and how it is cancelled belongs to the activity around it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from pydantic import Field

from activities.chaos.fault_effects import FaultEffectMeter, Reading, amplification, both, changes_of, count, met
from activities.contracts.chaos import Held, HoldBeat, HoldCause, HoldRequest
from activities.judge_stalls import Stalls
from activities.lease_renewal import LeaseRenewer
from activities.probes.runner import ProbeRunner
from activities.probes.scheduler import ProbeScheduler, record
from activities.temporal_health import TemporalHealth
from autopilot.evidence.chaos import blast_radius
from autopilot.evidence.chaos.blast_radius import Count
from autopilot.evidence.chaos.hypothesis import Look, ProbeState, update
from autopilot.evidence.model import Inconclusive
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.operations.common import Exposure
from autopilot.operations.experiment_status import ChaosProgress, Effect, ProbeRecord
from autopilot.spec.chaos.limit_checks import share_allowed
from autopilot.spec.chaos.probes import PHASES, Probe
from autopilot.telemetry.fault_effects.port import Hop
from autopilot.telemetry.model import TelemetryError
from autopilot.wire import Wire

_COUNTING = 2.5
"""Time-out of one reading of the counters, in seconds."""
_LAST = 1.0
"""Seconds for which the end of a hold waits for a last reading of all hops: the restore follows."""
_TOLD = 5
"""Looks of each probe in a heartbeat besides the state, which has them all: it must fit into a payload."""
SILENCE = 10.0
"""Seconds without a reading after which the experiment ends, since its exposure is unknown."""


class HoldState(Wire):
    """State that another worker continues from where this one dies."""

    probes: dict[str, ProbeState] = Field(default_factory=dict)
    first: Reading | None = None
    counts: tuple[Count, ...] = ()
    heard: float = 0.0
    burn: float | None = None


class FaultStep:
    """Watches one step."""

    def __init__(
        self, request: HoldRequest, attached: AttachedMesh, health: TemporalHealth, earlier: HoldBeat | None
    ) -> None:
        self._request = request
        self._attached = attached
        self._spec = request.spec
        self._state = HoldState.model_validate_json(earlier.state) if earlier else HoldState(heard=time.time())
        self._progress = earlier.progress if earlier else ChaosProgress(time=time.time(), hold=request.hold or 0.0)
        self._keeper = LeaseRenewer(
            attached.mesh, request.lease, health, grace=request.temporal_grace, halt=request.halt
        )
        during = PHASES["during"]
        self._guards = {probe.name: probe for probe in self._spec.abort}
        self._believed = {probe.name: probe for probe in self._spec.hypothesis.probes if probe.mode in during}
        # Where a lease is lost while nobody is alive, no counter is read again: what was met before is what was told.
        self._effects: tuple[Effect, ...] = self._progress.effects or request.effects
        self._hops: tuple[list[Hop], list[Hop]] | None = None
        self._sight: FaultEffectMeter | None = None
        """Reads the faults' own counters, once the mesh has said which they are."""
        self._reading: asyncio.Task[Reading] | None = None
        self._counted_once = False
        self._looked_at: set[str] = set()
        """Probes with a look by this process: looks by a worker that died cannot end a hold well."""
        self._watched = {**self._believed, **self._guards}
        self._patience = 0.0

    async def run(self, prober: ProbeRunner, heartbeat: Callable[[HoldBeat], None]) -> Held:
        """Watches until the hold is over or something ends it.

        Raises:
            InvalidChange: nobody can see whether faults take effect.
        """
        spec = self._spec
        sight = FaultEffectMeter(self._attached, self._request.target, spec, ())
        before = asyncio.create_task(sight.hops_if_any(), name="hops before a hold")
        looking, guarding = ProbeScheduler(prober), ProbeScheduler(prober, spec.tick)
        self._patience = max((prober.patience(one) + one.timeout for one in self._watched.values()), default=0.0)
        loop = asyncio.get_running_loop()
        stalls = Stalls("chaos", spec.tick)
        try:
            async with (
                self._keeper.keeping() as kept,
                looking.following(self._believed.values()),
                guarding.following(self._guards.values()),
            ):
                due = loop.time()
                while True:
                    stalls.passed()
                    found = self._tick(sight, [*looking.take(), *guarding.take()], kept)
                    heartbeat(HoldBeat(state=self._state.model_dump_json(), progress=self._progress))
                    if found is not None:
                        break
                    due = max(due + spec.tick, loop.time())
                    await asyncio.wait({kept}, timeout=due - loop.time())
                if found[0] in ("guard", "limit", "hypothesis"):
                    await self._keeper.condemn(found[1])
                elif before.done():  # a restore must not wait
                    await self._see_hops(sight, before.result())
            stalls.ended()
            return self.result(*found)
        finally:
            for task in (before, self._reading):
                if task is not None:
                    task.cancel()

    def result(self, cause: HoldCause, reason: str) -> Held:
        """The answer to the workflow."""
        during = amplification(*self._hops) if self._hops else {}
        return Held(
            cause=cause,
            reason=reason,
            probes=self._records(),
            effects=self._effects,
            amplification=both(self._request.baseline.amplification, during),
            exposure=self._exposure(),
            burn=self._state.burn,
        )

    def _tick(
        self, sight: FaultEffectMeter, looks: Sequence[tuple[Probe, Look]], kept: asyncio.Task[Inconclusive]
    ) -> tuple[HoldCause, str] | None:
        """One round: what must end it first, then whether its time is over."""
        self._fold(looks)
        failed = self._failed() or self._counted()
        self._show()
        if failed is not None:
            return failed
        if kept.done():
            unheard = kept.result()
            return _ENDS.get(unheard.cause, "stopped"), unheard.reason
        if self._request.hold is None or self._progress.held < self._request.hold:
            return None
        return self._over(sight)

    def _over(self, sight: FaultEffectMeter) -> tuple[HoldCause, str] | None:
        """The hold's time is over: it goes on only for probes whose first look may come soon."""
        late = self._progress.held - (self._request.hold or 0.0)
        unmet = any(not effect.requests for effect in self._effects)
        if (unmet or not self._counted_once) and late < sight.witness.lag + _COUNTING:
            return None
        unseen = [name for name in self._watched if name not in self._looked_at]
        if unseen and late < self._patience:
            return None
        if guards := [name for name in unseen if name in self._guards]:
            return (
                "noData",
                f"abort condition {', '.join(guards)} was not checked during the hold: make the hold longer",
            )
        return "held", f"held for {self._progress.held:.1f} s"

    def _fold(self, looks: Sequence[tuple[Probe, Look]]) -> None:
        probes = dict(self._state.probes)
        for probe, look in looks:
            probes[probe.name] = update(probe, probes.get(probe.name, ProbeState()), look)
            self._looked_at.add(probe.name)
        self._state = self._state.model_copy(update={"probes": probes})

    def _failed(self) -> tuple[HoldCause, str] | None:
        for name in self._guards:
            state = self._state.probes.get(name, ProbeState())
            if state.verdict == "fail":
                return "guard", f"abort condition {name}: {state.reason}"
            if state.verdict == "inconclusive":
                return "noData", f"abort condition {name} cannot be measured: {state.reason}"
        for name in self._believed:
            state = self._state.probes.get(name, ProbeState())
            if state.verdict == "fail":
                return "hypothesis", f"{name}: {state.reason}"
        return None

    async def _read(self) -> Reading:
        """Reads all counters now; the first time it asks the mesh first which counters are the faults'."""
        if self._sight is None:
            request = self._request
            changes = changes_of(self._spec, request.step, request.lease.holder.operation)
            signs = await self._attached.mesh.signs(request.lease, changes)
            self._sight = FaultEffectMeter(self._attached, request.target, self._spec, signs)
        return await self._sight.read(time.time())

    async def _see_hops(self, sight: FaultEffectMeter, before: list[Hop]) -> None:
        """Reads all hops a last time; amplification is not reported where that takes too long."""
        try:
            async with asyncio.timeout(_LAST):
                self._hops = (before, await sight.hops_if_any())
        except TimeoutError:
            self._hops = None

    def _counted(self) -> tuple[HoldCause, str] | None:
        """Takes the last reading of the counters and starts the next one; says which limit is passed."""
        now = time.time()
        task = self._reading
        if task is None:
            self._reading = asyncio.create_task(self._read(), name="counters of an experiment")
            return None
        if not task.done():
            return self._silent(now, "no counters were read yet")
        self._reading = asyncio.create_task(self._read(), name="counters of an experiment")
        try:
            reading = task.result()
        except TelemetryError as error:
            return self._silent(now, str(error))
        self._counted_once = True
        first = self._state.first or reading
        seen = count(first, reading)
        window = self._spec.safety.error_budget.window if self._spec.safety.error_budget else 0.0
        counts = blast_radius.trimmed((*self._state.counts, seen), window)
        self._state = self._state.model_copy(update={"first": first, "counts": counts, "heard": now})
        self._effects = met(first, reading, self._request.effects)
        return self._beyond(seen, counts)

    def _silent(self, now: float, why: str) -> tuple[HoldCause, str] | None:
        silent = now - self._state.heard
        if silent <= SILENCE:
            return None
        return (
            "noData",
            f"the experiment's exposure is unknown, since counters have been missing for {silent:.0f} s: {why}",
        )

    def _beyond(self, seen: Count, counts: Sequence[Count]) -> tuple[HoldCause, str] | None:
        safety, baseline = self._spec.safety, self._request.baseline
        met_by = sum(effect.requests for effect in self._effects)
        of = max((effect.of for effect in self._effects), default=0.0)
        if said := blast_radius.beyond_share(met_by, of, share_allowed(self._spec)):
            return "limit", said
        usual = baseline.failures / baseline.requests if baseline.requests else 0.0
        left = max(0, safety.max_failures - round(self._request.spent.failures))
        if said := blast_radius.beyond_failures(seen, usual, left):
            return "limit", said
        if safety.error_budget is not None:
            burnt = blast_radius.burn(counts, safety.error_budget.objective, safety.error_budget.window)
            if burnt is not None:
                worst = max(burnt, self._state.burn or 0.0)
                self._state = self._state.model_copy(update={"burn": worst})
            if burnt is not None and burnt > safety.error_budget.max_burn:
                return "limit", (
                    f"the error budget burns at {burnt:.1f} times its rate, and {safety.error_budget.max_burn:g} times "
                    "are allowed"
                )
        return None

    def _exposure(self) -> Exposure:
        baseline = self._request.baseline
        usual = baseline.failures / baseline.requests if baseline.requests else 0.0
        more = blast_radius.excess(self._state.counts[-1], usual) if self._state.counts else 0.0
        return Exposure(
            requests=sum(effect.requests for effect in self._effects),
            failures=round(more, 1),
            seconds=max(0.0, time.time() - self._request.since),
        )

    def _show(self) -> None:
        now = time.time()
        exposure = self._exposure()
        self._progress = ChaosProgress(
            time=now,
            held=max(0.0, now - self._request.since),
            hold=self._request.hold or 0.0,
            effects=self._effects,
            probes=tuple(one.model_copy(update={"samples": one.samples[-_TOLD:]}) for one in self._records()),
            failures=exposure.failures,
            burn=self._state.burn,
            silent=max(0.0, now - self._state.heard),
            exposure=exposure,
        )

    def _records(self) -> tuple[ProbeRecord, ...]:
        return tuple(
            record(
                probe,
                self._state.probes.get(name, ProbeState()),
                "during",
                self._request.step,
                guard=name in self._guards,
            )
            for name, probe in self._watched.items()
        )


_ENDS: dict[str, HoldCause] = {
    "leaseLost": "leaseLost",
    "condemned": "condemned",
    "takenOver": "takenOver",
    "halted": "halted",
}
