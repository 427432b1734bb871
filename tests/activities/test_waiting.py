"""The judge waits for nobody: not for a mesh that hangs, and not for Temporal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.canary.activities import TelemetryActivities
from activities.canary.analysis_run import AnalysisRun
from activities.chaos.fault_step import FaultStep
from activities.chaos.steady_state import SteadyStateCheck
from activities.contracts.chaos import Baseline, Held, HoldBeat, HoldRequest, SteadyRequest
from activities.contracts.operation import WatchRequest
from activities.judge_stalls import Stalls, worst_stall
from activities.probes.runner import ProbeRunner
from activities.temporal_health import TemporalHealth
from autopilot.evidence.chaos.hypothesis import Look
from autopilot.evidence.model import Harm, Inconclusive, StepRule, Verdict
from autopilot.mesh.errors import LeaseLost
from autopilot.mesh.leases.overrides import LeaseOrders
from autopilot.mesh.model import Aspect, Change, FaultSign, Holder, Lease, Target
from autopilot.mesh_registry.meshes import AttachedMesh, Meshes
from autopilot.observability.metrics import REGISTRY
from autopilot.spec.canary import Analysis, CanaryArms
from autopilot.spec.chaos.experiment import MeshExperiment
from autopilot.spec.chaos.probes import Probe
from autopilot.spec.load import load
from autopilot.telemetry.fault_effects.port import Counted, Hop, Mark
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import Observation, Subject
from tests.telemetry.fakes import ScriptedSource, counters, sample, seen

TARGET = Target(mesh="local", namespace="shop", service="reviews")
ARMS = CanaryArms(stable="v1", canary="v2")
GENEROUS = 5.0
"""Seconds for a verdict that is due after one, on a busy machine; what hangs here hangs for ever."""
EXPERIMENT = """
apiVersion: meshautopilot.io/v1alpha1
kind: MeshExperiment
metadata: {name: a}
spec:
  target: {service: reviews}
  scope: {percentage: 5}
  hypothesis: {probes: [{type: tcp, name: up, address: "web:80"}]}
  method: [{faults: [{fault: {type: abort}}], hold: 60s}]
  abort: [{type: tcp, name: alarm, address: "web:81", interval: 500ms, failures: 1}]
