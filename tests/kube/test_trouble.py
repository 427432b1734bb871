"""An API server in trouble: what people are told, and what stands in the cluster during and after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from autopilot.mesh.errors import MeshUnavailable
from autopilot.mesh.kube.client.api_errors import Absent, Forbidden, Refused
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import HTTP_ROUTE, LEASE, Resource
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.kube.routes.weight_patch import marks_of
from autopilot.mesh.model import Aspect, Lease, SplitTraffic, Target
from autopilot.operations.common import Outcome
from autopilot.spec.cluster import ClusterMesh
from starter.client.start import start_operation
from tests.kube.ratings import same
from tests.kube.stage import Stage, staged
from tests.kube.trouble import HANGS, RESETS, Answer, Trouble, retoken, troubled
from tests.kube.world import ME, World
from tests.lab import scene
from tests.lab.find import Cluster

ROUTE = "/(virtualservices|httproutes)/reviews"
LEASES = r"/leases(/autopilot\.|\?)"
AUDIT = "/configmaps"
WRITES = "POST|PUT|PATCH|DELETE"
BUSY = Answer(503, "the server is currently unable to handle the request")
STORM = Answer(409, "the object has been modified; please apply your changes to the latest version and try again")


@pytest.fixture
async def trouble(a_cluster: Cluster, tmp_path: Path) -> AsyncIterator[Trouble]:
    async with troubled(a_cluster.kubeconfig, tmp_path) as made:
        yield made


@pytest.fixture
def through(trouble: Trouble, system: str, world: World) -> Iterator[KubeMesh]:
    """A mesh behind the trouble; the world's own goes past it."""
    mesh = behind(trouble, system, world.provider)
    yield mesh
    mesh.api.close()


def behind(trouble: Trouble, system: str, provider: str) -> KubeMesh:
    spec = {"provider": provider, "kubeconfig": str(trouble.kubeconfig), "namespace": system}
    return KubeMesh(ClusterMesh.model_validate({"metadata": {"name": "lab"}, "spec": spec}), trouble.kubeconfig.parent)


def mark(world: World) -> bool:
    return bool(marks_of(world.route()))


async def held(world: World) -> list[Lease]:
    return [one.lease for one in await world.mesh.leases() if one.lease.target == world.target]


async def records(world: World, action: str) -> int:
    return sum(one.action == action and one.target == str(world.target) for one in await world.mesh.audit())


# Conflicts


async def test_a_burst_of_conflicts_is_survived_and_everything_is_written_once(
    world: World, through: KubeMesh, trouble: Trouble
) -> None:
    before = world.route()
    for path in (ROUTE, LEASES, AUDIT):
        trouble.on("PUT|PATCH", path, STORM, times=3)
    lease = await world.take(mesh=through)
    await through.apply(lease, world.split(10), ME)
    assert world.written() == [90, 10]
    assert trouble.written(ROUTE) == ["PATCH"]
    assert world.route()["metadata"]["generation"] == before["metadata"]["generation"] + 1
    assert [await records(world, action) for action in ("acquire", "apply")] == [1, 1]
    trouble.on("PATCH", ROUTE, STORM, times=3)
    await through.lift(lease, ME)
    assert world.route()["spec"] == before["spec"]
    assert await held(world) == []


async def test_an_endless_storm_ends_by_naming_the_object_and_leaves_nothing_half_written(
    world: World, through: KubeMesh, trouble: Trouble
) -> None:
    before = world.route()
    lease = await world.take(mesh=through)
    trouble.on("PATCH", ROUTE, STORM)
    began = time.monotonic()
    with pytest.raises(MeshUnavailable) as unavailable:
        await through.apply(lease, world.split(10), ME)
    assert time.monotonic() - began < 25
    said = str(unavailable.value)
    assert f"{world.resource.kind} {world.namespace}/reviews" in said
    assert "PATCH" in said
    assert "find out who writes it" in said
    assert same(world.route(), before)
    trouble.heal()
    await through.apply(lease, world.split(10), ME)
    assert world.written() == [90, 10]


# Overload


@pytest.mark.parametrize(
    "answer",
    [Answer(429, "too many requests", retry_after=1), Answer(500), BUSY],
    ids=lambda answer: str(answer.status),
)
async def test_a_server_that_is_overloaded_for_a_while_is_waited_for(
    world: World, through: KubeMesh, trouble: Trouble, answer: Answer
) -> None:
    lease = await world.take(mesh=through)
    generation = world.route()["metadata"]["generation"]
    rule = trouble.on("PATCH", f"{ROUTE}.*fieldManager", answer, times=2)
    began = time.monotonic()
    await through.apply(lease, world.split(10), ME)
    if answer.retry_after is not None:
        assert time.monotonic() - began >= 2 * answer.retry_after
    assert len(rule.met) == 2
    assert world.written() == [90, 10]
    assert world.route()["metadata"]["generation"] == generation + 1
    assert await records(world, "apply") == 1


