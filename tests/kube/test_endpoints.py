"""A canary whose pods are gone, over a real API server and Envoys: rolled back within seconds, at any rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.client.resources import DEPLOYMENT
from autopilot.operations.common import Outcome
from starter.client.start import start_operation
from tests.kube.stage import Stage, staged
from tests.kube.world import World
from tests.lab.find import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
STEP = [{"weight": 10, "hold": 120, "minRequests": 50}]


@pytest.fixture(params=[("istio", 100), ("istio", 1), ("gateway_api", 100), ("gateway_api", 1)], ids=str)
async def stage(
    request: pytest.FixtureRequest, lab: Cluster, api: KubeApi, dev_server: WorkflowEnvironment, tmp_path: Path
) -> AsyncIterator[Stage]:
    namespace = request.getfixturevalue("namespace")
    provider, rate = request.param
    async with staged(
        api, namespace, provider, dev_server.client, tmp_path, kubeconfig=lab.kubeconfig, rate=rate
    ) as made:
        yield made


def scale(api: KubeApi, namespace: str, name: str, replicas: int) -> None:
    api.patch(DEPLOYMENT, name, namespace, [{"op": "replace", "path": "/spec/replicas", "value": replicas}])


async def test_pods_that_vanish_in_mid_step_roll_the_rollout_back(stage: Stage) -> None:
    stable, canary = stage.arms
    original = stage.written()
    # Requests to a pod that is just going may fail too, and be found first: here nothing else can find harm.
    handle = await start_operation(stage.client, stage.rollout("vanished", STEP, metrics=[{"type": "latency"}]))
    await stage.until(lambda: sum(stage.written()[0][1:]) == 10)
    await asyncio.sleep(2)
    mesh = stage.meshes["lab"].mesh
    scale(stage.api, stage.scene.namespace, "reviews-v2", 0)
    async with asyncio.timeout(30):
        while (await mesh.ready(stage.target, [canary]))[canary]:
            await asyncio.sleep(0.05)
    gone = time.monotonic()
    await stage.until(lambda: stage.written() == original)
    assert time.monotonic() - gone < 15  # as a rule four seconds; the machine may be busy
    report = await asyncio.wait_for(handle.result(), 60)
    assert report.outcome is Outcome.ROLLED_BACK, report.reason
    assert report.reason.startswith(f"{canary} has no ready endpoint (its last went ")
    assert report.reason.endswith("s ago) while it is set to 10 %")
    assert (await mesh.ready(stage.target, [stable]))[stable] == 1


async def test_ready_endpoints_are_counted_by_version_and_others_are_not_known(world: World) -> None:
    mesh, target, namespace = world.mesh, world.target, world.namespace
    arms = [world.stable, world.canary]
    assert await mesh.ready(target, [*arms, "somewhere-else"]) == dict.fromkeys(arms, 1)
    scale(world.api, namespace, "reviews-v1", 0)
    async with asyncio.timeout(30):
        while await mesh.ready(target, arms) != {world.stable: 0, world.canary: 1}:
            await asyncio.sleep(0.1)
