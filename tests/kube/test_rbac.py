"""The rights in deploy/rbac.yaml are enough for a whole rollout and for a guard, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autopilot.mesh.kube.api import Forbidden, KubeApi, Object
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.kube.resources import DEPLOYMENT, Resource
from tests.kube.world import ME, World
from tests.lab.cluster import NAMESPACE, documents
from tests.lab.find import Cluster

DEPLOY = Path(__file__).parents[2] / "deploy"
GROUP = "rbac.authorization.k8s.io"
KINDS = {
    "Namespace": NAMESPACE,
    "ServiceAccount": Resource("", "v1", "serviceaccounts", "ServiceAccount"),
    "ClusterRole": Resource(GROUP, "v1", "clusterroles", "ClusterRole"),
    "ClusterRoleBinding": Resource(GROUP, "v1", "clusterrolebindings", "ClusterRoleBinding"),
    "Role": Resource(GROUP, "v1", "roles", "Role"),
    "RoleBinding": Resource(GROUP, "v1", "rolebindings", "RoleBinding"),
}


@pytest.fixture
def granted(api: KubeApi, lab: Cluster) -> Iterator[None]:
    """The user `autopilot` has what the file gives to its service account."""
    applied: list[Object] = []
    for body in [*documents(DEPLOY / "rbac.yaml"), *documents(DEPLOY / "rbac-envoyfilter.yaml")]:
        if "subjects" in body:
            body["subjects"] = [{"kind": "User", "name": "autopilot", "apiGroup": GROUP}]
        api.apply(KINDS[body["kind"]], body)
        applied.append(body)
    yield
    for body in applied:
        if body["kind"].endswith("Binding"):
            api.delete(KINDS[body["kind"]], body["metadata"]["name"], body["metadata"].get("namespace"))


async def test_they_are_enough_for_a_rollout_and_for_a_guard(
    world: World, granted: None, open_kube: Callable[..., KubeMesh]
) -> None:
    drivers = ["plain", "envoyfilter"] if world.provider == "istio" else ["plain"]
    for driver in drivers:
        await _a_whole_rollout(world, open_kube(world.provider, "autopilot", driver=driver))
        world.edit(*({"op": "replace", "path": f"{world.place}/{at}/weight", "value": 100 - 100 * at} for at in (0, 1)))
    guard = open_kube(world.provider, "autopilot")
    await guard.sweep()
    assert [one for one in await guard.leases() if one.lease.target == world.target] == []


async def _a_whole_rollout(world: World, mesh: KubeMesh) -> None:
    await mesh.observe(world.target)
    await mesh.plan(world.target, world.split(10))
    lease = await world.take(token=f"with {mesh.spec.driver}", mesh=mesh)
    await mesh.apply(lease, world.split(10), ME)
    await mesh.renew(lease)
    await mesh.lift(lease, ME)
    assert world.written() == [100, 0]
    lease = await world.take(token=f"again with {mesh.spec.driver}", mesh=mesh)
    await mesh.apply(lease, world.split(100), ME)
    await mesh.commit(lease, ME)
    assert world.written() == [0, 100]
    assert await mesh.audit()


async def test_and_for_nothing_else(world: World, granted: None, open_kube: Callable[..., KubeMesh]) -> None:
    mesh = open_kube(world.provider, "autopilot")
    with pytest.raises(Forbidden, match="deployments"):
        mesh.api.list(DEPLOYMENT, world.namespace)
    with pytest.raises(Forbidden, match="secrets"):
        mesh.api.list(Resource("", "v1", "secrets", "Secret"), world.namespace)
