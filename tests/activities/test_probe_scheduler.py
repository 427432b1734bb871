"""Many probes at once, each at its own pace; what they find is handed over once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from activities.probes.runner import ProbeRunner
from activities.probes.scheduler import ProbeScheduler, record
from autopilot.evidence.chaos.hypothesis import Look, ProbeState, update
from autopilot.mesh.model import Target
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.spec.chaos.probes import MeshProbe, Probe, TcpProbe
from autopilot.spec.chaos.tolerance import Tolerance

TARGET = Target(mesh="local", namespace="shop", service="reviews")


class Scripted(ProbeRunner):
    """Answers by a probe's name; `slow` takes its time, `broken` is our own fault."""

    def __init__(self) -> None:
        super().__init__(AttachedMesh(mesh=None, proxies=None), TARGET)  # type: ignore[arg-type]
        self.calls: list[tuple[str, float]] = []
        self.forgotten = 0
        self.quiet_until = self.early_until = 0.0

    def _call(self, what: str) -> None:
        self.calls.append((what, asyncio.get_running_loop().time()))

    async def look(self, probe: Probe) -> Look:
        self._call(probe.name)
        if probe.name == "broken":
            raise AssertionError("a fault of ours")
        if probe.name == "slow":
            await asyncio.sleep(0.5)
        quiet = isinstance(probe, MeshProbe) and asyncio.get_running_loop().time() < self.quiet_until
        return Look(time=time.time(), ok=None if quiet else True)

    async def prime(self, probe: MeshProbe) -> None:
        self._call("prime")

    def forget(self) -> None:
        self.forgotten += 1

    def early(self, probe: Probe) -> bool:
        return isinstance(probe, MeshProbe) and asyncio.get_running_loop().time() < self.early_until

    def patience(self, probe: MeshProbe) -> float:
        return probe.window + 0.2


def tcp(name: str, interval: float = 0.2) -> TcpProbe:
    return TcpProbe(name=name, address="a:1", interval=interval)


def mesh(name: str, **more: Any) -> MeshProbe:
    return MeshProbe.model_validate({"name": name, "window": 1, "tolerance": Tolerance(min=1), **more})


def counted(taken: list[tuple[Probe, Look]]) -> Counter[str]:
    return Counter(probe.name for probe, _ in taken)


async def test_each_at_its_own_pace_and_a_slow_one_delays_nobody():
    prober = Scripted()
    looking = ProbeScheduler(prober)
    async with looking.following([tcp("quick"), tcp("seldom", 3600), tcp("slow")]):
        await asyncio.sleep(1.3)
        found = counted(looking.take())
        assert looking.take() == []
    assert found["seldom"] == 1
    assert 3 <= found["quick"] <= 7
    assert found["slow"] in {1, 2}
    assert prober.forgotten == 1
    calls = len(prober.calls)
    await asyncio.sleep(0.5)
    assert len(prober.calls) == calls  # nobody looks any more


async def test_abort_conditions_are_looked_at_at_every_tick():
    looking = ProbeScheduler(Scripted(), tick=0.25)
    async with looking.following([tcp("seldom", 3600), tcp("often", 0.2)]):
        await asyncio.sleep(1.1)
        found = counted(looking.take())
    assert 3 <= found["seldom"] <= 5
    assert found["often"] >= found["seldom"]


async def test_a_fault_of_ours_does_not_pass_unseen():
    looking = ProbeScheduler(Scripted())
    async with looking.following([tcp("quick"), tcp("broken")]):
        await asyncio.sleep(0.05)
        with pytest.raises(AssertionError, match="a fault of ours"):
            looking.take()


async def test_a_mesh_probe_that_has_nothing_yet_says_nothing_for_as_long_as_that_means_nothing():
    prober = Scripted()
    prober.quiet_until = asyncio.get_running_loop().time() + 0.5
    prober.early_until = prober.quiet_until + 0.7
    looking = ProbeScheduler(prober)
    async with looking.following([mesh("early", interval=0.2)]):
        await asyncio.sleep(0.45)
        assert looking.take() == []
        await asyncio.sleep(0.4)
        assert {look.ok for _, look in looking.take()} == {True}
    prober.early_until = asyncio.get_running_loop().time() + 1.2
    prober.quiet_until = prober.early_until + 60
    looking = ProbeScheduler(prober)
    async with looking.following([mesh("never", interval=0.2)]):
        await asyncio.sleep(1.1)
        assert looking.take() == []
        await asyncio.sleep(0.6)
        assert {look.ok for _, look in looking.take()} == {None}


async def test_a_mesh_probe_that_is_looked_at_seldom_reads_counters_a_window_before():
    prober = Scripted()
    looking = ProbeScheduler(prober)
    async with looking.following([mesh("seldom", window=1, interval=1.5)]):
        await asyncio.sleep(1.8)
    names = [name for name, _ in prober.calls]
    assert names == ["seldom", "prime", "seldom", "prime"][: len(names)]
    assert names[:3] == ["seldom", "prime", "seldom"]
    assert prober.calls[2][1] - prober.calls[1][1] == pytest.approx(1.0, abs=0.3)


def test_a_record_says_what_was_seen():
    probe = tcp("a")
    state = ProbeState()
    for ok in (True, None, False):
        state = update(probe, state, Look(time=1.0, ok=ok, note="" if ok else "refused"))
    found = record(probe, state, "during", 2, guard=True)
    assert (found.name, found.type, found.phase, found.step, found.guard) == ("a", "tcp", "during", 2, True)
    assert (found.verdict, found.reason) == ("fail", "refused")
    assert (found.looks, found.failed, found.missing) == (3, 1, 1)
    assert [look.ok for look in found.samples] == [True, None, False]
    assert record(probe, ProbeState(), "before").verdict == "inconclusive"