async def test_a_server_that_asks_for_more_patience_than_there_is_is_not_asked_again(
    world: World, through: KubeMesh, trouble: Trouble
) -> None:
    rule = trouble.on("GET", ".*", Answer(429, "too many requests", retry_after=60))
    with pytest.raises(MeshUnavailable, match=r"GET .*answers 429 \(too many requests\); try again"):
        await through.observe(world.target)
    assert len(rule.met) == 1


async def test_what_was_written_though_its_answer_was_lost_is_not_written_again(
    world: World, through: KubeMesh, trouble: Trouble
) -> None:
    before = world.route()
    for does in (RESETS, Answer(503)):
        # Whatever is written first at each place: a record, a lease, a route.
        for path in (ROUTE, LEASES, AUDIT):
            trouble.on(WRITES, f"{path}(?!.*dryRun)", does, times=1, carried_out=True)
    lease = await world.take(mesh=through)
    await through.apply(lease, world.split(10), ME)
    assert world.written() == [90, 10]
    assert world.route()["metadata"]["generation"] == before["metadata"]["generation"] + 1
    assert [await records(world, action) for action in ("acquire", "apply")] == [1, 1]
    assert await held(world) == [lease]
    trouble.heal()
    trouble.on("PATCH", ROUTE, RESETS, times=1, carried_out=True)
    await through.lift(lease, ME)
    assert world.route()["spec"] == before["spec"]
    assert await held(world) == []


# Silence


async def test_a_hung_answer_is_not_waited_for_without_end(world: World, through: KubeMesh, trouble: Trouble) -> None:
    lease = await world.take(mesh=through)
    before = world.route()
    trouble.on("PATCH", f"{ROUTE}(?!.*dryRun)", HANGS)
    began = time.monotonic()
    with pytest.raises(MeshUnavailable, match=r"does not answer .* check that it runs"):
        await through.apply(lease, world.split(10), ME)
    assert time.monotonic() - began < 25
    assert same(world.route(), before)
    trouble.heal()
    trouble.on("PATCH", f"{ROUTE}(?!.*dryRun)", HANGS, times=1)
    await through.apply(lease, world.split(10), ME)
    assert world.written() == [90, 10]


async def test_connections_that_are_reset_are_made_again(world: World, through: KubeMesh, trouble: Trouble) -> None:
    rules = [trouble.on(method, ".*", RESETS, times=2) for method in ("GET", "POST", "PUT", "PATCH")]
    lease = await world.take(mesh=through)
    await through.apply(lease, world.split(10), ME)
    assert all(len(rule.met) == 2 for rule in rules)
    assert world.written() == [90, 10]
    trouble.on(".*", ".*", RESETS)
    with pytest.raises(MeshUnavailable, match="does not answer"):
        await through.renew(lease)
    trouble.heal()
    await through.renew(lease)


# Credentials


async def test_an_expired_token_is_named_and_a_renewed_one_taken_up(
    world: World, through: KubeMesh, trouble: Trouble
) -> None:
    lease = await world.take(mesh=through)
    await through.apply(lease, world.split(10), ME)
    trouble.on(".*", ".*", Answer(401, "Unauthorized"))
    for asked in (through.renew(lease), through.apply(lease, world.split(20), ME), through.lift(lease, ME)):
        with pytest.raises(MeshUnavailable, match=r"does not accept our credentials \(401\); renew the token"):
            await asked
    assert world.written() == [90, 10]
    assert await held(world) == [lease]
    trouble.heal()
    await through.renew(lease)
    await through.apply(lease, world.split(20), ME)
    assert world.written() == [80, 20]


async def test_a_token_renewed_in_the_kubeconfig_needs_no_restart(
    world: World, through: KubeMesh, trouble: Trouble, a_cluster: Cluster
) -> None:
    if a_cluster.lab is None:
        pytest.skip("users of a cluster of one's own need not have tokens")
    lease = await world.take(mesh=through)
    good = retoken(trouble.kubeconfig, "expired")
    through.api.close()  # the token that it knew is no longer good
    with pytest.raises(MeshUnavailable, match="renew the token"):
        await through.renew(lease)
    trouble.kubeconfig.rename(trouble.kubeconfig.with_suffix(".away"))
    with pytest.raises(MeshUnavailable, match="no Kubernetes credentials"):
        await through.renew(lease)
    trouble.kubeconfig.with_suffix(".away").rename(trouble.kubeconfig)
    retoken(trouble.kubeconfig, good)
    await through.renew(lease)
    await through.apply(lease, world.split(10), ME)
    assert (await held(world), world.written()) == ([lease], [90, 10])


