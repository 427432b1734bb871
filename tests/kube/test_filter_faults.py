"""Faults that Istio's proxies let go of by themselves: real sidecars, real requests, and the user's route untouched."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from autopilot.mesh.errors import InvalidChange, LeaseLost, TakenOver
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import ENVOY_FILTER, LEASE, VIRTUAL_SERVICE
from autopilot.mesh.kube.envoyfilter import standing_filter
from autopilot.mesh.kube.envoyfilter.render import laid_by
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.model import Aspect, InjectFault, Target, Tier
from autopilot.spec.chaos.faults import Abort, Delay, Fault, GrpcAbort, Partition, Retries, Timeout
from autopilot.spec.chaos.scope import Cookie, HeaderMatch, PathMatch, Scope, Source
from autopilot.spec.cluster import ClusterMesh
from tests.kube.conftest import Clock
from tests.kube.ratings import EVERYBODY, JASON, USER, Ratings, each_fault, ratings_on, same
from tests.kube.world import ME
from tests.lab import scene
from tests.lab.find import Cluster
from tests.lab.sidecars import ADMIN

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ROOT = "istio-system"
HEADER = "x-autopilot-overlay"


class Shop(Ratings):
    """The same, and the EnvoyFilters beside it."""

    def filters(self) -> list[Object]:
        return self.api.list(ENVOY_FILTER, ROOT, labels=f"meshautopilot.io/namespace={self.target.namespace}")

    async def routes(self) -> list[Object]:
        """The web sidecar's routes to ratings."""
        web = scene.pod_address(self.api, self.target.namespace, "web", "v1")
        url = f"http://{web}:{ADMIN}/config_dump"
        async with self.session.get(url, params={"resource": "dynamic_route_configs"}) as response:
            tables = json.loads(await response.text())["configs"]
        hosts = [host for table in tables for host in table["route_config"]["virtual_hosts"]]
        return next(host["routes"] for host in hosts if host["name"] == f"{self.scene.host}:80")


@pytest_asyncio.fixture
async def shop(api: KubeApi, namespace: str, lab: Cluster, open_kube: Callable[..., KubeMesh]) -> AsyncIterator[Shop]:
    async with ratings_on(api, namespace, open_kube("istio", driver="envoyfilter"), Shop) as one:
        yield one
    for body in one.filters():
        api.delete(ENVOY_FILTER, body["metadata"]["name"], ROOT)


async def test_one_path_meets_it_whatever_its_query(shop: Shop) -> None:
    before = shop.route()
    lease = await shop.take()
    await shop.lay(lease, (Abort(status=501), Scope(path=PathMatch(exact="/api/pay"), method="GET")))
    shop.path = "/api/pay?x=1"
    await shop.until({}, "501")
    for path in ("/api/pay/7", "/api/paying", "/"):
        shop.path = path
        await shop.all({}, "200")
    await shop.lay(lease, (Abort(status=502), Scope(rule="testers", path=PathMatch(regex="/api/.*"))))
    shop.path = "/api/pay?x=1"
    await shop.until({"x-tester": "yes"}, "502")
    await shop.all({}, "200")
    shop.path = "/"
    await shop.all({"x-tester": "yes"}, "200")
    await shop.mesh.lift(lease, ME)
    assert same(shop.route(), before)


async def test_a_host_outside_the_cluster_fails_until_the_deadline(shop: Shop) -> None:
    host = "api.payments.example"
    scene.service_entry(shop.api, shop.target.namespace, host, "ratings")
    shop.host = host
    shop.target = shop.target.model_copy(update={"service": host})
    await shop.until({}, "200")
    lease = await shop.take()
    await shop.lay(lease, (Abort(status=500), Scope(path=PathMatch(prefix="/v1/charges"))))
    shop.path = "/v1/charges"
    await shop.until({}, "500")
    shop.path = "/v1/refunds"
    await shop.all({}, "200")
    await shop.mesh.lift(lease, ME)
    shop.path = "/v1/charges"
    await shop.until({}, "200")


