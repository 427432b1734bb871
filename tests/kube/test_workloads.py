"""Actions on pods, workloads and nodes: done once a key, and put back where they can be."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator

import pytest

from autopilot.mesh.errors import InvalidChange, MeshUnavailable
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import CONFIG_MAP, DEPLOYMENT, NODE, POD, Resource
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.kube.workloads.actions import CORDONED, SCALED, Workloads
from autopilot.mesh.model import Target
from autopilot.spec.chaos.experiment import Cordon, Drain, PodKill, Scale
from tests.lab import scene
from tests.lab.cluster import NODE_NAME

BUDGET = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
DAEMON_SET = Resource("apps", "v1", "daemonsets", "DaemonSet")
_KEYS = itertools.count(1)


class Shop:
    """The shop, without sidecars."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.target = Target(mesh="lab", namespace=namespace, service="reviews")
        self.workloads = Workloads(api)

    @property
    def key(self) -> str:
        return f"chaos/lab/{self.namespace}/x/run/{next(_KEYS)}"

    def pods(self, labels: str = "app=reviews") -> dict[str, str]:
        """Uid to name of those that are not on their way out."""
        found = self.api.list(POD, self.namespace, labels=labels)
        return {
            one["metadata"]["uid"]: one["metadata"]["name"]
            for one in found
            if "deletionTimestamp" not in one["metadata"]
        }

    def ready(self, number: int, labels: str = "app=reviews") -> dict[str, str]:
        """Waits until there are so many with an address."""
        until = time.monotonic() + 20
        while True:
            found = self.api.list(POD, self.namespace, labels=labels)
            there = [
                one
                for one in found
                if one.get("status", {}).get("podIP") and "deletionTimestamp" not in one["metadata"]
            ]
            if len(there) == len(found) == number:
                return self.pods(labels)
            assert time.monotonic() < until, f"{len(there)} of {number} pods"
            time.sleep(0.1)

    def replicas(self, name: str, wanted: int | None = None) -> Object:
        body = self.api.get(DEPLOYMENT, name, self.namespace)
        assert body is not None
        if wanted is not None:
            operations = [{"op": "replace", "path": "/spec/replicas", "value": wanted}]
            body = self.api.patch(DEPLOYMENT, name, self.namespace, operations)
        return body


@pytest.fixture
def shop(api: KubeApi, namespace: str, system: str, controllers: None) -> Shop:
    scene.furnish(api, namespace, sidecars=False)
    scene.subsets(api, namespace)
    return Shop(api, namespace)