# What the cluster does not have, or does not allow


async def test_a_provider_whose_definitions_are_missing_is_told_of(
    api: KubeApi, namespace: str, open_kube: Callable[..., KubeMesh]
) -> None:
    scene.furnish(api, namespace, sidecars=False)
    mesh = open_kube("smi")
    target = Target(mesh="lab", namespace=namespace, service="reviews")
    changes = [SplitTraffic(weights={"reviews-v1": 90, "reviews-v2": 10})]
    said = r"does not serve TrafficSplit \(split.smi-spec.io/v1alpha2\); install its CRDs or choose another provider"
    with pytest.raises(Absent, match=said):
        await mesh.observe(target)
    with pytest.raises(Absent, match=said):
        await mesh.plan(target, changes)
    with pytest.raises(Absent, match=said):
        await mesh.acquire(target, [Aspect.TRAFFIC], operation="canary/a/b/c", token="run", ttl=60)
    assert [one for one in await mesh.leases() if one.lease.target == target] == []
    assert api.list(LEASE, namespace) == []


async def test_a_namespace_that_does_not_exist_is_told_of_and_no_lease_is_left(
    world: World, a_cluster: Cluster
) -> None:
    spec = {"provider": world.provider, "kubeconfig": str(a_cluster.kubeconfig), "namespace": "nowhere"}
    mesh = KubeMesh(ClusterMesh.model_validate({"metadata": {"name": "lab"}, "spec": spec}), Path())
    with pytest.raises(Refused, match=r'namespaces "nowhere" not found; create it, or name another'):
        await world.take(mesh=mesh)
    assert await held(world) == []
    mesh.api.close()


ROLE = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
BINDING = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLE = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole")
CLUSTER_BINDING = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding")
EVERYTHING: list[Object] = [
    {"apiGroups": [""], "resources": ["services", "pods"], "verbs": ["get", "list"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list"]},
    {
        "apiGroups": ["networking.istio.io"],
        "resources": ["virtualservices", "destinationrules"],
        "verbs": ["get", "list"],
    },
    {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes", "grpcroutes"], "verbs": ["get", "list"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "list", "create", "update"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "create", "update"]},
]


class Rights:
    """What a user of the lab may do."""

    def __init__(self, api: KubeApi, user: str, name: str) -> None:
        self._api, self._user, self._name = api, user, name

    def grant(self, *rules: Object) -> None:
        """These rights, and none that were granted here before."""
        meta = {"metadata": {"name": self._name}}
        group = "rbac.authorization.k8s.io"
        self._api.apply(
            CLUSTER_ROLE, {"apiVersion": f"{group}/v1", "kind": "ClusterRole", **meta, "rules": list(rules)}
        )
        binding = {
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": self._name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": self._user}],
        }
        self._api.apply(CLUSTER_BINDING, {"apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", **meta, **binding})

    def revoke(self) -> None:
        self._api.delete(CLUSTER_BINDING, self._name)
        self._api.delete(CLUSTER_ROLE, self._name)


@pytest.fixture
def rights(api: KubeApi, a_cluster: Cluster, namespace: str) -> Iterator[Rights]:
    if a_cluster.lab is None:
        pytest.skip("users without rights are the lab's own")
    made = Rights(api, "autopilot", f"test-{namespace}")
    yield made
    made.revoke()


async def eventually(ask: Callable[[], Any], limit: float = 10.0) -> Any:
    """The answer, once rights that were just granted have come through."""
    until = time.monotonic() + limit
    while True:
        try:
            return await ask()
        except Forbidden:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)


async def test_who_may_read_but_not_write_hears_it_from_the_plan(world: World, rights: Rights) -> None:
    rights.grant(*EVERYTHING)
    mesh = world.open(world.provider, user="autopilot")
    await eventually(lambda: mesh.observe(world.target))
    before = world.route()
    said = rf"""cannot patch resource "{world.resource.plural}".*; grant that verb on {world.resource.plural}\."""
    with pytest.raises(Forbidden, match=said):
        await mesh.plan(world.target, world.split(10))
    with pytest.raises(Forbidden, match=said):
        await world.take(mesh=mesh)
    assert same(world.route(), before)
    assert world.api.list(LEASE, world.namespace) == []
    may = {"apiGroups": [world.resource.group], "resources": [world.resource.plural], "verbs": ["patch"]}
    rights.grant(*EVERYTHING, may)
    lease = await eventually(lambda: world.take(mesh=mesh))
    await mesh.apply(lease, world.split(10), ME)
    assert world.written() == [90, 10]
    # The right is taken away again in mid-rollout: what is laid stays known, and is restored once it may be.
    rights.grant(*EVERYTHING)
    until = time.monotonic() + 10
    while True:
        try:
            await mesh.plan(world.target, world.split(20))
        except Forbidden:
            break
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    with pytest.raises(Forbidden, match=said):
        await mesh.lift(lease, ME)
    assert (await held(world), mark(world)) == ([lease], True)
    rights.grant(*EVERYTHING, may)
    await eventually(lambda: mesh.lift(lease, ME))
    assert (await held(world), mark(world), world.written()) == ([], False, [100, 0])