@each_fault
async def test_one_user_meets_it_and_no_object_of_the_users_is_written(shop: Shop, fault: Fault, wanted: str) -> None:
    if isinstance(fault, Retries):
        shop.edit({"op": "add", "path": "/spec/http/1/retries", "value": {"attempts": 2, "retryOn": "5xx"}})
        await shop.behave(first_tries=1.0)
        await shop.nobody()
    before = shop.route()
    plan = await shop.mesh.plan(shop.target, [InjectFault(fault=fault, scope=JASON)])
    assert plan.tier is Tier.PROXY
    assert "end-user" in plan.diff
    assert shop.filters() == []
    lease = await shop.take()
    if isinstance(fault, Timeout):
        await shop.behave(delay=0.4)
    await shop.lay(lease, (fault, JASON))
    await shop.nobody_but_jason(wanted)
    (status,) = [one for one in await shop.mesh.leases() if one.lease == lease]
    assert status.tier is Tier.PROXY
    assert status.deadline is not None
    await shop.mesh.renew(lease)
    await shop.mesh.lift(lease, ME)
    await shop.nobody()
    assert shop.filters() == []
    assert shop.route() == before
    assert [one["name"] for one in await shop.routes()] == ["testers", "everybody"]


async def test_a_share_of_all_requests_is_that_share(shop: Shop) -> None:
    lease = await shop.take()
    await shop.lay(lease, (Abort(status=503), Scope(percentage=20)), (Delay(delay=0.6), JASON))
    await shop.share("503", 0.2, 2000)
    both = await shop.met(USER, 100)  # the delay comes first, and then perhaps the abort
    assert set(both) == {"200 slow", "503 slow"}
    await shop.lay(lease, (GrpcAbort(code=14), JASON))  # another step, in place of the one before
    async with asyncio.timeout(10):
        while await shop.grpc_status(USER) != "14":
            pass
    assert set(await shop.met({}, 100)) == {"200"}
    assert await shop.grpc_status({}) is None
    await shop.lay(lease)
    await shop.nobody()
    assert shop.filters() == []
    await shop.mesh.lift(lease, ME)


async def test_scopes_are_told_apart_and_a_key_chooses_nothing(shop: Shop) -> None:
    lease = await shop.take()
    session = Scope(cookie=Cookie(name="session", value="abc"))
    await shop.lay(lease, (Abort(status=501), session))
    await shop.until({"cookie": "a=b; session=abc"}, "501")
    assert set(await shop.met({"cookie": "session=abcd"})) == {"200"}
    some = Scope(headers={"end-user": HeaderMatch(prefix="ja"), "x-a": HeaderMatch(present=True)})
    others = Scope(headers={"end-user": HeaderMatch(prefix="b"), "x-b": HeaderMatch(regex="b+")})
    await shop.lay(lease, (Abort(status=502), some), (Abort(status=504), others))
    await shop.until({**USER, "x-a": ""}, "502")
    assert set(await shop.met({"end-user": "bob", "x-b": "bbb"})) == {"504"}
    (body,) = shop.filters()
    laid = laid_by(body)
    assert laid is not None
    for headers in (
        {"cookie": "session=abc"},
        USER,
        {"x-a": "1"},
        {"end-user": "bob", "x-b": "bbc"},
        {HEADER: "1"},
        {HEADER: f"{laid.token}-0-1"},
    ):
        assert set(await shop.met(headers)) == {"200"}, headers
    # Those who bear the key go on by the user's route, and what is behind it hears of no key.
    for route in await shop.routes():
        assert HEADER in route["request_headers_to_remove"]
    await shop.mesh.lift(lease, ME)
    await shop.nobody()


