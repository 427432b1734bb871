"""The guard process: no mesh waits for another, and nothing that goes wrong in a round ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.errors import MeshUnavailable
from autopilot.mesh.model import Aspect, Target
from autopilot.observability.metrics import REGISTRY
from tests.faults.events import next_release
from tests.mesh.conftest import MESH, REVIEWS, split
from worker import guard_process


@pytest.fixture
def named(tmp_path: Path) -> Callable[[str], EnvoyMesh]:
    def make(name: str) -> EnvoyMesh:
        path = tmp_path / name / "mesh.yaml"
        path.parent.mkdir()
        path.write_text(MESH.replace("name: local", f"name: {name}"), encoding="utf-8")
        prepare(path)
        return EnvoyMesh(path)

    return make


def take_of(mesh: EnvoyMesh, ttl: float = 120) -> None:
    target = Target(mesh=mesh.name, namespace="shop", service="reviews")
    lease = mesh.ledger.acquire(
        target, [Aspect.TRAFFIC], operation=f"canary/{mesh.name}/shop/x", token="t", ttl=ttl, planned_end=None
    )
    mesh.ledger.apply(lease.model_copy(update={"max_unattended": 60}), split(10))


def expiry(mesh: str) -> float | None:
    labels = {"mesh": mesh, "namespace": "shop", "service": "reviews", "holder": f"canary/{mesh}/shop/x"}
    return REGISTRY.get_sample_value("autopilot_lease_expiry_timestamp_seconds", labels)


class Played:
    """A mesh that does as it is told."""

    def __init__(self, sweep: Callable[[], Any]) -> None:
        self.rounds = 0
        self._sweep = sweep

    async def sweep(self) -> list[str]:
        self.rounds += 1
        return await self._sweep()

    async def leases(self) -> list[Any]:
        return []

    async def unreadable(self) -> list[Any]:
        return []

    async def close(self) -> None:
        raise RuntimeError("its connections are broken")


async def test_leases_of_each_mesh_are_exported_beside_the_others(named: Callable[[str], EnvoyMesh]) -> None:
    first, second = named("first"), named("second")
    for mesh in (first, second):
        take_of(mesh)
        await guard_process.sweep(mesh.name, mesh)
    assert expiry("first")
    assert expiry("second")
    first.ledger.lift(first.store.leases()[0].lease)
    await guard_process.sweep("first", first)
    assert expiry("first") is None
    assert expiry("second")


async def test_a_dead_operation_is_restored_beside_records_of_another_version(
    named: Callable[[str], EnvoyMesh],
) -> None:
    mesh = named("older")
    take_of(mesh, ttl=0.1)
    written = next_release.write(mesh.store.mesh_file, "ratings")
    damaged = mesh.store.directory / "autopilot" / "leases" / "shop.other.1.json"
    damaged.write_bytes(b'{"lease": "\xff\xfe"}')
    target = REVIEWS.model_copy(update={"mesh": "older"})
    done: list[str] = []
    async with asyncio.timeout(20):
        while not done:
            done = await guard_process.sweep(mesh.name, mesh)
            await asyncio.sleep(0.05)
    assert "restored" in done[0]
    assert mesh.ledger.weights(target)["v2"] == 0
    with capture_logs() as logs:
        found = await guard_process.look_for_unreadable(mesh.name, mesh)
        assert await guard_process.look_for_unreadable(mesh.name, mesh, found) == found
    assert len(found) == len(written.files) + 1 == len(logs), "each is said once"
    assert any("leases/shop.other.1.json" in line["where"] for line in logs)
    assert REGISTRY.get_sample_value("autopilot_unreadable_records", {"mesh": "older"}) == len(found)
    assert written.changed() == []
    await mesh.close()


async def test_a_slow_mesh_delays_no_other_and_no_failure_ends_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, never = asyncio.Event(), asyncio.Event()

    async def hangs() -> list[str]:
        await never.wait()
        return []

    async def fails() -> list[str]:
        raise KeyError("a fault of ours")

    async def is_away() -> list[str]:
        raise MeshUnavailable("no answer")

    async def works() -> list[str]:
        return []

    meshes = {
        "slow": Played(hangs),
        "faulty": Played(fails),
        "away": Played(is_away),
        "healthy": Played(works),
    }
    monkeypatch.setattr(guard_process, "open_meshes", lambda *_: meshes)
    monkeypatch.setattr(guard_process, "stop_signal", lambda: stop)
    monkeypatch.setattr(guard_process, "_LAST_ROUND", 0.1)
    with capture_logs() as logs:
        running = asyncio.create_task(guard_process.run([], every=0.01))
        async with asyncio.timeout(20):
            while any(meshes[name].rounds < 3 for name in ("faulty", "away", "healthy")):
                assert not running.done()
                await asyncio.sleep(0.01)
        stop.set()
        async with asyncio.timeout(20):
            await running
    assert meshes["slow"].rounds == 1
    failed = [line for line in logs if line["event"] == "sweep failed"]
    assert {line["mesh"] for line in failed} == {"faulty", "away"}
    assert all(line.get("exc_info") for line in failed if line["mesh"] == "faulty"), "with its traceback"
    assert sum(line["event"] == "mesh not closed" for line in logs) == len(meshes)