@pytest.mark.parametrize(
    "missing",
    [
        ("services", r'cannot list resource "services".*; grant that verb on services\.core'),
        ("endpointslices", r'cannot list resource "endpointslices".*; grant that verb on endpointslices\.discovery'),
        ("leases", r'cannot get resource "leases".*; grant that verb on leases\.coordination\.k8s\.io'),
        ("configmaps", r'cannot get resource "configmaps".*; grant that verb on configmaps\.core'),
    ],
)
async def test_each_right_that_is_missing_is_named_and_no_lease_is_left(
    api: KubeApi, namespace: str, open_kube: Callable[..., KubeMesh], rights: Rights, missing: tuple[str, str]
) -> None:
    scene.furnish(api, namespace, sidecars=False)
    scene.http_route(api, namespace, reviews_v1=100, reviews_v2=0)
    without, said = missing
    may = {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": ["patch"]}
    granted = [
        {**rule, "resources": [one for one in rule["resources"] if one != without]} for rule in [*EVERYTHING, may]
    ]
    rights.grant(*(rule for rule in granted if rule["resources"]))
    user = open_kube("gateway_api", user="autopilot")
    await eventually(lambda: asyncio.to_thread(user.api.list, HTTP_ROUTE, namespace))
    target = Target(mesh="lab", namespace=namespace, service="reviews")
    with pytest.raises(Forbidden, match=said):
        await user.acquire(target, [Aspect.TRAFFIC], operation="canary/a/b/c", token="run", ttl=60)
    assert [one for one in await open_kube("gateway_api").leases() if one.lease.target == target] == []


async def test_who_may_nothing_is_told_of_the_first_thing(world: World, a_cluster: Cluster) -> None:
    if a_cluster.lab is None:
        pytest.skip("users without rights are the lab's own")
    mesh = world.open(world.provider, user="nobody")
    with pytest.raises(Forbidden, match=r'User "nobody" cannot list resource .*; grant that verb on'):
        await mesh.observe(world.target)


async def test_what_a_webhook_forbids_is_no_matter_of_rights(world: World, through: KubeMesh, trouble: Trouble) -> None:
    denied = 'admission webhook "policy.example.com" denied the request: no changes on Fridays'
    trouble.on("PATCH", ROUTE, Answer(403, denied))
    with pytest.raises(Refused, match=r"PATCH .*no changes on Fridays") as refused:
        await through.plan(world.target, world.split(10))
    assert "grant" not in str(refused.value)


# Restores


async def test_a_restore_that_cannot_write_the_route_keeps_the_lease(
    world: World, through: KubeMesh, trouble: Trouble
) -> None:
    before, lease = world.route(), await world.take(mesh=through)
    await through.apply(lease, world.split(10), ME)
    trouble.on("PATCH", ROUTE, BUSY)
    with pytest.raises(MeshUnavailable, match=r"PATCH .*answers 503 \(the server is currently unable"):
        await through.lift(lease, ME)
    assert (await held(world), mark(world), world.written()) == ([lease], True, [90, 10])
    trouble.heal()
    assert await through.lift(lease, ME) is not None
    assert (await held(world), mark(world), world.route()["spec"]) == ([], False, before["spec"])


async def test_a_restore_that_cannot_write_the_lease_has_restored_and_is_finished_later(
    world: World, through: KubeMesh, trouble: Trouble
) -> None:
    before, lease = world.route(), await world.take(mesh=through)
    await through.apply(lease, world.split(10), ME)
    for does in (BUSY, HANGS):
        trouble.on("PUT", LEASES, does)
        with pytest.raises(MeshUnavailable):
            await through.lift(lease, ME)
        assert (await held(world), mark(world), world.route()["spec"]) == ([lease], False, before["spec"])
        trouble.heal()
    assert await through.lift(lease, ME) is not None
    assert await held(world) == []


async def test_a_restore_waits_neither_for_its_record_nor_for_orders(
    world: World, through: KubeMesh, trouble: Trouble
) -> None:
    before, lease = world.route(), await world.take(mesh=through)
    await through.apply(lease, world.split(10), ME)
    through.ledger.store._halts = (float("-inf"), [])  # as in a process that has just begun
    trouble.on(".*", AUDIT, BUSY)
    receipt = await through.lift(lease, ME)
    assert receipt is not None
    assert receipt.audit == ""
    assert (await held(world), mark(world), world.route()["spec"]) == ([], False, before["spec"])
    assert await records(world, "lift") == 0
    trouble.heal()
    await through.sweep()
    assert await records(world, "lift") == 1


async def test_a_commit_that_is_interrupted_goes_on_forward(world: World, through: KubeMesh, trouble: Trouble) -> None:
    lease = await world.take(mesh=through)
    await through.apply(lease, world.split(100), ME)
    trouble.on("PATCH", ROUTE, BUSY)
    with pytest.raises(MeshUnavailable):
        await through.commit(lease, ME)
    assert (await held(world), mark(world), world.written()) == ([lease], True, [0, 100])
    trouble.heal()
    assert await through.lift(lease, ME) is not None  # any net rolls forward from here
    assert (await held(world), mark(world), world.written()) == ([], False, [0, 100])


async def test_a_sweep_restores_the_others_where_one_cannot_be(
    world: World, through: KubeMesh, trouble: Trouble
) -> None:
    now = time.time()
    leases = []
    for service in ("reviews", "reviews-v1"):
        target = world.target.model_copy(update={"service": service})
        if service != "reviews":
            scene_route(world, service)
        lease = await through.acquire(
            target, [Aspect.TRAFFIC], operation=f"canary/a/b/{service}", token="run", ttl=60, planned_end=now
        )
        leases.append(lease)
    trouble.on("PUT", r"/leases/autopilot\.reviews(\?|$)", BUSY)
    with pytest.raises(MeshUnavailable, match=r"PUT .*leases/autopilot\.reviews"):
        await through.sweep()
    found = [one.lease.target.service for one in await world.mesh.leases() if one.lease in leases]
    assert found == ["reviews"]


def scene_route(world: World, service: str) -> None:
    """A route of its own to another service."""
    if world.provider == "istio":
        spec: Object = {"hosts": [service], "http": [{"route": [{"destination": {"host": service}}]}]}
    else:
        parents = [{"group": "", "kind": "Service", "name": service, "port": 80}]
        spec = {"parentRefs": parents, "rules": [{"backendRefs": [{"name": service, "port": 80}]}]}
    meta = {"name": service, "namespace": world.namespace}
    world.api.create(
        world.resource,
        {"apiVersion": world.resource.api_version, "kind": world.resource.kind, "metadata": meta, "spec": spec},
    )


# A whole rollout


@pytest.fixture
async def stage(
    request: pytest.FixtureRequest, api: KubeApi, dev_server: WorkflowEnvironment, tmp_path: Path, trouble: Trouble
) -> AsyncIterator[Stage]:
    request.getfixturevalue("lab")
    namespace = request.getfixturevalue("namespace")
    async with staged(
        api, namespace, "istio", dev_server.client, tmp_path, kubeconfig=trouble.kubeconfig, rate=100
    ) as made:
        yield made


OUTAGE = 8.0


@pytest.mark.e2e
@pytest.mark.timeout(180)
async def test_a_rollout_sits_out_an_api_server_that_is_away(stage: Stage, trouble: Trouble) -> None:
    before = await stage.counts()
    steps = [
        {"weight": 20, "hold": 6, "minRequests": 50},
        {"weight": 50, "hold": 3, "minRequests": 50},
        {"weight": 100, "hold": 2, "minRequests": 50},
    ]
    handle = await start_operation(stage.client, stage.rollout("trouble", steps))
    async with asyncio.timeout(40):
        while stage.written()[0] != [80, 20]:
            await asyncio.sleep(0.1)
    rule = trouble.on(".*", ".*", BUSY)
    standing, until = stage.written(), time.monotonic() + OUTAGE
    while time.monotonic() < until:
        assert stage.written() == standing
        assert (await handle.describe()).close_time is None
        await asyncio.sleep(0.2)
    assert rule.met, "nobody asked the API server meanwhile"
    trouble.heal()
    report = await handle.result()
    assert report.outcome is Outcome.PROMOTED, report.reason
    after = await stage.counts()
    assert after["failures"] == before["failures"]
    assert after["dropped"] == before["dropped"]
    assert stage.written() == ([0, 100], {})
