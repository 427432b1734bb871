"""One route, several paths, two services: a rollout, through real sidecars, touches what leads to its stable alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from scipy import stats

from autopilot.mesh.kube.api import KubeApi, Object
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.kube.resources import VIRTUAL_SERVICE
from autopilot.mesh.model import Aspect, SplitTraffic, Target
from tests.lab import scene
from tests.lab.find import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

_MANY = 10_000
_SPLIT = 3_000


def _to(host: str, subset: str, weight: int | None = None, **more: Any) -> Object:
    return {"destination": {"host": host, "subset": subset}, **({} if weight is None else {"weight": weight}), **more}


@pytest.fixture
def fanned(lab: Cluster, api: KubeApi, namespace: str) -> scene.Scene:
    """`/cart` leads to ratings, `/api` and the rest to reviews, a quarter of `/old` elsewhere for good."""
    scene.furnish(api, namespace, service="ratings")
    found = scene.furnish(api, namespace)
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
    meta = {"name": "reviews", "namespace": namespace}
    spec = {"hosts": ["reviews"], "http": rules}
    api.create(
        VIRTUAL_SERVICE,
        {"apiVersion": VIRTUAL_SERVICE.api_version, "kind": "VirtualService", "metadata": meta, "spec": spec},
    )
    return found


async def _asked(fanned: scene.Scene, path: str, count: int) -> Counter[str]:
    """Who answered, by the pod's address."""
    found: Counter[str] = Counter()
    connector = aiohttp.TCPConnector(limit=32)
    async with aiohttp.ClientSession(connector=connector, headers={"Host": fanned.host}) as session:

        async def ask(times: int) -> None:
            for _ in range(times):
                async with session.get(f"{fanned.client}{path}") as response:
                    assert response.status == 200
                    found[(await response.json())["version"]] += 1

        await asyncio.gather(*(ask(count // 20) for _ in range(20)))
    return found


async def test_siblings_get_no_foreign_request_and_every_concerned_rule_its_share(
    fanned: scene.Scene, api: KubeApi, open_kube: Callable[..., KubeMesh]
) -> None:
    mesh = open_kube("istio")
    target = Target(mesh="lab", namespace=fanned.namespace, service="reviews")
    pods = {
        (service, version): scene.pod_address(api, fanned.namespace, service, version)
        for service in ("reviews", "ratings")
        for version in ("v1", "v2")
    }
    before = api.get(VIRTUAL_SERVICE, "reviews", fanned.namespace)
    lease = await mesh.acquire(target, [Aspect.TRAFFIC], operation="canary/lab/test/reviews", token="run", ttl=120)
    try:
        await mesh.apply(lease, [SplitTraffic(weights={"v1": 80, "v2": 20})])
        async with asyncio.timeout(30):
            while pods["reviews", "v2"] not in await _asked(fanned, "/api", 100):
                await asyncio.sleep(0.1)
        assert await _asked(fanned, "/cart", _MANY) == {pods["ratings", "v1"]: _MANY}
        for path, share in (("/api", 0.2), ("/anything", 0.2), ("/old", 0.75 * 0.2)):
            counted = await _asked(fanned, path, _SPLIT)
            low, high = stats.binom.interval(0.999, _SPLIT, share)
            assert low <= counted[pods["reviews", "v2"]] <= high, (path, counted)
            if path == "/old":
                low, high = stats.binom.interval(0.999, _SPLIT, 0.25)
                assert low <= counted[pods["ratings", "v2"]] <= high
    finally:
        await mesh.lift(lease)
    after = api.get(VIRTUAL_SERVICE, "reviews", fanned.namespace)
    assert before is not None
    assert after is not None
    assert after["spec"] == before["spec"]
