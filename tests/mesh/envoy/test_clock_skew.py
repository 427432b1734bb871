"""A proxy's deadline is as good as its clock: where that is off, nothing is laid and no deadline is moved."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web

from autopilot.mesh.envoy.admin import AdminClient
from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.errors import ClockSkew
from autopilot.mesh.model import Aspect, Lease
from tests.mesh.conftest import MESH, REVIEWS, Clock, published, split

Served = tuple[str, dict[str, float]]


@pytest.fixture
async def admin() -> AsyncIterator[Served]:
    """An admin interface whose clock is off by `skew` seconds."""
    told = {"skew": 0.0}

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="LIVE", headers={"Date": formatdate(time.time() + told["skew"], usegmt=True)})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield f"127.0.0.1:{port}", told
    await runner.cleanup()


@pytest.fixture
async def mesh_at(tmp_path: Path, admin: Served) -> AsyncIterator[Callable[[Clock], EnvoyMesh]]:
    """Opens the mesh by a clock of ours."""
    path = tmp_path / "mesh.yaml"
    path.write_text(MESH.replace("127.0.0.1:9901", admin[0]))
    prepare(path)
    made: list[EnvoyMesh] = []

    def make(clock: Clock) -> EnvoyMesh:
        made.append(EnvoyMesh(path, clock))
        return made[-1]

    yield make
    for mesh in made:
        await mesh.close()


@pytest.fixture
def mesh(mesh_at: Callable[[Clock], EnvoyMesh]) -> EnvoyMesh:
    return mesh_at(Clock(time.time()))


async def take(mesh: EnvoyMesh, ttl: float = 60) -> Lease:
    return await mesh.acquire(REVIEWS, [Aspect.TRAFFIC], operation="canary/a", token="t", ttl=ttl)


@pytest.mark.parametrize("skew", [0.0, 0.4, -0.4])
async def test_what_whole_seconds_explain_is_no_skew(admin: Served, skew: float) -> None:
    address, told = admin
    told["skew"] = skew
    client = AdminClient()
    assert abs(await client.skew(address)) < 1
    await client.close()


@pytest.mark.parametrize("skew", [3600.0, -3600.0, 5.0, -5.0])
async def test_a_clock_that_is_off_refuses_every_overlay(mesh: EnvoyMesh, admin: Served, skew: float) -> None:
    before = published(mesh.ledger)
    lease = await take(mesh)
    admin[1]["skew"] = skew
    with pytest.raises(ClockSkew, match=f"proxy web is {abs(skew) - 2:.0f}|{abs(skew) - 1:.0f}|{abs(skew):.0f} s"):
        await mesh.apply(lease, split(30))
    assert published(mesh.ledger) == before
    admin[1]["skew"] = 0
    await mesh.apply(lease, split(30))


async def test_a_clock_that_jumps_later_moves_no_deadline(admin: Served, mesh_at: Callable[[Clock], EnvoyMesh]) -> None:
    """Ours may be the one that jumped: a deadline an hour ahead would bind the proxies for an hour."""
    clock = Clock(time.time())
    mesh = mesh_at(clock)
    lease = await take(mesh)
    deadline = (await mesh.apply(lease, split(30))).deadline
    admin[1]["skew"] = -3600
    clock.forward(40)
    await mesh.renew(lease)
    (status,) = await mesh.leases()
    assert status.deadline == deadline
    admin[1]["skew"] = 0
    await mesh.renew(lease)
    (status,) = await mesh.leases()
    assert status.deadline == clock.now + 60
