"""Finds a cluster for these tests; see `tests.lab.find` for the order in which one is looked for."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator

import pytest

from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.spec.cluster import ClusterMesh
from tests.kube.world import World
from tests.lab import scene
from tests.lab.cluster import NAMESPACE, make_namespace
from tests.lab.find import Cluster, find, required

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def a_cluster() -> Cluster:
    """A cluster; without one the tests are skipped, or fail where `AUTOPILOT_REQUIRE=lab` says that one must be."""
    found = find()
    if isinstance(found, str):
        if required():
            pytest.fail(found)
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def api(a_cluster: Cluster) -> Iterator[KubeApi]:
    """The API server, with all rights."""
    made = KubeApi(a_cluster.kubeconfig)
    yield made
    made.close()


@pytest.fixture
def namespace(api: KubeApi) -> Iterator[str]:
    """A namespace of this test's own."""
    name = f"test-{os.getpid()}-{next(_NUMBERS)}"
    make_namespace(api, name)
    yield name
    api.delete(NAMESPACE, name)


@pytest.fixture(scope="session")
def lab(a_cluster: Cluster, system: str) -> Cluster:
    """The lab, whose sidecars carry traffic."""
    if a_cluster.lab is None and required():
        pytest.fail("the lab is required, and this is another cluster")
    if a_cluster.lab is None:
        pytest.skip("traffic goes through the lab's own sidecars alone: run `make test-lab`")
    return a_cluster


@pytest.fixture(scope="session")
def system(api: KubeApi) -> str:
    """Autopilot's own namespace."""
    make_namespace(api, "autopilot")
    return "autopilot"


class Clock:
    """Seconds since the epoch, and as many more as a test likes."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture(scope="session")
def controllers(a_cluster: Cluster) -> None:
    """Deployments get pods, and Services endpoints."""
    if a_cluster.api_only:
        pytest.skip("this API server has no controllers beside it: no pod ever runs")


@pytest.fixture
def open_kube(a_cluster: Cluster, system: str, controllers: None) -> Iterator[Callable[..., KubeMesh]]:
    """Opens meshes of the cluster, for whoever a test plays."""
    opened: list[KubeMesh] = []

    def make(
        provider: str, user: str = "admin", clock: Callable[[], float] = time.time, driver: str = "plain"
    ) -> KubeMesh:
        file = a_cluster.kubeconfig.with_name(f"{user}.kubeconfig") if user != "admin" else a_cluster.kubeconfig
        spec = {"provider": provider, "kubeconfig": str(file), "namespace": system, "driver": driver}
        mesh = KubeMesh(ClusterMesh.model_validate({"metadata": {"name": "lab"}, "spec": spec}), file.parent, clock)
        opened.append(mesh)
        return mesh

    yield make
    for mesh in opened:
        mesh.api.close()


@pytest.fixture(params=["istio", "gateway_api"])
def world(request: pytest.FixtureRequest, api: KubeApi, namespace: str, open_kube: Callable[..., KubeMesh]) -> World:
    scene.furnish(api, namespace, sidecars=False)
    if request.param == "istio":
        scene.subsets(api, namespace)
        scene.virtual_service(api, namespace, v1=100, v2=0)
    else:
        scene.http_route(api, namespace, reviews_v1=100, reviews_v2=0)
    return World(api, namespace, request.param, open_kube)