async def test_after_the_deadline_nobody_meets_it_with_nothing_of_ours_alive(shop: Shop, lab: Cluster) -> None:
    before = shop.route()
    words = (sys.executable, "-m", "tests.kube.test_filter_faults", str(lab.kubeconfig), shop.target.namespace)
    process = await asyncio.create_subprocess_exec(*words, cwd=Path(__file__).parents[2])
    try:
        await shop.until(USER, "500", within=30)
        began = time.time()
        while time.time() < began + 4:  # longer than proxies wait: renewals have moved the deadline
            assert set(await shop.met(USER, 10)) == {"500"}
            await asyncio.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    (body,) = shop.filters()
    laid = laid_by(body)
    assert laid is not None
    last = 0.0
    async with asyncio.timeout(20):
        while time.time() < laid.deadline + 2:
            asked = time.time()
            found = await shop.met(USER, 5)
            if found["500"]:
                last = asked
            if asked > laid.deadline + 1:
                assert set(found) == {"200"}
            await asyncio.sleep(0.01)
    print(f"the last request that met it began {last - laid.deadline:.3f} s after the deadline")
    assert len(shop.filters()) == 1, "nobody has taken anything away"
    await shop.nobody()
    assert shop.route() == before
    guard = shop.mesh
    guard.sweep_every = 0.2
    async with asyncio.timeout(20):
        while shop.filters():
            await guard.sweep()
            await asyncio.sleep(0.2)


async def test_what_fell_is_not_raised_by_who_comes_late(shop: Shop, open_kube: Callable[..., KubeMesh]) -> None:
    """Not even where a partition beside it, which no proxy knows of, makes all of it tier B."""
    clock = Clock()
    mesh = open_kube("istio", clock=clock, driver="envoyfilter")
    lease = await shop.take(mesh=mesh)
    changes = [InjectFault(fault=Abort(status=500), scope=JASON), InjectFault(fault=Partition(direction="egress"))]
    await mesh.apply(lease, changes, ME)
    (status,) = [one for one in await mesh.leases() if one.lease == lease]
    assert (status.tier, status.deadline) == (Tier.GUARD, None)
    clock.ahead = 300
    with pytest.raises(LeaseLost, match="by themselves"):
        await mesh.renew(lease)
    await mesh.lift(lease, ME)
    assert (shop.filters(), shop.policies()) == ([], [])


async def test_a_service_without_a_route_needs_none(shop: Shop) -> None:
    namespace = shop.target.namespace
    shop.api.delete(VIRTUAL_SERVICE, "ratings", namespace)
    await shop.until({}, "200")
    lease = await shop.take()
    with pytest.raises(InvalidChange, match="leave out arm"):
        await shop.lay(lease, (Abort(status=500), Scope(arm="v1")))
    await shop.lay(lease, (Abort(status=500), JASON))
    await shop.nobody_but_jason("500")
    assert shop.api.list(VIRTUAL_SERVICE, namespace) == []
    scene.virtual_service(shop.api, namespace, "ratings", v1=100, v2=0)  # somebody writes one meanwhile
    await shop.mesh.renew(lease)
    await shop.nobody_but_jason("500")
    await shop.mesh.lift(lease, ME)
    await shop.nobody()


async def test_what_others_do_is_followed_and_what_is_ours_comes_back(shop: Shop) -> None:
    lease = await shop.take()
    await shop.lay(lease, (Delay(delay=1), JASON))
    shop.edit({"op": "add", "path": "/spec/http/1/timeout", "value": "3s"})
    await shop.mesh.renew(lease)
    (body,) = shop.filters()
    assert "3s" in json.dumps(body["spec"])
    shop.api.delete(ENVOY_FILTER, body["metadata"]["name"], ROOT)
    await shop.mesh.renew(lease)
    await shop.nobody_but_jason("200 slow")
    theirs = {"abort": {"httpStatus": 418, "percentage": {"value": 0.1}}}
    shop.edit({"op": "add", "path": "/spec/http/1/fault", "value": theirs})
    with pytest.raises(TakenOver, match="already has a fault"):
        await shop.mesh.renew(lease)
    await shop.mesh.lift(lease, ME)
    assert shop.filters() == []
    assert shop.route()["spec"]["http"][1]["fault"] == theirs
    with pytest.raises(InvalidChange, match="rule everybody already has a fault"):
        await shop.lay(await shop.take(), (Abort(status=500), JASON))


