"""The lab's shop is ready when its sidecars are: a test that began earlier would blame a version for its own haste."""

from __future__ import annotations

import asyncio
import ipaddress

import aiohttp
import pytest

from autopilot.mesh.kube.client.client import KubeApi
from tests.lab import scene
from tests.lab.find import Cluster
from tests.lab.parts import NODE_PODS
from tests.lab.pods import PORT

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


async def test_a_pod_is_not_taken_for_one_that_had_its_address_before(
    lab: Cluster, api: KubeApi, namespace: str
) -> None:
    """Whoever had any of the node's addresses has failed; a cluster gives the addresses out again."""
    async with aiohttp.ClientSession() as session:
        for address in ipaddress.ip_network(NODE_PODS).hosts():
            async with session.post(f"http://{address}:{PORT}/_shop", json={"errors": 1.0}) as response:
                assert response.status == 200
        await asyncio.to_thread(scene.furnish, api, namespace)
        for version in ("v1", "v2"):
            address = scene.pod_address(api, namespace, "reviews", version)
            async with session.get(f"http://{address}:{scene.INBOUND}/") as response:
                assert (version, response.status) == (version, 200)
