"""Faults in an Istio mesh: real sidecars, real requests, and everybody else's edits.

`ratings` for the user jason is the example of Istio's own documentation: a delay of 7 s there, a shorter one here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from autopilot.mesh.errors import InvalidChange, LeaseLost, TakenOver
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import LEASE, NETWORK_POLICY, SERVICE, VIRTUAL_SERVICE
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.kube.routes import fault_marks
from autopilot.mesh.model import Aspect, InjectFault, Tier
from autopilot.spec.chaos.faults import (
    Abort,
    Bandwidth,
    Blackhole,
    Delay,
    Fault,
    GrpcAbort,
    Partition,
    Retries,
    Timeout,
)
from autopilot.spec.chaos.scope import Cookie, HeaderMatch, PathMatch, Scope, Source
from tests.kube.ratings import EVERYBODY, JASON, USER, Ratings, each_fault, ratings_on, same
from tests.kube.world import ME, World
from tests.lab import scene
from tests.lab.find import Cluster

pytestmark = [pytest.mark.timeout(120)]


@pytest_asyncio.fixture
async def ratings(
    api: KubeApi, namespace: str, lab: Cluster, open_kube: Callable[..., KubeMesh]
) -> AsyncIterator[Ratings]:
    async with ratings_on(api, namespace, open_kube("istio"), Ratings) as one:
        yield one


# Who meets them


@pytest.mark.e2e
@each_fault
async def test_istios_own_example_meets_jason_and_nobody_else(ratings: Ratings, fault: Fault, wanted: str) -> None:
    if isinstance(fault, Retries):
        retries = {"attempts": 2, "retryOn": "5xx"}
        ratings.edit({"op": "add", "path": "/spec/http/1/retries", "value": retries})
        await ratings.behave(first_tries=1.0)
        await ratings.nobody()
    before = ratings.route()
    plan = await ratings.mesh.plan(ratings.target, [InjectFault(fault=fault, scope=JASON)])
    assert plan.tier is Tier.GUARD
    assert "end-user" in plan.diff
    assert same(ratings.route(), before)
    lease = await ratings.take()
    if isinstance(fault, Timeout):
        await ratings.behave(delay=0.4)
    await ratings.lay(lease, (fault, JASON))
    await ratings.nobody_but_jason(wanted)
    (status,) = [one for one in await ratings.mesh.leases() if one.lease == lease]
    assert (status.tier, status.deadline) == (Tier.GUARD, None)
    await ratings.mesh.renew(lease)
    assert len(fault_marks.rules_of(ratings.route())) == 4  # a copy of each rule: jason may be a tester too
    await ratings.mesh.lift(lease, ME)
    await ratings.nobody()
    assert same(ratings.route(), before)


@pytest.mark.e2e
async def test_a_share_of_all_requests_is_one_field_of_each_rule(ratings: Ratings) -> None:
    before = ratings.route()
    lease = await ratings.take()
    await ratings.lay(lease, (Abort(status=503), Scope(percentage=50)))
    rules = fault_marks.rules_of(ratings.route())
    assert [rule["fault"]["abort"]["percentage"] for rule in rules] == [{"value": 50}] * 2
    await ratings.share("503", 0.5, 400)
    await ratings.lay(lease, (GrpcAbort(code=14), JASON))  # another step, in place of the one before
    await ratings.until({}, "200")
    async with asyncio.timeout(10):
        while await ratings.grpc_status(USER) != "14":
            pass
    assert await ratings.grpc_status({}) is None
    await ratings.lay(lease)
    await ratings.nobody()
    assert same(ratings.route(), before)
    await ratings.mesh.lift(lease, ME)


@pytest.mark.e2e
async def test_paths_methods_and_rules_are_told_apart(ratings: Ratings) -> None:
    before = ratings.route()
    lease = await ratings.take()
    exact = Scope(path=PathMatch(exact="/api/pay"), method="GET")
    posted = Scope(path=PathMatch(prefix="/api/"), method="POST")
    await ratings.lay(lease, (Abort(status=501), exact), (Delay(delay=1), posted))
    ratings.path = "/api/pay?x=1"
    await ratings.until({}, "501")
    for path in ("/api/pay/7", "/api/paying", "/", "/?p=/api/pay"):
        ratings.path = path
        await ratings.all({}, "200")
    await ratings.lay(lease, (Abort(status=502), Scope(rule="testers")))
    await ratings.until({"x-tester": "yes"}, "502")
    await ratings.all({}, "200")
    with pytest.raises(InvalidChange, match="these do: testers, everybody"):
        await ratings.lay(lease, (Abort(), Scope(rule="nobody")))
    await ratings.mesh.lift(lease, ME)
    await ratings.nobody()
    assert same(ratings.route(), before)


@pytest.mark.e2e
async def test_istio_takes_the_rewrite_of_a_narrower_path(ratings: Ratings) -> None:
    rewrites = [{"op": "add", "path": f"/spec/http/{rule}/rewrite", "value": {"uri": "/_shop/"}} for rule in (0, 1)]
    ratings.edit(*rewrites)
    plan = [InjectFault(fault=Delay(delay=1), scope=Scope(path=PathMatch(prefix="/a/")))]
    assert "uri: /_shop/a/" in (await ratings.mesh.plan(ratings.target, plan)).diff


@pytest.mark.e2e
async def test_a_host_outside_the_cluster_fails_for_a_while(ratings: Ratings) -> None:
    namespace, host = ratings.target.namespace, "api.payments.example"
    scene.service_entry(ratings.api, namespace, host, "ratings")
    ratings.host = host
    ratings.target = ratings.target.model_copy(update={"service": host})
    await ratings.until({}, "200")
    lease = await ratings.take()
    await ratings.lay(lease, (Abort(status=500), Scope(path=PathMatch(prefix="/v1/charges"))))
    made = ratings.api.get(VIRTUAL_SERVICE, f"autopilot-fault-{host}", namespace)
    assert made is not None
    ratings.path = "/v1/charges"
    await ratings.until({}, "500")
    ratings.path = "/v1/refunds"
    await ratings.all({}, "200")
    await ratings.mesh.renew(lease)
    await ratings.mesh.lift(lease, ME)
    assert ratings.api.get(VIRTUAL_SERVICE, f"autopilot-fault-{host}", namespace) is None
    ratings.path = "/v1/charges"
    await ratings.until({}, "200")


@pytest.mark.e2e
async def test_callers_and_cookies_are_told_apart(ratings: Ratings) -> None:
    for name in ("web", "job"):
        spec = {"selector": {"app": name}, "ports": [{"port": 80}]}
        meta = {"name": name, "namespace": ratings.target.namespace}
        ratings.api.create(SERVICE, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
    lease = await ratings.take()
    web, job = (Scope(source=Source(service=name)) for name in ("web", "job"))
    session = Scope(cookie=Cookie(name="session", value="abc"))
    await ratings.lay(lease, (Delay(delay=1), job), (Abort(status=501), session))
    await ratings.until({"cookie": "a=b; session=abc"}, "501")
    assert set(await ratings.met({"cookie": "session=abcd"})) == set(await ratings.met({})) == {"200"}
    await ratings.lay(lease, (Abort(status=500), web))
    await ratings.until({}, "500")
    some = Scope(headers={"end-user": HeaderMatch(prefix="ja"), "x-a": HeaderMatch(present=True)}, source=web.source)
    others = Scope(headers={"end-user": HeaderMatch(prefix="b"), "x-b": HeaderMatch(regex="b+")})
    await ratings.lay(lease, (Abort(status=502), some), (Abort(status=504), others))
    await ratings.until({**USER, "x-a": ""}, "502")
    assert set(await ratings.met({"end-user": "bob", "x-b": "bbb"})) == {"504"}
    for headers in (USER, {"x-a": "1"}, {"end-user": "bob"}, {"end-user": "bob", "x-b": "bbc"}):
        assert set(await ratings.met(headers)) == {"200"}
    with pytest.raises(InvalidChange, match="web has no arm v9"):
        await ratings.lay(lease, (Abort(), Scope(source=Source(service="web", arm="v9"))))
    await ratings.mesh.lift(lease, ME)
    await ratings.nobody()


@pytest.mark.e2e
async def test_a_service_without_a_route_has_one_while_faults_are_laid(ratings: Ratings) -> None:
    namespace = ratings.target.namespace
    ratings.api.delete(VIRTUAL_SERVICE, "ratings", namespace)
    await ratings.until({}, "200")
    lease = await ratings.take()
    await ratings.lay(lease, (Abort(status=500), JASON))
    await ratings.nobody_but_jason("500")
    state = await ratings.mesh.observe(ratings.target)
    assert {arm.name for arm in state.arms} == {"v1", "v2"}
    await ratings.mesh.renew(lease)
    scene.virtual_service(ratings.api, namespace, "ratings", v1=100, v2=0)  # somebody writes one meanwhile
    await ratings.mesh.renew(lease)
    assert len(ratings.api.list(VIRTUAL_SERVICE, namespace)) == 1
    await ratings.nobody_but_jason("500")
    ratings.api.delete(VIRTUAL_SERVICE, "ratings", namespace)
    await ratings.mesh.renew(lease)
    await ratings.mesh.lift(lease, ME)
    assert ratings.api.list(VIRTUAL_SERVICE, namespace) == []
    await ratings.nobody()


# Who goes back


@pytest.mark.e2e
async def test_when_the_worker_is_dead_a_guard_restores(ratings: Ratings, open_kube: Callable[..., KubeMesh]) -> None:
    before = ratings.route()
    lease = await ratings.take(ttl=1.0)
    await ratings.lay(lease, (Abort(status=500), JASON))
    await ratings.nobody_but_jason("500")
    guard, began = open_kube("istio"), time.monotonic()
    guard.sweep_every = 0.2
    while not same(ratings.route(), before):
        await guard.sweep()
        assert time.monotonic() - began < 10
        await asyncio.sleep(0.2)
    print(f"restored {time.monotonic() - began:.2f} s after the guard came up")
    await ratings.nobody()
    with pytest.raises(LeaseLost):
        await ratings.mesh.renew(lease)
    with pytest.raises(LeaseLost):
        await ratings.mesh.apply(lease, [InjectFault(fault=Abort(), scope=JASON)], ME)
    assert same(ratings.route(), before)


async def test_a_later_holder_wins_and_what_has_no_lease_is_swept(
    ratings: Ratings, open_kube: Callable[..., KubeMesh]
) -> None:
    before = ratings.route()
    lease = await ratings.take()
    await ratings.lay(lease, (Abort(status=500), JASON))
    late = ratings.mesh.ledger.faults
    await ratings.mesh.lift(lease, ME)
    again = await ratings.take(operation="chaos/lab/test/y")
    await ratings.lay(again, (Delay(delay=1), EVERYBODY))
    said = ratings.route()["spec"]
    with pytest.raises(LeaseLost, match="has laid a later overlay"):
        late.lay(ratings.target, lease.holder, [InjectFault(fault=Abort(), scope=JASON)], 0.0)
    late.take_away(ratings.target, lease.holder.fencing)
    assert ratings.route()["spec"] == said
    ratings.api.delete(LEASE, "autopilot.ratings", ratings.target.namespace)
    done = await open_kube("istio").sweep()
    assert any("had no lease any more" in sentence for sentence in done)
    assert same(ratings.route(), before)


# Other people's edits


@pytest.mark.e2e
async def test_the_copies_follow_weights_that_somebody_sets_meanwhile(ratings: Ratings) -> None:
    lease = await ratings.take()
    await ratings.lay(lease, (Delay(delay=1), JASON))
    at = [index for index, rule in enumerate(fault_marks.rules_of(ratings.route())) if len(rule["route"]) > 1]
    (copied, theirs) = at
    ratings.edit(
        {"op": "replace", "path": f"/spec/http/{theirs}/route/0/weight", "value": 0},
        {"op": "replace", "path": f"/spec/http/{theirs}/route/1/weight", "value": 100},
        {"op": "add", "path": "/metadata/labels", "value": {"team": "shop"}},
    )
    await ratings.mesh.renew(lease)
    rules = fault_marks.rules_of(ratings.route())
    assert [one["weight"] for one in rules[copied]["route"]] == [0, 100]
    assert rules[copied]["route"] == rules[theirs]["route"]
    await ratings.nobody_but_jason("200 slow")
    receipt = await ratings.mesh.lift(lease, ME)
    assert receipt is not None
    assert receipt.notes == ()
    body = ratings.route()
    assert [one["weight"] for one in fault_marks.rules_of(body)[1]["route"]] == [0, 100]
    assert body["metadata"]["labels"] == {"team": "shop"}
    assert "annotations" not in body["metadata"]


@pytest.mark.parametrize("scope", [JASON, EVERYBODY], ids=["a user", "everybody"])
async def test_what_a_gitops_tool_wrote_back_is_laid_again(ratings: Ratings, scope: Scope) -> None:
    before = ratings.route()
    lease = await ratings.take()
    await ratings.lay(lease, (Abort(status=500), scope))
    said = ratings.route()["spec"]
    ratings.edit({"op": "replace", "path": "/spec", "value": before["spec"]})
    await ratings.mesh.renew(lease)
    assert ratings.route()["spec"] == said
    # `kubectl replace` takes the mark away as well
    ratings.edit(
        {"op": "replace", "path": "/spec", "value": before["spec"]}, {"op": "remove", "path": "/metadata/annotations"}
    )
    await ratings.mesh.renew(lease)
    assert ratings.route()["spec"] == said
    # somebody who takes the mark away alone
    ratings.edit({"op": "remove", "path": "/metadata/annotations"})
    await ratings.mesh.renew(lease)
    await ratings.mesh.lift(lease, ME)
    assert same(ratings.route(), before)
    records = await ratings.mesh.audit()
    assert any(
        "the faults were written again" in record.actor.why
        for record in records
        if record.target == str(ratings.target)
    )


async def test_a_fault_of_the_users_is_never_overwritten(ratings: Ratings) -> None:
    theirs = {"abort": {"httpStatus": 418, "percentage": {"value": 0.1}}}
    ratings.edit({"op": "add", "path": "/spec/http/1/fault", "value": theirs})
    lease = await ratings.take()
    for scope in (JASON, EVERYBODY):
        with pytest.raises(InvalidChange, match="rule everybody already has a fault"):
            await ratings.lay(lease, (Delay(delay=1), scope))
    ratings.edit({"op": "remove", "path": "/spec/http/1/fault"})
    await ratings.lay(lease, (Delay(delay=1), JASON))
    index = len(fault_marks.rules_of(ratings.route())) - 1
    ratings.edit({"op": "add", "path": f"/spec/http/{index}/fault", "value": theirs})
    with pytest.raises(TakenOver, match="already has a fault"):
        await ratings.mesh.renew(lease)
    await ratings.mesh.lift(lease, ME)
    assert [rule.get("fault") for rule in fault_marks.rules_of(ratings.route())] == [None, theirs]


@pytest.mark.e2e
async def test_a_version_can_be_meant_while_it_has_all_requests_of_a_rule(ratings: Ratings) -> None:
    lease = await ratings.take()
    with pytest.raises(InvalidChange, match="has no arm v9; it has v1, v2"):
        await ratings.lay(lease, (Abort(status=500), Scope(arm="v9")))
    await ratings.lay(lease, (Abort(status=500), Scope(arm="v1")))
    await ratings.until({}, "500")
    assert set(await ratings.met({"x-tester": "yes"})) == {"200"}
    shared = [{"op": "replace", "path": f"/spec/http/1/route/{index}/weight", "value": 50} for index in (0, 1)]
    ratings.edit(*shared)
    with pytest.raises(TakenOver, match="gives v1 50 %"):
        await ratings.mesh.renew(lease)
    await ratings.mesh.lift(lease, ME)
    _, everybody = fault_marks.rules_of(ratings.route())
    assert "fault" not in everybody
    assert [one["weight"] for one in everybody["route"]] == [50, 50]
    with pytest.raises(InvalidChange, match="gives v1 50 %"):
        await ratings.lay(await ratings.take(), (Abort(status=500), Scope(arm="v1")))


async def test_a_fault_that_somebody_else_has_changed_is_theirs(ratings: Ratings) -> None:
    lease = await ratings.take()
    await ratings.lay(lease, (Delay(delay=1), EVERYBODY))
    ratings.edit({"op": "replace", "path": "/spec/http/1/fault/delay/fixedDelay", "value": "3s"})
    with pytest.raises(TakenOver, match="those changes were kept"):
        await ratings.mesh.renew(lease)
    receipt = await ratings.mesh.lift(lease, ME)
    assert receipt is not None
    assert "rule everybody: fault was changed by somebody else, so it was kept" in receipt.notes[0]
    testers, everybody = fault_marks.rules_of(ratings.route())
    assert "fault" not in testers
    assert everybody["fault"]["delay"]["fixedDelay"] == "3s"


# What is refused


async def test_faults_are_never_committed(ratings: Ratings) -> None:
    lease = await ratings.take()
    await ratings.lay(lease, (Delay(delay=1), JASON))
    with pytest.raises(InvalidChange, match="cannot be committed"):
        await ratings.mesh.commit(lease, ME)
    await ratings.mesh.lift(lease, ME)


async def test_what_a_provider_cannot_say_is_refused_with_what_comes_nearest(world: World) -> None:
    lease = await world.mesh.acquire(world.target, [Aspect.FAULTS], operation="chaos/a/b/c", token="run", ttl=60)
    before = world.route()
    refused: list[tuple[Fault, str]] = [(Bandwidth(limit=10), "delay"), (Blackhole(), "partition")]
    if world.provider != "istio":
        refused = [(Abort(), "a version of the service that behaves so"), (Blackhole(), "partition")]
    for fault, nearest in refused:
        changes = [InjectFault(fault=fault, scope=JASON)]
        with pytest.raises(InvalidChange, match=f"nearest: .*{nearest}"):
            await world.mesh.plan(world.target, changes)
        with pytest.raises(InvalidChange, match=f"nearest: .*{nearest}"):
            await world.mesh.apply(lease, changes, ME)
    with pytest.raises(InvalidChange, match=r"scope\.headers: a partition"):
        await world.mesh.apply(lease, [InjectFault(fault=Partition(), scope=JASON)], ME)
    with pytest.raises(InvalidChange, match=r"has no (arm|Service|version) "):
        await world.mesh.apply(
            lease, [InjectFault(fault=Abort() if world.provider == "istio" else Partition(), scope=Scope(arm="v9"))], ME
        )
    await world.mesh.lift(lease, ME)
    assert same(world.route(), before)


# Partitions


async def test_a_partition_is_an_object_of_our_own(world: World, open_kube: Callable[..., KubeMesh]) -> None:
    def policies() -> list[Object]:
        return world.api.list(NETWORK_POLICY, world.namespace)

    before = world.route()
    cut = [
        InjectFault(fault=Partition()),
        InjectFault(fault=Partition(direction="egress"), scope=Scope(arm=world.canary)),
    ]
    assert "policyTypes" in (await world.mesh.plan(world.target, cut)).diff
    assert policies() == []
    lease = await world.mesh.acquire(world.target, [Aspect.FAULTS], operation="chaos/a/b/c", token="run", ttl=1)
    await world.mesh.apply(lease, cut, ME)
    one, two = sorted(policies(), key=lambda body: str(body["metadata"]["name"]))
    assert one["spec"] == {"podSelector": {"matchLabels": {"app": "reviews"}}, "policyTypes": ["Ingress"]}
    assert two["spec"]["podSelector"] == {"matchLabels": {"app": "reviews", "version": "v2"}}
    labels = one["metadata"]["labels"]
    assert labels["meshautopilot.io/fencing"] == str(lease.holder.fencing)
    assert float(labels["meshautopilot.io/deadline"]) > time.time() - 1
    world.api.delete(NETWORK_POLICY, one["metadata"]["name"], world.namespace)
    await world.mesh.renew(lease)
    assert len(policies()) == 2
    await world.mesh.apply(lease, cut[:1], ME)
    assert len(policies()) == 1
    guard = open_kube(world.provider)  # nobody renews any more
    guard.sweep_every = 0.2
    async with asyncio.timeout(10):
        while policies():
            await guard.sweep()
            await asyncio.sleep(0.2)
    # a late write of a holder that is gone
    world.mesh.ledger.faults.lay(world.target, lease.holder, cut[:1], 0.0)
    assert len(policies()) == 1
    done = await open_kube(world.provider).sweep()
    assert any("NetworkPolicy" in sentence and "had no lease any more" in sentence for sentence in done)
    assert policies() == []
    assert same(world.route(), before)


async def test_a_partition_that_another_policy_would_undo_is_refused(world: World) -> None:
    meta = {"name": "theirs", "namespace": world.namespace}
    spec = {
        "podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["reviews"]}]},
        "policyTypes": ["Ingress"],
        "ingress": [{}],
    }
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
    world.api.create(NETWORK_POLICY, body)
    with pytest.raises(InvalidChange, match="theirs allows ingress for pods"):
        await world.mesh.plan(world.target, [InjectFault(fault=Partition())])
    await world.mesh.plan(world.target, [InjectFault(fault=Partition(direction="egress"))])
