"""A shop under requests in a real cluster, and everything of ours that rolls out a version of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from temporalio.client import Client

from autopilot.local.ports import LOOPBACK, allocate
from autopilot.local.processes import Child, environment, launch, python
from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.client.resources import HTTP_ROUTE, VIRTUAL_SERVICE
from autopilot.mesh.model import Target
from autopilot.mesh_registry.meshes import Meshes, attach
from autopilot.reports.canary import CanaryInput
from autopilot.spec.canary import CanarySpec
from tests.lab import scene, sidecars
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
    mesh_file: Path

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
            "analysis": {"tick": 1, "warmup": 0, "detectAbsolute": 0.3, **analysis},
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

    def process(self, name: str, folder: Path) -> Child:
        """Starts our worker or our guard as people do, apart from this process."""
        start = "from autopilot._bootstrap import main; main()"
        words = [sys.executable, "-P", "-c", start, name, "--mesh", str(self.mesh_file)]
        settings = {
            "TEMPORAL_ADDRESS": self.client.service_client.config.target_host,
            "TEMPORAL_NAMESPACE": self.client.namespace,
            "AUTOPILOT_HOME": str(folder),
        }
        if name == "worker":
            words += ["--prometheus", PROMETHEUS, "--heartbeat", "500ms"]
        return Child(launch(words, log=folder / f"{name}.log", env=environment(settings)))

    def edit_weight(self, index: int, weight: int) -> None:
        """Somebody else sets a weight of the shared rule."""
        istio = self.provider == "istio"
        place = "/spec/http/1/route" if istio else "/spec/rules/0/backendRefs"
        operation = {"op": "replace", "path": f"{place}/{index}/weight", "value": weight}
        self.api.patch(VIRTUAL_SERVICE if istio else HTTP_ROUTE, "reviews", self.scene.namespace, [operation])

    async def until(self, condition: Callable[[], bool], limit: float = 30) -> None:
        """Waits until the cluster is as it should be."""
        async with asyncio.timeout(limit):
            while not await asyncio.to_thread(condition):
                await asyncio.sleep(0.1)

    async def settled(self, canary: str, weight: float) -> None:
        """Waits until `web`'s proxy itself has these weights."""
        address = scene.pod_address(self.api, self.scene.namespace, "web", "v1")
        async with asyncio.timeout(20):
            while True:
                url = f"http://{address}:{sidecars.ADMIN}/config_dump?resource=dynamic_route_configs"
                async with self.session.get(url) as response:
                    found = weights_in(await response.json(content_type=None), canary)
                if any(abs(share - weight) < 1e-6 for share in found):
                    return
                await asyncio.sleep(0.1)

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


def weights_in(dump: object, arm: str) -> list[float]:
    """Percents that an arm has in any weighted cluster of a configuration dump."""
    if isinstance(dump, list):
        return [share for one in dump for share in weights_in(one, arm)]
    if not isinstance(dump, dict):
        return []
    found = [share for one in dump.values() for share in weights_in(one, arm)]
    if isinstance(clusters := (dump.get("weighted_clusters") or {}).get("clusters"), list):
        total = sum(one.get("weight", 0) for one in clusters)
        found += [
            100 * one.get("weight", 0) / total
            for one in clusters
            if arm in (one["name"].split("|")[2], one["name"].split("|")[3].split(".")[0])
        ]
    return found


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
    driver: str = "plain",
    worker: bool = True,
) -> AsyncIterator[Stage]:
    """Furnishes a namespace, sends requests, and runs a worker where one is wanted, while the context lasts."""
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
        "spec": {"provider": provider, "driver": driver, "kubeconfig": str(kubeconfig), "telemetry": telemetry},
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
        stage = Stage(api, made, provider, client, meshes, session, f"http://{LOOPBACK}:{port}", file)
        try:
            for version in ("v1", "v2"):  # the address may have been another pod's before
                await stage.behave(version, errors=0.0, delay=0.0, hang=False)
            await _answers(session, f"{stage.load}/counts")
            await stage.flowing()
            async with contextlib.AsyncExitStack() as stack:
                if worker:
                    await stack.enter_async_context(working(client, meshes, reports=folder / "reports"))
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
