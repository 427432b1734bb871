"""TrafficSplits on a real API server; nobody here acts on them, so what counts is what is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from autopilot.mesh.errors import InvalidChange, TakenOver
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import CRD, TRAFFIC_SPLIT
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.kube.routes.weight_patch import marks_of
from autopilot.mesh.model import Aspect, Lease, SplitTraffic, Target
from tests.lab import scene
from tests.lab.cluster import install_crds

NAME = f"{TRAFFIC_SPLIT.plural}.{TRAFFIC_SPLIT.group}"
DEFINITION: Object = {
    "apiVersion": CRD.api_version,
    "kind": CRD.kind,
    "metadata": {"name": NAME},
    "spec": {
        "group": TRAFFIC_SPLIT.group,
        "scope": "Namespaced",
        "names": {"kind": TRAFFIC_SPLIT.kind, "plural": TRAFFIC_SPLIT.plural, "singular": "trafficsplit"},
        "versions": [
            {
                "name": TRAFFIC_SPLIT.version,
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def splits(api: KubeApi) -> Iterator[None]:
    """The definition, for as long as these tests take: others want to see that it is missing."""
    if api.get(CRD, NAME) is not None:
        yield  # the cluster's own
        return
    install_crds(api, [DEFINITION])
    yield
    api.delete(CRD, NAME)


class World:
    """The shop, and whoever splits its traffic."""

    def __init__(self, api: KubeApi, namespace: str, mesh: KubeMesh) -> None:
        self.api, self.namespace, self.mesh = api, namespace, mesh
        self.target = Target(mesh="lab", namespace=namespace, service="reviews")

    def create(self, **weights: int | None) -> Object:
        """A TrafficSplit as a user would write it (`_` stands for a dash)."""
        backends = [
            {"service": arm.replace("_", "-")} | ({} if weight is None else {"weight": weight})
            for arm, weight in weights.items()
        ]
        body = {
            "apiVersion": TRAFFIC_SPLIT.api_version,
            "kind": TRAFFIC_SPLIT.kind,
            "metadata": {"name": "reviews", "namespace": self.namespace, "annotations": {"team": "shop"}},
            "spec": {"service": "reviews", "backends": backends},
        }
        return self.api.create(TRAFFIC_SPLIT, body)

    def split(self) -> Object:
        found = self.api.get(TRAFFIC_SPLIT, "reviews", self.namespace)
        assert found is not None
        return found

    def written(self) -> dict[str, int | None]:
        return {one["service"]: one.get("weight") for one in self.split()["spec"]["backends"]}

    def edit(self, *operations: dict[str, Any]) -> None:
        self.api.patch(TRAFFIC_SPLIT, "reviews", self.namespace, operations)

    async def take(self) -> Lease:
        return await self.mesh.acquire(
            self.target, [Aspect.TRAFFIC], operation="canary/lab/test/reviews", token="run", ttl=60
        )


@pytest.fixture
def world(splits: None, api: KubeApi, namespace: str, open_kube: Callable[..., KubeMesh]) -> World:
    scene.furnish(api, namespace, sidecars=False)
    return World(api, namespace, open_kube("smi"))


def canary(weight: float) -> list[SplitTraffic]:
    return [SplitTraffic(weights={"reviews-v1": 100 - weight, "reviews-v2": weight})]


async def seen(world: World) -> dict[str, tuple[float, float, int]]:
    """Arm → weight now, weight when nobody operates, and how many answer for it."""
    state = await world.mesh.observe(world.target)
    return {arm.name: (arm.weight, arm.base_weight, len(arm.endpoints)) for arm in state.arms}


async def test_a_split_is_seen_laid_over_and_given_back(world: World) -> None:
    before = world.create(reviews_v1=100, reviews_v2=0)
    assert await seen(world) == {"reviews-v1": (100.0, 100.0, 1), "reviews-v2": (0.0, 0.0, 1)}
    plan = await world.mesh.plan(world.target, canary(5))
    assert "weight: 5\n" in plan.diff + "\n"
    assert world.split() == before
    lease = await world.take()
    for weight, written in ((5, (95, 5)), (12.5, (875, 125)), (0.01, (9999, 1))):
        await world.mesh.verify(await world.mesh.apply(lease, canary(weight)))
        assert tuple(world.written().values()) == written
    assert await seen(world) == {"reviews-v1": (99.99, 100.0, 1), "reviews-v2": (0.01, 0.0, 1)}
    await world.mesh.lift(lease)
    after = world.split()
    assert (after["spec"], after["metadata"]["annotations"]) == (before["spec"], before["metadata"]["annotations"])


async def test_a_backend_that_was_not_listed_is_taken_out_again(world: World) -> None:
    before = world.create(reviews_v1=None)
    lease = await world.take()
    strange = SplitTraffic(weights={"reviews-v1": 90, "reviews-v3": 10})
    with pytest.raises(InvalidChange, match=r"has no arm reviews-v3: .* has no Service of that name"):
        await world.mesh.apply(lease, [strange])
    await world.mesh.apply(lease, canary(10))
    assert world.written() == {"reviews-v1": 90, "reviews-v2": 10}
    world.edit({"op": "add", "path": "/metadata/labels", "value": {"team": "shop"}})
    await world.mesh.lift(lease)
    assert world.written() == {"reviews-v1": None}
    assert world.split()["metadata"]["labels"] == {"team": "shop"}
    assert world.split()["spec"]["service"] == before["spec"]["service"]


async def test_a_commit_stays(world: World) -> None:
    world.create(reviews_v1=100, reviews_v2=0)
    lease = await world.take()
    await world.mesh.apply(lease, canary(100))
    assert await world.mesh.commit(lease) is not None
    assert world.written() == {"reviews-v1": 0, "reviews-v2": 100}
    assert world.split()["metadata"]["annotations"] == {"team": "shop"}
    assert [one for one in await world.mesh.leases() if one.lease.target == world.target] == []


async def test_weights_of_others_are_theirs(world: World) -> None:
    world.create(reviews_v1=100, reviews_v2=0)
    lease = await world.take()
    await world.mesh.apply(lease, canary(10))
    world.edit({"op": "replace", "path": "/spec/backends/1/weight", "value": 60})
    with pytest.raises(TakenOver, match="those changes were kept"):
        await world.mesh.renew(lease)
    receipt = await world.mesh.lift(lease)
    assert receipt is not None
    assert "weights that somebody else set (reviews-v1 90, reviews-v2 60)" in receipt.notes[0]
    assert world.written() == {"reviews-v1": 90, "reviews-v2": 60}
    assert marks_of(world.split()) == []


async def test_a_backend_of_others_stays_and_ours_are_given_back(world: World) -> None:
    world.create(reviews_v1=100, reviews_v2=0)
    lease = await world.take()
    await world.mesh.apply(lease, canary(10))
    world.edit({"op": "add", "path": "/spec/backends/-", "value": {"service": "theirs", "weight": 7}})
    await world.mesh.apply(lease, canary(20))
    assert world.written() == {"reviews-v1": 80, "reviews-v2": 20, "theirs": 7}
    await world.mesh.lift(lease)
    assert world.written() == {"reviews-v1": 100, "reviews-v2": 0, "theirs": 7}


async def test_a_split_that_others_give_another_root_is_given_its_weights_back(world: World) -> None:
    world.create(reviews_v1=100, reviews_v2=0)
    lease = await world.take()
    await world.mesh.apply(lease, canary(10))
    world.edit({"op": "replace", "path": "/spec/service", "value": "web"})
    await world.mesh.renew(lease)
    await world.mesh.lift(lease)
    assert world.written() == {"reviews-v1": 100, "reviews-v2": 0}
    assert world.split()["spec"]["service"] == "web"
    assert world.split()["metadata"]["annotations"] == {"team": "shop"}


async def test_a_service_without_a_split_gets_one_for_as_long_as_it_is_operated_on(world: World) -> None:
    lease = await world.take()
    await world.mesh.apply(lease, canary(10))
    (made,) = world.api.list(TRAFFIC_SPLIT, world.namespace)
    assert made["spec"]["service"] == "reviews"
    assert [one["weight"] for one in made["spec"]["backends"]] == [90, 10]
    await world.mesh.lift(lease)
    assert world.api.list(TRAFFIC_SPLIT, world.namespace) == []
