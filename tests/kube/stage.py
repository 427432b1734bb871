"""A shop under requests in a real cluster, and everything of ours that rolls out a version of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from temporalio.client import Client

from activities.meshes import Meshes, attach
from autopilot.local.ports import LOOPBACK, allocate
from autopilot.local.processes import Child, environment, launch, python
from autopilot.mesh.kube.api import KubeApi
from autopilot.mesh.kube.resources import HTTP_ROUTE, VIRTUAL_SERVICE
from autopilot.mesh.model import Target
from autopilot.report import CanaryInput
from autopilot.spec.canary import CanarySpec
from tests.lab import scene
from tests.lab.parts import PROMETHEUS
from tests.lab.pods import PORT
from worker.main import working


@dataclass
class Stage:
    """What a test plays on."""

    api: KubeApi
    scene: scene.Scene
    provider: str
    client: Client
    meshes: Meshes
    session: aiohttp.ClientSession
    load: str

    @property
    def target(self) -> Target:
        return Target(mesh="lab", namespace=self.scene.namespace, service="reviews")

    @property
    def arms(self) -> tuple[str, str]:
        """Stable and canary, by their names in this mesh."""
        return ("v1", "v2") if self.provider == "istio" else ("reviews-v1", "reviews-v2")

    def rollout(self, name: str, steps: list[dict[str, Any]], **analysis: Any) -> CanaryInput:
        stable, canary = self.arms
        spec = {
            "target": {"service": "reviews"},
            "arms": {"stable": stable, "canary": canary},
            "steps": steps,
            "analysis": {"tick": 1, "warmup": 0, **analysis},
        }
        return CanaryInput(
            mesh="lab",
            namespace=self.scene.namespace,
            name=name,
            spec=CanarySpec.model_validate(spec),
            heartbeat_timeout=5,
        )

    def written(self) -> tuple[list[int], dict[str, str]]:
        """Weights of the shared rule as they stand in the route, and its annotations."""
        istio = self.provider == "istio"
        body = self.api.get(VIRTUAL_SERVICE if istio else HTTP_ROUTE, "reviews", self.scene.namespace)
        assert body is not None
        rule = body["spec"]["http"][-1]["route"] if istio else body["spec"]["rules"][-1]["backendRefs"]
        return [one.get("weight", 0) for one in rule], body["metadata"].get("annotations") or {}

    async def behave(self, version: str, **behaviour: Any) -> None:
        """Tells the application of a version how to behave."""
        address = scene.pod_address(self.api, self.scene.namespace, "reviews", version)
        async with self.session.post(f"http://{address}:{PORT}/_shop", json=behaviour) as response:
            assert response.status == 200

    async def served(self, version: str) -> int:
        """Requests that a version's application has seen."""
        address = scene.pod_address(self.api, self.scene.namespace, "reviews", version)
        async with self.session.get(f"http://{address}:{PORT}/_shop") as response:
            return int((await response.json())["requests"])

    async def counts(self) -> dict[str, Any]:
        """What clients met since the load began."""
        async with self.session.get(f"{self.load}/counts") as response:
            return dict(await response.json())

    async def flowing(self) -> None:
        """Waits until clients are served, without a failure for a second."""
        async with asyncio.timeout(40):
            before = await self.counts()
            while True:
                await asyncio.sleep(1)
                now = await self.counts()
                if now["requests"] > before["requests"] and now["failures"] == before["failures"]:
                    return
                before = now


@contextlib.asynccontextmanager
async def staged(
    api: KubeApi,
    namespace: str,
    provider: str,
    client: Client,
    folder: Path,
    *,
    kubeconfig: Path,
    rate: float,
    telemetry: str = "prometheus",
) -> AsyncIterator[Stage]:
    """Furnishes a namespace, sends requests, and runs a worker for as long as the context lasts."""
    made = await asyncio.to_thread(scene.furnish, api, namespace)
    if provider == "istio":
        scene.subsets(api, namespace)
        scene.virtual_service(api, namespace, v1=100, v2=0)
    else:
        scene.http_route(api, namespace, reviews_v1=100, reviews_v2=0)
    mesh = {
        "apiVersion": "meshautopilot.io/v1alpha1",
        "kind": "Mesh",
        "metadata": {"name": "lab"},
        "spec": {"provider": provider, "kubeconfig": str(kubeconfig), "telemetry": telemetry},
    }
    file = folder / f"mesh-{namespace}.yaml"
    file.write_text(json.dumps(mesh), encoding="utf-8")
    port = allocate(["load"])["load"]
    words = python("autopilot.local.load", "--url", made.client, "--host", made.host, "--rate", f"{rate:g}")
    root = Path(__file__).parents[2]
    child = Child(
        launch([*words, "--port", str(port)], log=folder / "load.log", env=environment({"PYTHONPATH": str(root)}))
    )
    meshes = attach([file], PROMETHEUS)
    async with aiohttp.ClientSession() as session:
        stage = Stage(api, made, provider, client, meshes, session, f"http://{LOOPBACK}:{port}")
        try:
            await _answers(session, f"{stage.load}/counts")
            await stage.flowing()
            async with working(client, meshes, reports=folder / "reports"):
                yield stage
        finally:
            await child.stop(1.0)
            await meshes.close()


async def _answers(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url):
                    return
            await asyncio.sleep(0.05)
