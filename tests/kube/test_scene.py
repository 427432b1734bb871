"""The lab's shop is ready when its sidecars are: a test that began earlier would blame a version for its own haste."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from autopilot.mesh.kube.api import KubeApi
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
