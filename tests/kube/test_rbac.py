"""The rights in deploy/rbac*.yaml are enough for rollouts, faults, guards and actions each, and for nothing else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autopilot.mesh.kube.client.api_errors import Forbidden
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import DEPLOYMENT, NETWORK_POLICY, NODE, POD, SECRET, Resource
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.model import Aspect, InjectFault
from autopilot.spec.chaos.experiment import Cordon, Drain, PodKill, Scale
from autopilot.spec.chaos.faults import Abort, Fault, Partition
from autopilot.spec.chaos.scope import HeaderMatch, Scope
from tests.kube.world import ME, World
from tests.lab.cluster import NAMESPACE, NODE_NAME, documents
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
    """The user `autopilot` has what these files give to its service account."""
    with _granted(api, "rbac.yaml", "rbac-envoyfilter.yaml"):
        yield


@pytest.fixture
def granted_actions(api: KubeApi, granted: None) -> Iterator[None]:
    """And what actions need."""
    with _granted(api, "rbac-actions.yaml"):
        yield


@contextlib.contextmanager
def _granted(api: KubeApi, *files: str, shop: str = "shop") -> Iterator[None]:
    """`shop`: the namespace that stands in for the one which the files call so."""
    applied: list[Object] = []
    for body in [body for file in files for body in documents(DEPLOY / file)]:
        if body["metadata"].get("namespace") == "shop":
            body["metadata"]["namespace"] = shop
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


def _once_granted(read: Callable[[], Object | None]) -> Object | None:
    """The API server learns of a new binding by a watch of its own, a moment after it was written."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return read()
        except Forbidden:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_secret_is_read_where_it_was_named_and_no_other(
    world: World, granted: None, api: KubeApi, open_kube: Callable[..., KubeMesh]
) -> None:
    for name in ("checkout-token", "other"):
        meta = {"name": name, "namespace": world.namespace}
        api.apply(SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"token": name}})
    ours = open_kube(world.provider, "autopilot").api
    with pytest.raises(Forbidden, match="secrets"):
        ours.get(SECRET, "checkout-token", world.namespace)
    with _granted(api, "rbac-secrets.yaml", shop=world.namespace):
        found = _once_granted(lambda: ours.get(SECRET, "checkout-token", world.namespace))
        assert found is not None
        assert found["data"] == {"token": "Y2hlY2tvdXQtdG9rZW4="}
        with pytest.raises(Forbidden, match="secrets"):
            ours.get(SECRET, "other", world.namespace)
        with pytest.raises(Forbidden, match="secrets"):
            ours.list(SECRET, world.namespace)


async def test_they_are_enough_for_faults(world: World, granted: None, open_kube: Callable[..., KubeMesh]) -> None:
    mesh = open_kube(world.provider, "autopilot")
    before = world.route()
    said: list[Fault] = [Partition()]
    if world.provider == "istio":
        said.append(Abort(status=503))
    scope = Scope(headers={"end-user": HeaderMatch(exact="jason")})
    changes = [InjectFault(fault=one, scope=None if isinstance(one, Partition) else scope) for one in said]
    await mesh.plan(world.target, changes)
    lease = await mesh.acquire(world.target, [Aspect.FAULTS], operation="chaos/lab/test/x", token="run", ttl=60, by=ME)
    await mesh.apply(lease, changes, ME)
    await mesh.renew(lease)
    await mesh.lift(lease, ME)
    await open_kube(world.provider, "autopilot").sweep()
    assert world.route()["spec"] == before["spec"]
    assert world.api.list(NETWORK_POLICY, world.namespace) == []
    with pytest.raises(Forbidden, match="pods"):
        mesh.workloads.act(world.target, PodKill(), f"{world.namespace} without rights")
    with pytest.raises(Forbidden, match="nodes"):
        mesh.workloads.act(world.target, Cordon(node=NODE_NAME), "without rights")


async def test_without_rights_for_policies_an_experiment_is_told_before_anything_is_laid(
    world: World, granted: None, api: KubeApi, open_kube: Callable[..., KubeMesh]
) -> None:
    (role,) = [body for body in documents(DEPLOY / "rbac.yaml") if body["kind"] == "ClusterRole"]
    role["rules"] = [rule for rule in role["rules"] if "networkpolicies" not in rule["resources"]]
    api.apply(KINDS["ClusterRole"], role)
    mesh = open_kube(world.provider, "autopilot")
    with pytest.raises(Forbidden, match="networkpolicies"):
        await mesh.acquire(world.target, [Aspect.FAULTS], operation="chaos/lab/test/x", token="run", ttl=60)
    await _a_whole_rollout(world, mesh)  # which needs none of them
    await mesh.sweep()


def test_they_are_enough_for_actions(world: World, granted_actions: None, open_kube: Callable[..., KubeMesh]) -> None:
    workloads = open_kube(world.provider, "autopilot").workloads
    key = f"{world.namespace} with rights"
    assert "killed reviews-v1" in workloads.act(world.target, PodKill(arm=world.stable, grace=0), key).done
    scale = Scale(workload="deployment/reviews-v2", replicas=2)
    workloads.act(world.target, scale, key)
    assert "back to 1" in workloads.undo(world.target, scale, key).undone
    node = f"node-{world.namespace}"
    world.api.apply(NODE, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    meta = {"name": "alone", "namespace": world.namespace}
    spec = {"nodeName": node, "containers": [{"name": "app", "image": "shop/alone:v1"}]}
    world.api.apply(POD, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    drain = Drain(node=node, force=True)
    assert f"{world.namespace}/alone" in workloads.act(world.target, drain, f"{key} drain").done
    assert "uncordoned" in workloads.undo(world.target, drain, f"{key} drain").undone
    world.api.delete(NODE, node)
