"""What requests meet at a real Envoy: splits, deadlines without us, forged headers, kept connections."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from autopilot.local import envoy, ports
from autopilot.local.processes import Child, environment, launch
from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.errors import MeshUnavailable
from autopilot.mesh.model import Aspect, Lease, SplitTraffic
from autopilot.mesh.overlay_header import OVERLAY_HEADER
from tests.mesh.conftest import REVIEWS, split

pytestmark = pytest.mark.e2e


@dataclass
class RealMesh:
    """One Envoy in front of two versions, and a client that keeps its connection."""

    mesh: EnvoyMesh
    url: str
    admin: str
    session: aiohttp.ClientSession

    async def shares(self, times: int = 200, headers: dict[str, str] | None = None) -> Counter[str]:
        seen: Counter[str] = Counter()
        for _ in range(times):
            async with self.session.get(self.url, headers=headers) as response:
                assert response.status == 200
                seen[await response.text()] += 1
        return seen

    async def stat(self, name: str) -> int:
        async with self.session.get(f"{self.admin}/stats?filter={name}") as response:
            return sum(int(line.rsplit(":", 1)[1]) for line in (await response.text()).splitlines() if ":" in line)

    async def take(self, ttl: float = 60) -> Lease:
        return await self.mesh.acquire(REVIEWS, [Aspect.TRAFFIC], operation="canary/a", token="t", ttl=ttl)

    async def lay(self, lease: Lease, v2: float) -> float:
        """Lays a split, waits until Envoy has it, and gives its deadline."""
        receipt = await self.mesh.apply(lease, split(v2))
        await self.mesh.verify(receipt)
        assert receipt.deadline is not None
        return receipt.deadline


async def upstream(version: str, port: int) -> web.AppRunner:
    async def answer(request: web.Request) -> web.Response:
        assert OVERLAY_HEADER not in request.headers, "our internal header leaked to an application"
        return web.Response(text=version)

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[RealMesh]:
    port = ports.allocate(["v1", "v2", "listener", "admin"])
    path = tmp_path / "mesh.yaml"
    path.write_text(
        f"""\
metadata: {{name: local}}
spec:
  services:
    - name: reviews
      namespace: shop
      arms:
        v1: {{endpoints: ["127.0.0.1:{port["v1"]}"]}}
        v2: {{endpoints: ["127.0.0.1:{port["v2"]}"]}}
      weights: {{v1: 100}}
  proxies:
    - name: web
      admin: 127.0.0.1:{port["admin"]}
      outbound: [{{name: out, address: "127.0.0.1:{port["listener"]}", services: [shop/reviews]}}]
""",
        encoding="utf-8",
    )
    bootstraps = prepare(path)
    mesh = EnvoyMesh(path)
    versions = [await upstream(version, port[version]) for version in ("v1", "v2")]
    process = Child(
        launch(
            envoy.command(envoy.find(), bootstraps["web"]),
            log=tmp_path / "envoy.log",
            env=environment({}),
            cwd=tmp_path,
        )
    )
    try:
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(20):
                while not await mesh._admin.ready(f"127.0.0.1:{port['admin']}"):
                    await asyncio.sleep(0.05)
            yield RealMesh(mesh, f"http://127.0.0.1:{port['listener']}/", f"http://127.0.0.1:{port['admin']}", session)
    finally:
        await process.stop(5)
        await mesh.close()
        for runner in versions:
            await runner.cleanup()


async def test_a_split_is_what_requests_meet_and_a_lift_is_the_base(real: RealMesh) -> None:
    assert await real.shares(50) == {"v1": 50}
    lease = await real.take()
    await real.lay(lease, 30)
    seen = await real.shares(400)
    assert 80 <= seen["v2"] <= 160  # 120 expected; the binomial 99.99 % interval
    receipt = await real.mesh.lift(lease)
    assert receipt is not None
    await real.mesh.verify(receipt)
    assert await real.shares(50) == {"v1": 50}


async def test_a_split_dies_at_its_deadline_with_nobody_left_to_end_it(real: RealMesh) -> None:
    deadline = await real.lay(await real.take(ttl=2), 50)
    assert (await real.shares(100))["v2"] > 0
    while time.time() <= deadline:
        await asyncio.sleep(0.05)
    assert await real.shares(100) == {"v1": 100}


async def test_renewals_prolong_on_an_open_connection_and_drain_none(real: RealMesh) -> None:
    lease = await real.take(ttl=2)
    deadline = first = await real.lay(lease, 50)
    before = await real.stat("listener_modified"), await real.stat("downstream_cx_drain_close")
    for _ in range(4):
        await asyncio.sleep(0.6)
        await real.mesh.renew(lease)
        (status,) = await real.mesh.leases()
        assert status.deadline is not None
        deadline = status.deadline
    assert deadline > first
    assert time.time() > first
    assert (await real.shares(100))["v2"] > 0  # the first deadline is over; the connection is the one from before
    assert (await real.stat("listener_modified"), await real.stat("downstream_cx_drain_close")) == before
    assert await real.stat("downstream_cx_total") <= 3 + 20  # no connection was closed on us


async def test_a_forged_header_changes_nothing(real: RealMesh) -> None:
    for forged in ("1", "2", "x"):
        assert await real.shares(30, {OVERLAY_HEADER: forged}) == {"v1": 30}
    deadline = await real.lay(await real.take(ttl=2), 100)
    assert await real.shares(30, {OVERLAY_HEADER: "7"}) == {"v2": 30}
    while time.time() <= deadline:
        await asyncio.sleep(0.05)
    assert await real.shares(30, {OVERLAY_HEADER: "1"}) == {"v1": 30}


async def test_verify_names_the_proxy_that_lags(real: RealMesh) -> None:
    lease = await real.take()
    receipt = await real.mesh.apply(lease, (SplitTraffic(weights={"v1": 99, "v2": 1}),))
    wrong = receipt.model_copy(update={"versions": dict.fromkeys(receipt.versions, "another")})
    with pytest.raises(MeshUnavailable, match="web/out"):
        await real.mesh.verify(wrong, timeout=0.2)
