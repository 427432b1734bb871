"""Chaos experiments as activities: preflight, checks of the hypothesis, and the watch while faults are laid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime

from temporalio import activity

from activities.chaos.fault_effects import FaultEffectMeter, amplification, changes_of, count, effects_of
from activities.chaos.fault_step import FaultStep
from activities.chaos.steady_state import SteadyStateCheck
from activities.contracts.chaos import (
    ActRequest,
    Baseline,
    ExperimentSignatures,
    Held,
    HoldBeat,
    HoldRequest,
    Preflight,
    PreflightRequest,
    Steady,
    SteadyRequest,
)
from activities.heartbeat import heartbeating
from activities.lease_renewal import LeaseRenewer
from activities.probes.runner import ProbeRunner, allowed_probes
from activities.probes.secrets import Allowed
from activities.registry import Registered, Tools
from activities.report_archive import Archive
from activities.temporal_health import TemporalHealth
from autopilot.kinds import kind_of
from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.model import InjectFault, Lease, Target
from autopilot.mesh_registry.meshes import AttachedMesh, Meshes
from autopilot.operations.experiment_status import Acted, Effect
from autopilot.reports.experiment import CHAOS_GRACE, Amplification, ExperimentReport
from autopilot.spec.chaos.experiment import ExperimentSpec
from autopilot.spec.chaos.limit_checks import beyond, doubtful

BASELINE = 2.0
"""Length of the baseline in seconds: failures and tries are counted for so long before the first fault."""


BEGUN = ("delay", "abort", "grpcAbort", "bandwidth", "blackhole")
"""Kinds that are counted when a request meets them; with others, requests in flight are counted later."""


def register(tools: Tools) -> Registered:
    """The activities of experiments."""
    chaos = ExperimentActivities(tools.meshes, tools.health, tools.archive)
    return Registered((chaos.preflight, chaos.act, chaos.undo, chaos.archive), (chaos.steady, chaos.hold))


class ExperimentActivities(ExperimentSignatures):
    """Experiments on the meshes of this worker."""

    def __init__(self, meshes: Meshes, health: TemporalHealth, archive: Archive) -> None:
        self._meshes = meshes
        self._health = health
        self._archive = archive
        self._allowed = allowed_probes(os.environ)
        Allowed(os.environ)  # a mistake in the variable shows when the worker starts, not in an experiment

    @activity.defn(name="chaos.preflight")
    async def preflight(self, request: PreflightRequest) -> Preflight:
        """Refuses an experiment that must not start; counts the baseline before anything is changed."""
        lease, spec = request.lease, request.spec
        attached = self._meshes[lease.target.mesh]
        async with heartbeating(), self._kept(attached, lease), self._prober(attached, lease.target) as prober:
            await self._refuse(attached, lease, spec)
            await prober.refuse(spec.probes)
            effects = await self._effects(attached, lease, spec)
            baseline = await self._baseline(attached, lease.target, spec)
        steps = range(1, len(spec.method) + 1)
        signs = [await attached.mesh.signs(lease, changes_of(spec, step, lease.holder.operation)) for step in steps]
        return Preflight(
            effects=effects, signs=tuple(tuple(one) for one in signs), baseline=baseline, notes=tuple(doubtful(spec))
        )

    async def _refuse(self, attached: AttachedMesh, lease: Lease, spec: ExperimentSpec) -> None:
        mesh, target = attached.mesh, lease.target
        state = await mesh.observe(target)
        weights = {arm.name: arm.weight for arm in state.arms}
        today = datetime.now(UTC).date()
        problems = beyond(spec, mesh.ceilings, target.namespace, today, weights)
        leases = await mesh.leases()
        others = [
            status
            for status in leases
            if kind_of(status.lease.holder.operation) == "chaos" and status.lease.holder != lease.holder
        ]
        mine = next((status.acquired for status in leases if status.lease.holder == lease.holder), 0.0)
        # Of two that begin at once the one that came first goes on.
        earlier = [one for one in others if (one.acquired, str(one.lease.target)) < (mine, str(target))]
        most = min(spec.safety.max_concurrent, mesh.ceilings.max_concurrent)
        if len(earlier) >= most:
            holders = ", ".join(one.lease.holder.operation for one in earlier)
            problems.append(
                f"mesh {mesh.name} allows {most} experiment at a time (maxConcurrent), and {holders} is running: "
                "wait for its end"
            )
        if problems:
            raise InvalidChange("; ".join(problems))
        for step in range(1, len(spec.method) + 1):
            changes = changes_of(spec, step, lease.holder.operation)
            if changes:
                await mesh.plan(target, changes)

    async def _effects(
        self, attached: AttachedMesh, lease: Lease, spec: ExperimentSpec
    ) -> tuple[tuple[Effect, ...], ...]:
        found = []
        for step in range(1, len(spec.method) + 1):
            effects = await effects_of(attached, lease, changes_of(spec, step, lease.holder.operation))
            for effect in effects:
                if not effect.seen_by:
                    raise InvalidChange(
                        f"no counter shows here whether {effect.fault} takes effect, so the run would prove nothing: "
                        "start the worker with --prometheus URL, or choose a fault that is counted"
                    )
            found.append(effects)
        return tuple(found)

    async def _baseline(self, attached: AttachedMesh, target: Target, spec: ExperimentSpec) -> Baseline:
        sight = FaultEffectMeter(attached, target, spec, ())
        first, before = await sight.read(time.time()), await sight.hops_if_any()
        await asyncio.sleep(BASELINE)
        second, after = await sight.read(time.time()), await sight.hops_if_any()
        seen = count(first, second)
        budget = spec.safety.error_budget
        if budget is not None and seen.requests:
            burnt = seen.failures / seen.requests / (1 - budget.objective)
            if burnt > budget.max_burn:
                raise InvalidChange(
                    f"the error budget already burns at {burnt:.1f} times its rate, and {budget.max_burn:g} times are "
                    "allowed: start the experiment when the service has recovered"
                )
        return Baseline(
            seconds=second.time - first.time,
            requests=seen.requests,
            failures=seen.failures,
            amplification=tuple(
                Amplification(caller=caller, service=service, before=value)
                for (caller, service), value in sorted(amplification(before, after).items())
            ),
        )

    @activity.defn(name="chaos.steady")
    async def steady(self, request: SteadyRequest) -> Steady:
        """Checks the hypothesis while no fault is laid."""
        attached = self._meshes[request.target.mesh]
        sight = FaultEffectMeter(attached, request.target, request.spec, request.signs)
        async with heartbeating(), self._prober(attached, request.target) as prober:
            first, others = None, set[str]()
            by_proxy = any(sign.proxies for sign in request.signs)
            if request.signs:
                await asyncio.sleep(sight.witness.lag)  # what was met before the restore is to be counted by then
                others = await _laying(attached, request.target) if by_proxy else others
                first = await sight.read(time.time())
            found = await SteadyStateCheck(request, attached, self._health).run(prober)
            if first is None:
                return found
            last = await sight.read(time.time())
            if by_proxy and (others := others | await _laying(attached, request.target)):
                why = f"counters of proxies rise with the faults of {', '.join(sorted(others))}, too"
                return found.model_copy(update={"untold": why})
            leaked = tuple(
                sum(max(0.0, value - first.met[index].get(name, value)) for name, value in last.met[index].items())
                if sign.kind in BEGUN
                else 0.0
                for index, sign in enumerate(request.signs)
            )
            return found.model_copy(update={"leaked": leaked})

    @activity.defn(name="chaos.hold")
    async def hold(self, request: HoldRequest) -> Held:
        """Watches until the hold is over or something ends it."""
        beats = activity.info().heartbeat_details
        earlier = HoldBeat.model_validate(beats[0]) if beats else None
        attached = self._meshes[request.target.mesh]
        holding = FaultStep(request, attached, self._health, earlier)
        async with self._prober(attached, request.target) as prober:
            try:
                return await holding.run(prober, activity.heartbeat)
            except asyncio.CancelledError:
                details = activity.cancellation_details()
                if details is None or not details.cancel_requested:
                    raise  # this worker stops: another continues from the last heartbeat
                return holding.result("stopped", "the watch was asked to stop")

    @activity.defn(name="chaos.act")
    async def act(self, request: ActRequest) -> Acted:
        """Takes the action."""
        attached = self._meshes[request.target.mesh]
        if attached.workloads is None:
            raise InvalidChange(
                f"{request.action.type} needs Kubernetes, and mesh {request.target.mesh} is not in a cluster"
            )
        async with heartbeating(), self._kept(attached, request.lease):
            return await _whole(attached.workloads.act(request.target, request.action, request.key))

    @activity.defn(name="chaos.undo")
    async def undo(self, request: ActRequest) -> Acted:
        """Undoes the action as far as possible."""
        attached = self._meshes[request.target.mesh]
        if attached.workloads is None:
            raise InvalidChange(
                f"{request.action.type} needs Kubernetes, and mesh {request.target.mesh} is not in a cluster"
            )
        async with heartbeating():
            return await _whole(attached.workloads.undo(request.target, request.action, request.key))

    @activity.defn(name="chaos.archive")
    async def archive(self, report: ExperimentReport) -> str:
        """Archives the report."""
        return await self._archive.keep(
            report.workflow_id, activity.info().workflow_run_id or "", "MeshExperiment", report.outcome, report
        )

    @contextlib.asynccontextmanager
    async def _kept(self, attached: AttachedMesh, lease: Lease | None) -> AsyncIterator[None]:
        """Renews the lease during an action: draining a node may take longer than a lease's time to live."""
        if lease is None:
            yield
            return
        keeper = LeaseRenewer(attached.mesh, lease, self._health, grace=CHAOS_GRACE, halt="ignore")

        async with keeper.keeping():  # what ends it is reported by the hold that follows
            yield

    @contextlib.asynccontextmanager
    async def _prober(self, attached: AttachedMesh, target: Target) -> AsyncIterator[ProbeRunner]:
        prober = ProbeRunner(attached, target, self._allowed)
        try:
            yield prober
        finally:
            await prober.close()


async def _whole(action: Awaitable[Acted]) -> Acted:
    """Ends when the action ends, also if it is cancelled: its thread goes on, and the next step must wait for it."""
    task = asyncio.ensure_future(action)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


async def _laying(attached: AttachedMesh, target: Target) -> set[str]:
    """Operations that lay faults on other targets of the mesh: a proxy counts those of all its routes together."""
    return {
        status.lease.holder.operation
        for status in await attached.mesh.leases()
        if status.lease.target != target and any(isinstance(one, InjectFault) for one in status.changes)
    }
