"""A rollout by EnvoyFilters that dies at each of its writes: the same walk and the same demands as of the plain driver.

Where it may have died before a write it may have died after the one before, so that is played once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autopilot.mesh.errors import LeaseLost
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import ENVOY_FILTER
from autopilot.mesh.kube.envoyfilter import overlay as filters
from autopilot.mesh.kube.envoyfilter import standing_filter
from autopilot.mesh.kube.envoyfilter.overlay import FilterOverlayer
from autopilot.mesh.kube.leases.ledger import KubeLedger
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.spec.cluster import ClusterMesh
from tests.kube.mortal import Dead, Mode, MortalApi, Walk
from tests.kube.test_kill_points import Suite
from tests.kube.world import World
from tests.lab import scene
from tests.lab.find import Cluster

pytestmark = pytest.mark.timeout(600)

ROOT = "istio-system"
TTL = 0.8
MODES: tuple[Mode, ...] = ("after", "late")
_NUMBERS = itertools.count(1)


class FilterSuite(Suite):
    """Plays cells of this driver."""

    def __init__(self, world: World, kubeconfig: Path, guard: Callable[[], KubeMesh]) -> None:
        super().__init__(world, kubeconfig, guard)
        self.world, self.file = world, kubeconfig

    async def cell(self, point: int, mode: Mode, *, promoted: bool) -> None:
        await super().cell(point, mode, promoted=promoted)
        if left := [one["metadata"]["name"] for one in self.filters()]:
            self.violations.append(f"write {point}, {mode}: {', '.join(left)} stayed")

    def filters(self) -> list[Object]:
        return self.world.api.list(ENVOY_FILTER, ROOT, labels=f"meshautopilot.io/namespace={self.world.namespace}")

    async def _walk(self, point: int, mode: Mode, *, promoted: bool) -> tuple[MortalApi, Walk]:
        api = MortalApi(self.file)
        api.point, api.mode = point, mode
        store = KubeStore(api, "lab", "autopilot")
        ledger = KubeLedger(store, FilterOverlayer(store, IstioRoutes(api), ROOT, sleep=lambda _: None), 60.0)
        walk = Walk(ledger, self.world.target, ("v1", "v2"), f"canary/lab/kill/{next(_NUMBERS)}", TTL)
        # A slow machine may take longer than proxies wait: that ends a walk too.
        with contextlib.suppress(Dead, LeaseLost):
            await asyncio.to_thread(walk.go, promoted=promoted)
        return api, walk


@pytest.fixture
def guard(a_cluster: Cluster, system: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], KubeMesh]]:
    monkeypatch.setattr(filters, "SETTLE", 0.0)
    made: list[KubeMesh] = []

    def make() -> KubeMesh:
        spec = {"provider": "istio", "driver": "envoyfilter", "kubeconfig": str(a_cluster.kubeconfig)}
        mesh = ClusterMesh.model_validate({"metadata": {"name": "lab"}, "spec": {**spec, "namespace": system}})
        made.append(KubeMesh(mesh, a_cluster.kubeconfig.parent))
        return made[-1]

    yield make
    for mesh in made:
        mesh.api.close()


@pytest.fixture
def shop(api: KubeApi, namespace: str, open_kube: Callable[..., KubeMesh]) -> World:
    scene.furnish(api, namespace, sidecars=False)
    scene.subsets(api, namespace)
    scene.virtual_service(api, namespace, v1=100, v2=0)
    # Installed ahead: it is a standing part, and so the same points are met by every cell.
    standing_filter.install(api, ROOT)
    return World(api, namespace, "istio", open_kube)


@pytest.mark.parametrize("promoted", [False, True], ids=["rolled back", "promoted"])
async def test_death_at_any_write_leaves_nothing_behind(
    shop: World, a_cluster: Cluster, guard: Callable[[], KubeMesh], promoted: bool
) -> None:
    suite = FilterSuite(shop, a_cluster.kubeconfig, guard)
    points = await suite.writes(promoted=promoted)
    assert points >= 12
    for point, mode in itertools.product(range(points), MODES):
        await suite.cell(point, mode, promoted=promoted)
    assert suite.violations == []
    assert suite.cells == len(MODES) * points
    print(f"{suite.cells} deaths")