@pytest.fixture
def node(api: KubeApi) -> Iterator[str]:
    """A node of this test's own."""
    name = f"node-{next(_KEYS)}-{int(time.time())}"
    api.apply(NODE, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    yield name
    api.delete(NODE, name)


def test_as_many_pods_are_killed_as_were_meant_and_no_others_however_often_it_is_asked(shop: Shop) -> None:
    shop.replicas("reviews-v1", 3)
    before = shop.ready(4)
    action, key = PodKill(count=2, arm="v1", grace=0), shop.key
    acted = shop.workloads.act(shop.target, action, key)
    assert acted.action == "podKill"
    assert acted.done.startswith("killed reviews-v1-")
    after = shop.ready(4)
    gone = before.keys() - after.keys()
    assert len(gone) == 2
    assert all(before[uid].startswith("reviews-v1-") for uid in gone)
    again = Workloads(shop.api).act(shop.target, action, key)  # another worker, which knows nothing
    assert again.done == acted.done
    assert shop.ready(4) == after
    assert shop.workloads.undo(shop.target, action, key).undone == ""
    shop.workloads.act(shop.target, PodKill(grace=0), shop.key)
    assert len(after.keys() - shop.ready(4).keys()) == 1


def test_a_death_between_two_pods_means_no_others(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.replicas("reviews-v1", 4)
    before = shop.ready(5)
    key, delete, calls = shop.key, shop.api.delete, itertools.count()

    def dies(resource: Resource, *given: object, **more: object) -> bool:
        if resource is POD and next(calls) == 1:
            raise MeshUnavailable("the worker is gone")
        return bool(delete(resource, *given, **more))  # type: ignore[arg-type]

    monkeypatch.setattr(shop.api, "delete", dies)
    with pytest.raises(MeshUnavailable):
        shop.workloads.act(shop.target, PodKill(count=3, arm="v1", grace=0), key)
    shop.ready(5)
    shop.workloads.act(shop.target, PodKill(count=3, arm="v1", grace=0), key)
    assert len(before.keys() - shop.ready(5).keys()) == 3


def test_more_pods_than_there_are_cannot_be_killed(shop: Shop) -> None:
    before = shop.ready(2)
    with pytest.raises(InvalidChange, match="has 1 ready pods, and the action would kill 2"):
        shop.workloads.act(shop.target, PodKill(count=2, arm="v2"), shop.key)
    with pytest.raises(InvalidChange, match="Service"):
        shop.workloads.act(shop.target, PodKill(arm="v9"), shop.key)
    assert shop.ready(2) == before


def test_what_actions_meant_is_forgotten_one_day(shop: Shop) -> None:
    for _ in range(3):
        shop.workloads.act(shop.target, PodKill(grace=0), shop.key)
        shop.ready(2)
    body = shop.api.get(CONFIG_MAP, "autopilot-actions", "autopilot")
    assert body is not None
    many = {
        **body["data"],
        **{f"k{number}": json.dumps({"key": "k", "time": number, "pods": []}) for number in range(200)},
    }
    shop.api.replace(CONFIG_MAP, {**body, "data": many})
    shop.workloads.act(shop.target, PodKill(grace=0), shop.key)
    shop.ready(2)
    after = shop.api.get(CONFIG_MAP, "autopilot-actions", "autopilot")
    assert after is not None
    assert len(after["data"]) == 100
    assert body["data"].keys() <= after["data"].keys()


def test_replicas_are_written_back_where_they_are_still_ours(shop: Shop) -> None:
    action, key = Scale(workload="deployment/reviews-v2", replicas=3), shop.key
    for _ in range(2):
        assert shop.workloads.act(shop.target, action, key).done == "set deployment/reviews-v2 from 1 replicas to 3"
    shop.ready(4)
    with pytest.raises(InvalidChange, match="scaled by another action"):
        shop.workloads.act(shop.target, action, shop.key)
    assert shop.workloads.undo(shop.target, action, shop.key).undone == ""  # of another key
    for wanted in ("set deployment/reviews-v2 back to 1 replicas", ""):
        assert shop.workloads.undo(shop.target, action, key).undone == wanted
    body = shop.replicas("reviews-v2")
    assert body["spec"]["replicas"] == 1
    assert SCALED not in (body["metadata"].get("annotations") or {})
    shop.ready(2)


def test_replicas_that_somebody_has_set_since_are_theirs(shop: Shop) -> None:
    action, key = Scale(workload="deployment/reviews-v2", replicas=0), shop.key
    shop.workloads.act(shop.target, action, key)
    shop.replicas("reviews-v2", 2)
    assert "somebody else has set that meanwhile" in shop.workloads.undo(shop.target, action, key).undone
    assert shop.replicas("reviews-v2")["spec"]["replicas"] == 2
    with pytest.raises(InvalidChange, match="has no deployment/none; it has reviews-v1, reviews-v2, web"):
        shop.workloads.act(shop.target, Scale(workload="deployment/none", replicas=0), key)


def test_a_node_is_let_go_again_by_whoever_took_it(shop: Shop, node: str) -> None:
    def schedulable() -> bool:
        body = shop.api.get(NODE, node)
        assert body is not None
        return not body["spec"].get("unschedulable")

    action, key = Cordon(node=node), shop.key
    for _ in range(2):
        assert shop.workloads.act(shop.target, action, key).done == f"cordoned {node}"
    assert not schedulable()
    other = shop.key
    assert "was cordoned already" in shop.workloads.act(shop.target, action, other).done
    assert shop.workloads.undo(shop.target, action, other).undone == ""
    assert not schedulable()
    assert shop.workloads.undo(shop.target, action, key).undone == f"uncordoned {node}"
    assert shop.workloads.undo(shop.target, action, key).undone == ""
    assert schedulable()
    shop.workloads.act(shop.target, action, key)
    shop.api.patch(NODE, node, None, [{"op": "remove", "path": "/spec/unschedulable"}])
    assert "somebody else has uncordoned it meanwhile" in shop.workloads.undo(shop.target, action, key).undone
    body = shop.api.get(NODE, node)
    assert body is not None
    assert CORDONED not in (body["metadata"].get("annotations") or {})
    with pytest.raises(InvalidChange, match="the cluster has no node none"):
        shop.workloads.act(shop.target, Cordon(node="none"), key)


async def test_a_drain_heeds_budgets_and_leaves_what_belongs_to_the_node(shop: Shop, node: str) -> None:
    def deploy(resource: Resource, name: str, **more: object) -> None:
        template = {
            "metadata": {"labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "app", "image": f"shop/{name}:v1"}]},
        }
        spec = {"selector": {"matchLabels": {"app": name}}, "template": template, **more}
        meta = {"name": name, "namespace": shop.namespace}
        shop.api.apply(resource, {"apiVersion": "apps/v1", "kind": resource.kind, "metadata": meta, "spec": spec})

    deploy(DEPLOYMENT, "free", replicas=2)
    deploy(DEPLOYMENT, "kept", replicas=1)
    # Its pods want a scheduler, which is not here: so one is put there by hand.
    deploy(DAEMON_SET, "agent")
    owner = shop.api.get(DAEMON_SET, "agent", shop.namespace)
    assert owner is not None
    owned = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": owner["metadata"]["uid"]}
    pod = {"name": "agent", "namespace": shop.namespace, "labels": {"app": "of-the-node"}, "ownerReferences": [owned]}
    stands = {"nodeName": node, "containers": [{"name": "app", "image": "shop/agent:v1"}]}
    shop.api.apply(POD, {"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": stands})
    meta = {"name": "kept", "namespace": shop.namespace}
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "kept"}}}
    shop.api.apply(BUDGET, {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": spec})
    free, kept, agent = [
        await asyncio.to_thread(shop.ready, number, f"app={name}")
        for name, number in (("free", 2), ("kept", 1), ("of-the-node", 1))
    ]
    action, key = Drain(node=node), shop.key
    with pytest.raises(MeshUnavailable, match=r"was not evicted from .* yet: .*disruption budget"):
        await asyncio.to_thread(shop.workloads.act, shop.target, action, key)
    again = await asyncio.to_thread(shop.ready, 2, "app=free")
    assert not free.keys() & again.keys()
    assert shop.pods("app=kept") == kept
    shop.api.delete(BUDGET, "kept", shop.namespace)
    acted = await asyncio.to_thread(shop.workloads.act, shop.target, action, key)
    assert acted.done.startswith(f"cordoned {node}; evicted ")
    assert shop.pods("app=free").keys() == again.keys()  # those that came later were not meant
    assert not kept.keys() & (await asyncio.to_thread(shop.ready, 1, "app=kept")).keys()
    assert shop.pods("app=of-the-node") == agent
    assert shop.workloads.undo(shop.target, action, key).undone == f"uncordoned {node}"


def bare_pod(name: str, app: str, node: str, **more: object) -> Object:
    """A pod that somebody made by hand."""
    meta = {"name": name, "labels": {"app": app, "version": "v1"}}
    spec = {"nodeName": node, "containers": [{"name": "app", "image": f"shop/{app}:v1"}], **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def put(shop: Shop, body: Object) -> None:
    shop.api.create(POD, {**body, "metadata": {**body["metadata"], "namespace": shop.namespace}})


async def test_a_drain_is_refused_before_the_cordon_where_pods_would_be_lost(
    shop: Shop, node: str, open_kube: Callable[..., KubeMesh]
) -> None:
    put(shop, bare_pod("migration-by-hand", "tool", node, volumes=[{"name": "data", "emptyDir": {}}]))
    before = await asyncio.to_thread(shop.ready, 1, "app=tool")
    mesh = open_kube("istio")
    action, key, lost = Drain(node=node), shop.key, f"{shop.namespace}/migration-by-hand"
    for refused in (action, action.model_copy(update={"force": True})):
        with pytest.raises(InvalidChange, match=lost):
            await mesh.check_action(shop.target, refused)  # what `plan` and `apply` say
        with pytest.raises(InvalidChange, match=lost):
            await asyncio.to_thread(shop.workloads.act, shop.target, refused, key)
    body = shop.api.get(NODE, node)
    assert body is not None
    assert not body["spec"].get("unschedulable")
    assert CORDONED not in (body["metadata"].get("annotations") or {})
    assert shop.pods("app=tool") == before
    meant = Drain(node=node, force=True, delete_empty_dir_data=True)
    await mesh.check_action(shop.target, meant)
    acted = await asyncio.to_thread(shop.workloads.act, shop.target, meant, key)
    assert acted.done == f"cordoned {node}; evicted {lost}"
    again = await asyncio.to_thread(Workloads(shop.api).act, shop.target, action, key)  # it was accepted: it goes on
    assert again.done == acted.done


def test_a_pod_without_a_controller_is_not_killed(shop: Shop) -> None:
    put(shop, bare_pod("by-hand", "reviews", NODE_NAME))
    before = shop.ready(3)
    with pytest.raises(InvalidChange, match=f"no controller would start {shop.namespace}/by-hand again"):
        shop.workloads.act(shop.target, PodKill(grace=0), shop.key)
    assert shop.ready(3) == before
    shop.workloads.act(shop.target, PodKill(arm="v2", grace=0), shop.key)
    assert len(before.keys() - shop.ready(3).keys()) == 1
    shop.workloads.act(shop.target, PodKill(arm="v1", count=2, grace=0, force=True), shop.key)
    assert "by-hand" not in shop.ready(2).values()


def test_the_mesh_offers_them(shop: Shop, open_kube: Callable[..., object]) -> None:
    mesh = open_kube("istio")
    assert isinstance(getattr(mesh, "workloads", None), Workloads)
