"""The lab's shop is ready when its sidecars are: a test that began earlier would blame a version for its own haste."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from autopilot.mesh.kube.api import KubeApi
from autopilot.mesh.kube.resources import DEPLOYMENT, POD
from tests.lab import scene
from tests.lab.find import Cluster

pytestmark = pytest.mark.e2e


async def test_both_versions_answer_through_their_sidecars_from_the_first_request_on(
    lab: Cluster, api: KubeApi, namespace: str
) -> None:
    await asyncio.to_thread(scene.furnish, api, namespace)
    async with aiohttp.ClientSession() as session:
        for version in ("v1", "v2"):
            address = scene.pod_address(api, namespace, "reviews", version)
            async with session.get(f"http://{address}:{scene.INBOUND}/") as response:
                assert (version, response.status) == (version, 200)


async def test_a_pod_is_not_taken_for_the_one_that_had_its_address_before(
    lab: Cluster, api: KubeApi, namespace: str
) -> None:
    await asyncio.to_thread(scene.furnish, api, namespace)
    before = {scene.pod_address(api, namespace, "reviews", version) for version in ("v1", "v2")}
    async with aiohttp.ClientSession() as session:
        for address in before:
            async with session.post(f"http://{address}:{scene.INBOUND}/_shop", json={"errors": 1.0}) as response:
                assert response.status == 200
        for version in ("v1", "v2"):
            await asyncio.to_thread(api.delete, DEPLOYMENT, f"reviews-{version}", namespace)
        async with asyncio.timeout(30):
            while await asyncio.to_thread(api.list, POD, namespace, labels="app=reviews"):
                await asyncio.sleep(0.1)
        await asyncio.to_thread(scene.furnish, api, namespace, service="ratings")
        after = {scene.pod_address(api, namespace, "ratings", version) for version in ("v1", "v2")}
        assert before & after, "no address was given out again, so nothing was shown"
        for address in after:
            async with session.get(f"http://{address}:{scene.INBOUND}/") as response:
                assert (address, response.status) == (address, 200)