async def test_a_late_writer_is_inert_and_swept(shop: Shop, open_kube: Callable[..., KubeMesh]) -> None:
    before = shop.route()
    lease = await shop.take()
    await shop.lay(lease, (Abort(status=500), JASON))
    late = shop.mesh.ledger.faults
    await shop.mesh.lift(lease, ME)
    again = await shop.take(operation="chaos/lab/test/y")
    await shop.lay(again, (Delay(delay=1), EVERYBODY))
    with pytest.raises(LeaseLost, match="has laid a later overlay"):
        late.lay(shop.target, lease.holder, [InjectFault(fault=Abort(), scope=JASON)], time.time() + 60)
    await shop.until({}, "200 slow")
    shop.api.delete(LEASE, "autopilot.ratings", shop.target.namespace)
    done = await open_kube("istio", driver="envoyfilter").sweep()
    assert any("had no lease any more" in sentence for sentence in done)
    assert shop.filters() == []
    await shop.nobody()
    assert same(shop.route(), before)


async def test_what_the_plain_driver_left_goes(shop: Shop, open_kube: Callable[..., KubeMesh]) -> None:
    before, plain = shop.route(), open_kube("istio")
    lease = await shop.take(mesh=plain)
    await plain.apply(lease, [InjectFault(fault=Abort(status=500), scope=EVERYBODY)], ME)
    await shop.until({}, "500")
    await shop.lay(lease, (Delay(delay=1), JASON))
    await shop.nobody_but_jason("200 slow")
    assert same(shop.route(), before)
    await shop.mesh.lift(lease, ME)
    await shop.nobody()


async def test_what_it_cannot_say_is_refused_with_what_comes_nearest(shop: Shop) -> None:
    lease = await shop.take()
    wanted: list[tuple[Fault, Scope, str]] = [
        (Abort(), Scope(source=Source(service="ratings")), "driver plain"),
        (Delay(delay=1, jitter=0.5), JASON, "a fixed delay"),
        (Abort(), Scope(arm="v9"), "it has v1, v2"),
    ]
    for fault, scope, nearest in wanted:
        with pytest.raises(InvalidChange, match=nearest):
            await shop.lay(lease, (fault, scope))
    assert shop.filters() == []
    await shop.mesh.lift(lease, ME)


async def test_a_standing_filter_of_an_earlier_release_is_replaced(shop: Shop) -> None:
    old = standing_filter.standing_filter(ROOT)
    old["metadata"]["annotations"] = {standing_filter.VERSION: "an earlier one"}
    old["spec"]["configPatches"] = old["spec"]["configPatches"][:1]
    shop.api.apply(ENVOY_FILTER, old)
    lease = await shop.take()
    await shop.lay(lease, (Abort(status=500), JASON))
    await shop.nobody_but_jason("500")
    await shop.mesh.lift(lease, ME)


async def _operate(kubeconfig: str, namespace: str) -> None:
    """Lays an abort for jason and renews, until it is killed."""
    spec: dict[str, Any] = {"provider": "istio", "driver": "envoyfilter", "kubeconfig": kubeconfig, "maxUnattended": 3}
    mesh = KubeMesh(ClusterMesh.model_validate({"metadata": {"name": "lab"}, "spec": spec}), Path(kubeconfig).parent)
    target = Target(mesh="lab", namespace=namespace, service="ratings")
    lease = await mesh.acquire(target, [Aspect.FAULTS], operation="chaos/lab/test/x", token="t", ttl=4)
    await mesh.apply(lease, [InjectFault(fault=Abort(status=500), scope=JASON)])
    for _ in range(120):
        await asyncio.sleep(0.5)
        await mesh.renew(lease)


if __name__ == "__main__":
    asyncio.run(_operate(*sys.argv[1:]))