"""


def lease(operation: str = "canary/a", aspect: Aspect = Aspect.TRAFFIC) -> Lease:
    return Lease(
        target=TARGET,
        aspects=(aspect,),
        holder=Holder(operation=operation, fencing=1),
        ttl=5,
        max_unattended=5,
    )


async def never() -> Any:
    await asyncio.Event().wait()


@dataclass
class HangingMesh:
    """Answers nothing, ever; `cancelled` counts the renewals that were given up."""

    renewals: int = 0
    cancelled: int = 0
    signed: bool = True

    async def renew(self, lease: Lease) -> LeaseOrders:
        self.renewals += 1
        try:
            await never()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError

    async def condemn(self, lease: Lease, reason: str) -> None:
        await never()

    async def ready(self, target: Target, arms: Sequence[str]) -> dict[str, int]:
        return await never()

    async def signs(self, lease: Lease, changes: Sequence[Change]) -> list[FaultSign]:
        return [] if self.signed else await never()


@dataclass
class LosingMesh(HangingMesh):
    """Has the lease until it is told otherwise."""

    lost: asyncio.Event = field(default_factory=asyncio.Event)

    async def renew(self, lease: Lease) -> LeaseOrders:
        if self.lost.is_set():
            raise LeaseLost("somebody lifted it")
        return LeaseOrders()


class HangingTemporal:
    """A client whose calls never end."""

    namespace = "default"

    @property
    def workflow_service(self) -> HangingTemporal:
        return self

    service_client = workflow_service

    async def describe_workflow_execution(self, _: Any, **__: Any) -> Any:
        return await never()

    async def check_health(self, **_: Any) -> bool:
        return bool(await never())


class Quiet:
    """A witness that has seen nothing."""

    lag = 0.0

    def seen_by(self, subject: Subject, mark: Mark) -> str:
        return "a counter"

    async def effects(self, subject: Subject, marks: Sequence[Mark]) -> list[Counted]:
        return []

    async def hops(self, subjects: Sequence[Subject]) -> list[Hop]:
        return []

    async def close(self) -> None:
        return


class Alarm(ProbeRunner):
    """Every probe passes until `rings` is set."""

    rings = False

    async def look(self, probe: Probe) -> Look:
        return Look(time=time.time(), ok=not (self.rings and probe.name == "alarm"), note="it rings")


def harm_after(polls: int) -> Any:
    """v2 serves a tenth of 1,000 requests a poll; from a poll on it answers nothing but errors."""

    def script(number: int, subject: Subject) -> Observation:
        done = 100.0 * number
        failed = 100.0 * max(0, number - polls)
        both = (sample("v1", time.time(), counters(9 * done)), sample("v2", time.time(), counters(done, failed)))
        return seen(time.time(), *both, subject=subject)

    return script


def watch_request(tick: float = 0.5) -> WatchRequest:
    return WatchRequest(
        lease=lease(),
        target=TARGET,
        name="reviews",
        arms=ARMS,
        analysis=Analysis.model_validate({"tick": tick, "warmup": 0, "metrics": [{"type": "errorRate"}]}),
        rule=StepRule(hold=300, min_requests=1, limit=600),
        weight=10,
        step=1,
    )


def spec() -> Any:
    (document,) = load(EXPERIMENT, "e.yaml")
    assert isinstance(document, MeshExperiment)
    return document.spec.model_copy(update={"tick": 0.5})


async def watched(mesh: HangingMesh, health: TemporalHealth, script: Any, tick: float = 0.5) -> Verdict:
    async with Hub(ScriptedSource(script)) as hub:
        attached = AttachedMesh(mesh=mesh, proxies=hub)  # type: ignore[arg-type]
        watching = AnalysisRun(watch_request(tick), attached, health, None)
        async with asyncio.timeout(GENEROUS):
            return (await watching.run(lambda _: None)).verdict


def holding(mesh: HangingMesh, health: TemporalHealth) -> tuple[FaultStep, AttachedMesh]:
    attached = AttachedMesh(mesh=mesh, proxies=None, witness=Quiet())  # type: ignore[arg-type]
    asked = HoldRequest(
        lease=lease("chaos/a", Aspect.FAULTS),
        target=TARGET,
        name="a",
        spec=spec(),
        step=1,
        since=time.time(),
        hold=300,
        effects=(),
        baseline=Baseline(seconds=2, requests=100, failures=0),
    )
    return FaultStep(asked, attached, health, None), attached


async def held(mesh: HangingMesh, health: TemporalHealth, prober: Alarm, beats: list[HoldBeat]) -> Held:
    one, _ = holding(mesh, health)
    async with asyncio.timeout(2 * GENEROUS):
        return await one.run(prober, beats.append)


def prober(mesh: HangingMesh) -> Alarm:
    return Alarm(AttachedMesh(mesh=mesh, proxies=None), TARGET)  # type: ignore[arg-type]


async def test_harm_is_seen_and_told_though_mesh_and_temporal_hang() -> None:
    mesh, health = HangingMesh(), TemporalHealth()
    async with health.following(HangingTemporal()):  # type: ignore[arg-type]
        verdict = await watched(mesh, health, harm_after(2))
    assert isinstance(verdict, Harm)
    assert mesh.renewals >= 1
    assert mesh.cancelled == mesh.renewals, "no renewal lingers"


async def test_an_abort_condition_is_seen_and_told_though_mesh_and_temporal_hang() -> None:
    mesh, health, beats = HangingMesh(signed=False), TemporalHealth(), list[HoldBeat]()
    alarm = prober(mesh)
    async with health.following(HangingTemporal()):  # type: ignore[arg-type]
        running = asyncio.create_task(held(mesh, health, alarm, beats))
        async with asyncio.timeout(GENEROUS):
            while len(beats) < 3 and not running.done():
                await asyncio.sleep(0.05)
        alarm.rings = True
        result = await running
    assert result.cause == "guard"
    assert mesh.renewals >= 1
    assert mesh.cancelled == mesh.renewals, "no renewal lingers"


async def test_a_check_of_the_hypothesis_does_not_wait_for_a_mesh_that_hangs() -> None:
    mesh = HangingMesh()
    asked = SteadyRequest(target=TARGET, spec=spec(), phase="before", lease=lease("chaos/a"))
    attached = AttachedMesh(mesh=mesh, proxies=None)  # type: ignore[arg-type]
    async with asyncio.timeout(GENEROUS):
        found = await SteadyStateCheck(asked, attached, TemporalHealth()).run(prober(mesh))
    assert [one.verdict for one in found.probes] == ["pass"]


async def test_a_lost_lease_wakes_the_watch_between_two_ticks() -> None:
    mesh = LosingMesh()
    asyncio.get_running_loop().call_later(0.3, mesh.lost.set)
    verdict = await watched(mesh, TemporalHealth(), harm_after(1000), tick=60)
    assert verdict == Inconclusive(cause="leaseLost", reason="somebody lifted it")


async def test_a_lost_lease_wakes_the_hold_between_two_ticks() -> None:
    mesh, beats = LosingMesh(), list[HoldBeat]()
    one, _ = holding(mesh, TemporalHealth())
    one._spec = one._spec.model_copy(update={"tick": 60.0})
    asyncio.get_running_loop().call_later(0.3, mesh.lost.set)
    async with asyncio.timeout(GENEROUS):
        found = await one.run(prober(mesh), beats.append)
    assert (found.cause, found.reason) == ("leaseLost", "somebody lifted it")


async def test_a_watch_that_is_asked_to_stop_does_not_wait_for_its_renewal() -> None:
    mesh, environment = HangingMesh(), ActivityEnvironment()
    beats: list[Any] = []
    environment.on_heartbeat = lambda *details: beats.append(details[0])
    async with Hub(ScriptedSource(harm_after(1000))) as hub:
        meshes = Meshes({"local": AttachedMesh(mesh=mesh, proxies=hub)})  # type: ignore[arg-type]
        activities = TelemetryActivities(meshes, TemporalHealth())
        running = asyncio.create_task(environment.run(activities.watch, watch_request()))
        async with asyncio.timeout(GENEROUS):
            while not beats:
                await asyncio.sleep(0.05)
            environment.cancel()
            verdict = (await running).verdict
    assert verdict == Inconclusive(cause="stopped", reason="the watch was asked to stop")
    assert mesh.cancelled == mesh.renewals


def test_a_stall_is_what_a_tick_does_not_explain() -> None:
    now = 100.0
    stalls = Stalls("canary", 1.0, lambda: now)
    now += 1.0
    stalls.passed()
    assert stalls.worst == 0
    now += 0.2  # woken between two ticks
    stalls.passed()
    assert stalls.worst == 0
    now += 1.25
    stalls.passed()
    assert stalls.worst == pytest.approx(0.25)
    now += 9.0
    stalls.passed()
    assert stalls.worst == pytest.approx(8.0)
    now += 8.5
    stalls.ended()
    assert stalls.worst == pytest.approx(8.5), "whoever waits for the verdict waits for all of it"
    assert worst_stall() >= 8.5
    shown = REGISTRY.get_sample_value("autopilot_judge_worst_stall_seconds", {"kind": "canary"})
    assert shown is not None
    assert shown >= 8.5
