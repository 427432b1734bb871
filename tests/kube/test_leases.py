"""Leases, overlays and other people's edits, on routes of a real API server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autopilot.mesh.errors import InvalidChange, LeaseHeld, LeaseLost, TakenOver
from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.client.resources import HTTP_ROUTE, LEASE
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.kube.routes.weight_patch import PREFIX
from autopilot.mesh.model import Aspect, SplitTraffic, Target
from tests.kube.world import ME, World
from tests.lab import scene


async def test_what_is_there_is_seen(world: World) -> None:
    state = await world.mesh.observe(world.target)
    weights = {arm.name: (arm.base_weight, len(arm.endpoints)) for arm in state.arms}
    assert weights == {world.stable: (100.0, 1), world.canary: (0.0, 1)}
    with pytest.raises(InvalidChange, match="no Service nothing"):
        await world.mesh.observe(world.target.model_copy(update={"service": "nothing"}))


async def test_planning_shows_the_servers_own_answer_and_writes_nothing(world: World) -> None:
    before = world.route()
    plan = await world.mesh.plan(world.target, world.split(5))
    assert "-" in plan.diff
    assert "weight: 95" in plan.diff
    assert "weight: 5\n" in plan.diff + "\n"
    after = world.route()
    assert (after["spec"], after["metadata"].get("annotations")) == (before["spec"], None)


async def test_a_lift_gives_back_exactly_what_was_there(world: World) -> None:
    before = world.route()
    lease = await world.take()
    for weight, written in ((5, [95, 5]), (12.5, [875, 125]), (100, [0, 100])):
        await world.mesh.apply(lease, world.split(weight), ME)
        assert world.written() == written
    state = await world.mesh.observe(world.target)
    assert {arm.name: (arm.weight, arm.base_weight) for arm in state.arms} == {
        world.stable: (0.0, 100.0),
        world.canary: (100.0, 0.0),
    }
    assert [one.lease for one in await world.mesh.leases() if one.lease.target == world.target] == [lease]
    await world.mesh.lift(lease, ME)
    after = world.route()
    assert after["spec"] == before["spec"]
    assert after["metadata"].get("annotations") == before["metadata"].get("annotations")
    assert [one for one in await world.mesh.leases() if one.lease.target == world.target] == []
    assert await world.mesh.lift(lease, ME) is None


async def test_a_commit_stays_and_leaves_no_mark(world: World) -> None:
    lease = await world.take()
    await world.mesh.apply(lease, world.split(100), ME)
    assert await world.mesh.commit(lease, ME) is not None
    assert await world.mesh.commit(lease, ME) is None
    assert world.written() == [0, 100]
    assert "annotations" not in world.route()["metadata"]
    with pytest.raises(LeaseLost):
        await world.mesh.apply(lease, world.split(50), ME)


async def test_one_holder_at_a_time_and_the_same_run_gets_its_own_again(world: World) -> None:
    lease = await world.take()
    assert await world.take() == lease
    with pytest.raises(LeaseHeld, match="canary/lab/test/reviews"):
        await world.take("canary/lab/test/other")
    await world.mesh.apply(lease, world.split(20), ME)
    later = await world.take(token="another run")
    assert later.holder.fencing == lease.holder.fencing + 1
    assert world.written() == [100, 0]
    with pytest.raises(LeaseLost):
        await world.mesh.apply(lease, world.split(30), ME)
    assert world.written() == [100, 0]


async def test_edits_beside_ours_are_kept(world: World) -> None:
    lease = await world.take()
    await world.mesh.apply(lease, world.split(10), ME)
    rules = "/spec/http/0" if world.provider == "istio" else "/spec/rules/0"
    host = {"destination": {"host": "reviews", "subset": "v1"}}
    backend = {"name": "reviews-v1", "port": 80}
    theirs = (
        {"name": "theirs", "match": [{"uri": {"prefix": "/theirs"}}], "route": [host]}
        if world.provider == "istio"
        else {"matches": [{"path": {"type": "PathPrefix", "value": "/theirs"}}], "backendRefs": [backend]}
    )
    world.edit(
        {"op": "add", "path": "/metadata/labels", "value": {"team": "shop"}},
        {"op": "add", "path": rules, "value": theirs},
    )
    await world.mesh.apply(lease, world.split(25), ME)
    assert world.written() == [75, 25]
    await world.mesh.renew(lease)
    await world.mesh.lift(lease, ME)
    assert world.written() == [100, 0]
    body = world.route()
    assert body["metadata"]["labels"] == {"team": "shop"}
    first = (body["spec"].get("http") or body["spec"].get("rules"))[0]
    assert first.get("name") == "theirs" or first["matches"][0]["path"]["value"] == "/theirs"


async def test_weights_that_somebody_else_set_are_theirs(world: World) -> None:
    lease = await world.take()
    await world.mesh.apply(lease, world.split(10), ME)
    world.edit({"op": "replace", "path": f"{world.place}/1/weight", "value": 60})
    with pytest.raises(TakenOver, match="those changes were kept"):
        await world.mesh.renew(lease)
    with pytest.raises(TakenOver):
        await world.mesh.apply(lease, world.split(20), ME)
    receipt = await world.mesh.lift(lease, ME)
    assert receipt is not None
    assert "weights that somebody else set" in receipt.notes[0]
    assert world.written() == [90, 60]
    assert "annotations" not in world.route()["metadata"]


async def test_what_a_gitops_tool_wrote_back_is_laid_again(world: World) -> None:
    before = world.route()
    lease = await world.take()
    await world.mesh.apply(lease, world.split(10), ME)
    world.edit({"op": "replace", "path": "/spec", "value": before["spec"]})
    await world.mesh.renew(lease)
    assert world.written() == [90, 10]
    # `kubectl replace` takes the mark away as well
    world.edit(
        {"op": "replace", "path": "/spec", "value": before["spec"]}, {"op": "remove", "path": "/metadata/annotations"}
    )
    await world.mesh.renew(lease)
    assert world.written() == [90, 10]
    await world.mesh.lift(lease, ME)
    assert world.route()["spec"] == before["spec"]


async def test_a_guard_takes_away_what_no_lease_stands_behind(world: World) -> None:
    lease = await world.take()
    await world.mesh.apply(lease, world.split(40), ME)
    world.api.delete(LEASE, "autopilot.reviews", world.namespace)
    done = await world.open(world.provider).sweep()
    assert any("had no lease any more" in sentence for sentence in done)
    assert world.written() == [100, 0]
    assert PREFIX + "reviews" not in (world.route()["metadata"].get("annotations") or {})


async def test_a_target_without_a_route_gets_one_for_as_long_as_it_is_operated_on(
    api: KubeApi, namespace: str, open_kube: Callable[..., KubeMesh]
) -> None:
    scene.furnish(api, namespace, sidecars=False)
    mesh = open_kube("gateway_api")
    target = Target(mesh="lab", namespace=namespace, service="reviews")
    lease = await mesh.acquire(target, [Aspect.TRAFFIC], operation="canary/a/b/c", token="run", ttl=60)
    await mesh.apply(lease, [SplitTraffic(weights={"reviews-v1": 90, "reviews-v2": 10})])
    await mesh.apply(lease, [SplitTraffic(weights={"reviews-v1": 50, "reviews-v2": 50})])
    (made,) = api.list(HTTP_ROUTE, namespace)
    assert [one["weight"] for one in made["spec"]["rules"][0]["backendRefs"]] == [50, 50]
    await mesh.lift(lease)
    assert api.list(HTTP_ROUTE, namespace) == []
