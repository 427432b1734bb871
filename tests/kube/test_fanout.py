"""Paths, ports and services of one route, with traffic: a rollout touches what leads to its stable alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from scipy import stats

from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import VIRTUAL_SERVICE
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.model import Aspect, SplitTraffic, Target
from tests.kube import ingress
from tests.lab import scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240), pytest.mark.usefixtures("lab")]

_MANY = 10_000
_SPLIT = 3_000


def _to(host: str, subset: str, weight: int | None = None, port: int | None = None) -> Object:
    where = {"host": host, "subset": subset, **({} if port is None else {"port": {"number": port}})}
    return {"destination": where, **({} if weight is None else {"weight": weight})}


def _laid_out(api: KubeApi, namespace: str, rules: list[Object], *hosts: str) -> None:
    """A VirtualService for `reviews`, and through the gateway `shop` for names of the outside."""
    meta = {"name": "reviews", "namespace": namespace}
    spec = {"hosts": ["reviews", *hosts], "http": rules, **({"gateways": ["mesh", "shop"]} if hosts else {})}
    kind = {"apiVersion": VIRTUAL_SERVICE.api_version, "kind": VIRTUAL_SERVICE.kind}
    api.create(VIRTUAL_SERVICE, {**kind, "metadata": meta, "spec": spec})


@dataclass(frozen=True, slots=True)
class Caller:
    """Where requests go in, and by which name."""

    url: str
    host: str

    async def asks(self, path: str, count: int) -> Counter[str]:
        """Who answered, by the pod's address."""
        found: Counter[str] = Counter()
        connector = aiohttp.TCPConnector(limit=32)
        async with aiohttp.ClientSession(connector=connector, headers={"Host": self.host}) as session:

            async def ask(times: int) -> None:
                for _ in range(times):
                    async with session.get(f"{self.url}{path}") as response:
                        assert response.status == 200
                        found[(await response.json())["version"]] += 1

            await asyncio.gather(*(ask(count // 20) for _ in range(20)))
        return found

    async def until_answered_by(self, pod: str, path: str) -> None:
        """Waits until a pod is among those that answer."""
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(aiohttp.ClientError, AssertionError):
                    if pod in await self.asks(path, 100):
                        return
                await asyncio.sleep(0.1)


@asynccontextmanager
async def _split(mesh: KubeMesh, namespace: str) -> AsyncIterator[None]:
    """80 to 20, and nothing of it left in the end."""
    before = mesh.api.get(VIRTUAL_SERVICE, "reviews", namespace)
    target = Target(mesh="lab", namespace=namespace, service="reviews")
    lease = await mesh.acquire(target, [Aspect.TRAFFIC], operation="canary/lab/test/reviews", token="run", ttl=120)
    try:
        await mesh.apply(lease, [SplitTraffic(weights={"v1": 80, "v2": 20})])
        yield
    finally:
        await mesh.lift(lease)
    after = mesh.api.get(VIRTUAL_SERVICE, "reviews", namespace)
    assert before is not None
    assert after is not None
    assert after["spec"] == before["spec"]


@pytest.mark.parametrize("through", ["a sidecar", "an ingress gateway"])
async def test_siblings_get_no_foreign_request_and_every_concerned_rule_its_share(
    api: KubeApi, namespace: str, open_kube: Callable[..., KubeMesh], tmp_path: Path, through: str
) -> None:
    """`/cart` leads to ratings, `/api` and the rest to reviews, a quarter of `/old` elsewhere for good."""
    scene.furnish(api, namespace, service="ratings")
    shop = scene.furnish(api, namespace)
    for name in ("reviews", "ratings"):
        scene.subsets(api, namespace, name)
    rules = [
        {"name": "cart", "match": [{"uri": {"prefix": "/cart"}}], "route": [_to("ratings", "v1")]},
        {"name": "api", "match": [{"uri": {"prefix": "/api"}}], "route": [_to("reviews", "v1")], "timeout": "3s"},
        {
            "name": "old",
            "match": [{"uri": {"prefix": "/old"}}],
            "route": [_to("reviews", "v1", 7500), _to("ratings", "v2", 2500)],
        },
        {"name": "rest", "route": [_to("reviews", "v1")]},
    ]
    async with AsyncExitStack() as stack:
        if through == "a sidecar":
            _laid_out(api, namespace, rules)
            caller = Caller(shop.client, shop.host)
        else:
            _laid_out(api, namespace, rules, "shop.example.com")
            edge = await stack.enter_async_context(ingress.gateway(api, namespace, "shop.example.com", tmp_path))
            caller = Caller(edge.client, "shop.example.com")
        pods = {
            (service, version): scene.pod_address(api, namespace, service, version)
            for service in ("reviews", "ratings")
            for version in ("v1", "v2")
        }
        await caller.until_answered_by(pods["reviews", "v1"], "/api")
        await stack.enter_async_context(_split(open_kube("istio"), namespace))
        await caller.until_answered_by(pods["reviews", "v2"], "/api")
        assert await caller.asks("/cart", _MANY) == {pods["ratings", "v1"]: _MANY}
        for path, share in (("/api", 0.2), ("/anything", 0.2), ("/old", 0.75 * 0.2)):
            counted = await caller.asks(path, _SPLIT)
            low, high = stats.binom.interval(0.999, _SPLIT, share)
            assert low <= counted[pods["reviews", "v2"]] <= high, (path, counted)
            if path == "/old":
                low, high = stats.binom.interval(0.999, _SPLIT, 0.25)
                assert low <= counted[pods["ratings", "v2"]] <= high


async def test_ports_and_paths_of_one_service_are_rolled_out_together(
    api: KubeApi, namespace: str, open_kube: Callable[..., KubeMesh]
) -> None:
    """Two ports, one of them with a path of its own: three rules, each with its share."""
    shop = scene.furnish(api, namespace, ports=(80, 9090))
    scene.subsets(api, namespace)
    rules = [
        {"name": "admin", "match": [{"port": 9090}], "route": [_to("reviews", "v1", port=9090)]},
        {"name": "api", "match": [{"port": 80, "uri": {"prefix": "/api"}}], "route": [_to("reviews", "v1", port=80)]},
        {"name": "rest", "route": [_to("reviews", "v1", port=80)]},
    ]
    _laid_out(api, namespace, rules)
    canary = scene.pod_address(api, namespace, "reviews", "v2")
    http, admin = Caller(shop.client, shop.host), Caller(shop.at(9090), f"{shop.host}:9090")
    async with _split(open_kube("istio"), namespace):
        for caller, path in ((http, "/api"), (http, "/"), (admin, "/")):
            await caller.until_answered_by(canary, path)
            counted = await caller.asks(path, _SPLIT)
            low, high = stats.binom.interval(0.999, _SPLIT, 0.2)
            assert low <= counted[canary] <= high, (caller, path, counted)
