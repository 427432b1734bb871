"""Overlays as EnvoyFilters, over a real istiod and real Envoys: judged by where requests went, and when."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from autopilot.mesh.errors import InvalidChange, LeaseLost, TakenOver
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import ENVOY_FILTER, LEASE, VIRTUAL_SERVICE
from autopilot.mesh.kube.envoyfilter import standing_filter
from autopilot.mesh.kube.envoyfilter.overlay import FilterOverlayer
from autopilot.mesh.kube.envoyfilter.render import laid_by
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.model import Aspect, Lease, SplitTraffic, Target, Tier
from autopilot.spec.cluster import ClusterMesh
from tests.kube import ingress
from tests.lab import scene
from tests.lab.find import Cluster
from tests.lab.sidecars import ADMIN

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ROOT = "istio-system"
HEADER = "x-autopilot-overlay"
_RUNS = itertools.count(1)


@dataclass
class Traffic:
    """What a stream of requests met: when each began, and which version answered; empty for a failure."""

    answers: list[tuple[float, str]] = field(default_factory=list)

    def between(self, since: float, until: float) -> Counter[str]:
        return Counter(version for began, version in self.answers if since <= began < until)

    def after(self, moment: float) -> Counter[str]:
        return self.between(moment, math.inf)


class Shop:
    """A namespace whose `web` calls `reviews` through its sidecar."""

    def __init__(self, api: KubeApi, made: scene.Scene, session: aiohttp.ClientSession, kubeconfig: Path) -> None:
        self.api, self.scene, self.session = api, made, session
        self.enter(made, made.host)
        self.kubeconfig = kubeconfig
        self.target = Target(mesh="lab", namespace=made.namespace, service="reviews")
        self.versions = {scene.pod_address(api, made.namespace, "reviews", one): one for one in ("v1", "v2")}
        self.web = f"http://{scene.pod_address(api, made.namespace, 'web', 'v1')}:{ADMIN}"
        self.meshes: list[KubeMesh] = []

    def enter(self, through: scene.Scene, host: str) -> None:
        """Where requests go in from now on, and by which name."""
        self.url, self.host = f"{through.client}/", host

    def mesh(self, **spec: Any) -> KubeMesh:
        given = {"provider": "istio", "driver": "envoyfilter", "kubeconfig": str(self.kubeconfig), **spec}
        one = ClusterMesh.model_validate({"metadata": {"name": "lab"}, "spec": given})
        self.meshes.append(KubeMesh(one, self.kubeconfig.parent))
        return self.meshes[-1]

    async def take(self, mesh: KubeMesh, *, ttl: float = 60, token: str = "") -> Lease:
        return await mesh.acquire(
            self.target, [Aspect.TRAFFIC], operation="canary/lab/test/reviews", token=token or f"{next(_RUNS)}", ttl=ttl
        )

    def route(self) -> Object:
        found = self.api.get(VIRTUAL_SERVICE, "reviews", self.scene.namespace)
        assert found is not None
        return found

    def filters(self) -> list[Object]:
        labels = f"meshautopilot.io/namespace={self.scene.namespace}"
        return self.api.list(ENVOY_FILTER, ROOT, labels=labels)

    async def answer(self, headers: dict[str, str] | None = None) -> str:
        given = {"Host": self.host, **(headers or {})}
        try:
            async with self.session.get(self.url, headers=given) as response:
                return self.versions[(await response.json())["version"]] if response.status == 200 else ""
        except (aiohttp.ClientError, TimeoutError):
            return ""

    async def answers(self, number: int, headers: dict[str, str] | None = None) -> Counter[str]:
        found: Counter[str] = Counter()
        for _ in range(0, number, 20):
            found.update(await asyncio.gather(*(self.answer(headers) for _ in range(20))))
        return found

    async def until(self, version: str, within: float = 5.0) -> float:
        """Waits until a version alone answers; returns seconds."""
        began = time.monotonic()
        while set(await self.answers(20)) != {version}:
            assert time.monotonic() - began < within, f"{version} does not answer alone after {within:g} s"
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    @contextlib.asynccontextmanager
    async def stream(self, rate: float = 100.0) -> AsyncIterator[Traffic]:
        """Requests at a steady rate, for as long as the context lasts."""
        traffic, going, pending = Traffic(), True, set[asyncio.Task[None]]()

        async def one() -> None:
            began = time.time()
            traffic.answers.append((began, await self.answer()))

        async def run() -> None:
            while going:
                task = asyncio.create_task(one())
                pending.add(task)
                task.add_done_callback(pending.discard)
                await asyncio.sleep(1 / rate)

        task = asyncio.create_task(run())
        try:
            yield traffic
        finally:
            going = False
            await task
            await asyncio.gather(*pending)

    async def stats(self) -> dict[str, int]:
        names = (
            "listener_manager.(listener_(modified|in_place_updated)|total_(listeners|filter_chains)_draining)"
            "|outbound.*(downstream_cx_drain_close|rds.80.config_reload)$"
        )
        url = f"{self.web}/stats"
        async with self.session.get(url, params={"filter": names, "format": "json"}) as response:
            found = (await response.json())["stats"]
        return {one["name"].rpartition(".")[2]: int(one["value"]) for one in found if "value" in one}

    async def routes(self) -> list[Object]:
        """The web sidecar's routes to reviews."""
        url = f"{self.web}/config_dump"
        async with self.session.get(url, params={"resource": "dynamic_route_configs"}) as response:
            tables = json.loads(await response.text())["configs"]
        hosts = [host for table in tables for host in table["route_config"]["virtual_hosts"]]
        return next(host["routes"] for host in hosts if host["name"] == f"{self.scene.host}:80")


def split(canary: float) -> list[SplitTraffic]:
    return [SplitTraffic(weights={"v1": 100 - canary, "v2": canary})]


def close_to(count: int, number: int, share: float) -> bool:
    """Within four standard deviations: one false alarm in 16,000."""
    return abs(count - number * share) <= 4 * math.sqrt(number * share * (1 - share))


@pytest.fixture
async def shop(lab: Cluster, api: KubeApi, namespace: str) -> AsyncIterator[Shop]:
    made = await asyncio.to_thread(scene.furnish, api, namespace)
    scene.subsets(api, namespace)
    scene.virtual_service(api, namespace, v1=100, v2=0)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        one = Shop(api, made, session, lab.kubeconfig)
        await one.until("v1", within=30)
        yield one
    for mesh in one.meshes:
        mesh.api.close()
    for body in one.filters():
        api.delete(ENVOY_FILTER, body["metadata"]["name"], ROOT)


async def test_the_split_is_what_was_said_and_a_lift_leaves_nothing(shop: Shop) -> None:
    mesh, before = shop.mesh(), shop.route()
    capability = (await mesh.capabilities())[0]
    assert capability.tier is Tier.PROXY
    plan = await mesh.plan(shop.target, split(30))
    assert plan.tier is Tier.PROXY
    assert "weight: 30" in plan.diff
    assert shop.filters() == []
    lease = await shop.take(mesh)
    receipt = await mesh.apply(lease, split(100))
    assert receipt.deadline is not None
    print(f"in force after {await shop.until('v2'):.2f} s")
    (status,) = [one for one in await mesh.leases() if one.lease == lease]
    assert (status.tier, status.deadline) == (Tier.PROXY, receipt.deadline)
    for weight in (10, 30):
        await mesh.apply(lease, split(weight))
        await asyncio.sleep(1.5)
        found = await shop.answers(2000)
        print(f"{weight} %: {found}")
        assert found[""] == 0
        assert close_to(found["v2"], 2000, weight / 100)
    state = await mesh.observe(shop.target)
    assert {arm.name: (arm.weight, arm.base_weight) for arm in state.arms} == {"v1": (70, 100), "v2": (30, 0)}
    # Rules that lead somewhere on a condition of their own are as they were.
    assert await shop.answers(100, {"x-tester": "yes"}) == {"v2": 100}
    await mesh.lift(lease)
    print(f"lifted after {await shop.until('v1'):.2f} s")
    assert shop.filters() == []
    assert shop.route() == before, "the user's VirtualService was never written"
    assert [one["name"] for one in await shop.routes()] == ["testers", "everybody"]


async def test_after_the_deadline_the_base_answers_with_nothing_of_ours_alive(shop: Shop) -> None:
    mesh, before = shop.mesh(maxUnattended=4), shop.route()
    lease = await shop.take(mesh)
    async with shop.stream() as traffic:
        deadline = (await mesh.apply(lease, split(100))).deadline
        assert deadline is not None
        began = time.time() + await shop.until("v2")
        await asyncio.sleep(deadline - time.time() + 2)
    late = [began - deadline for began, version in traffic.answers if version == "v2" and began >= deadline]
    print(f"the last request to v2 began {max(late, default=0):.3f} s after the deadline")
    assert traffic.after(0)[""] == 0
    assert set(traffic.between(began, deadline - 0.05)) == {"v2"}
    assert set(traffic.after(deadline + 1)) == {"v1"}
    assert len(shop.filters()) == 1, "nobody has taken anything away"
    # Not even who knows the key gets what has expired.
    key = laid_by(shop.filters()[0])
    assert key is not None
    assert await shop.answers(40, {HEADER: f"{key.token}-0"}) == {"v1": 40}
    # What fell is not raised by who comes late; a new try begins anew.
    with pytest.raises(LeaseLost, match="by themselves"):
        await mesh.renew(lease)
    (arm,) = [one for one in (await mesh.observe(shop.target)).arms if one.name == "v2"]
    assert arm.weight == 0
    again = await shop.take(mesh)
    assert again.holder.fencing > lease.holder.fencing
    assert shop.filters() == []
    await mesh.lift(again)
    assert shop.route() == before


async def test_renewals_move_the_deadline_and_change_routes_alone(shop: Shop) -> None:
    mesh = shop.mesh(maxUnattended=3)
    lease = await shop.take(mesh)
    await mesh.apply(lease, split(100))
    await shop.until("v2")
    before, versions = await shop.stats(), set()
    async with shop.stream() as traffic:
        began = time.time()
        while time.time() < began + 12:
            await mesh.renew(lease)
            versions.add(shop.filters()[0]["metadata"]["resourceVersion"])
            await asyncio.sleep(0.4)
    after = await shop.stats()
    print(f"{len(versions)} deadlines; before {before}, after {after}")
    assert set(traffic.after(began)) == {"v2"}
    assert 5 <= len(versions) <= 14
    assert after.pop("config_reload") > before.pop("config_reload")
    # What still drained from the sidecar's own start may have finished meanwhile.
    assert {key: value for key, value in after.items() if value > before[key]} == {}
    await mesh.lift(lease)


async def test_whatever_goes_wrong_with_the_filter_means_the_base(shop: Shop) -> None:
    mesh = shop.mesh()
    lease = await shop.take(mesh)
    await mesh.apply(lease, split(50))
    await asyncio.sleep(1.5)
    # A forged header, the right one even, does not choose.
    (body,) = shop.filters()
    laid = laid_by(body)
    assert laid is not None
    for value in ("1", "true", f"{laid.token}-0"):
        found = await shop.answers(1000, {HEADER: value})
        assert close_to(found["v2"], 1000, 0.5), (value, found)
    await mesh.apply(lease, split(100))
    await shop.until("v2")
    broken = standing_filter.standing_filter(ROOT)
    for patch in broken["spec"]["configPatches"]:
        if (code := patch["patch"]["value"]["typed_config"].get("default_source_code")) is None:
            continue
        code["inline_string"] = "function envoy_on_request(handle) error('broken') end"
    shop.api.apply(ENVOY_FILTER, broken)
    try:
        await shop.until("v1")
        assert await shop.answers(40, {HEADER: "1"}) == {"v1": 40}
        shop.api.delete(ENVOY_FILTER, standing_filter.NAME, ROOT)
        await asyncio.sleep(1.5)
        assert await shop.answers(100) == {"v1": 100}
        assert await shop.answers(40, {HEADER: "1"}) == {"v1": 40}
    finally:
        shop.api.apply(ENVOY_FILTER, standing_filter.standing_filter(ROOT))
    await shop.until("v2")
    await mesh.lift(lease)


async def test_a_commit_makes_it_the_base_and_nobody_notices(shop: Shop) -> None:
    mesh, before = shop.mesh(), shop.route()
    lease = await shop.take(mesh)
    await mesh.apply(lease, split(100))
    await shop.until("v2")
    async with shop.stream(200) as traffic:
        began = time.time()
        await asyncio.sleep(0.5)
        assert await mesh.commit(lease) is not None
        await asyncio.sleep(2)
    assert set(traffic.after(began)) == {"v2"}, traffic.after(began)
    assert len(traffic.answers) > 500
    assert shop.filters() == []
    after = shop.route()
    assert [one["weight"] for one in after["spec"]["http"][1]["route"]] == [0, 100]
    assert after["metadata"].get("annotations") == before["metadata"].get("annotations")
    assert await mesh.commit(lease) is None


@pytest.mark.parametrize("point", ["before the base is written", "after it"])
async def test_any_net_finishes_a_commit_that_stopped_half_way(shop: Shop, point: str) -> None:
    mesh = shop.mesh(maxUnattended=2)
    lease = await shop.take(mesh, ttl=2)
    await mesh.apply(lease, split(100))
    await shop.until("v2")
    overlayer = mesh.ledger.overlayer
    assert isinstance(overlayer, FilterOverlayer)

    def die(*_: object) -> Any:
        raise KeyboardInterrupt

    setattr(overlayer, "_write_base" if point.startswith("before") else "_sleep", die)
    async with shop.stream() as traffic:
        began = time.time()
        with pytest.raises(KeyboardInterrupt):
            mesh.ledger.commit(lease)
        guard = shop.mesh()
        await guard.sweep()
        await asyncio.sleep(3.5)  # longer than proxies and guards wait for a sign of life
        assert any("had not renewed" in one for one in await guard.sweep())
        await asyncio.sleep(1)
    assert set(traffic.after(began)) == {"v2"}
    assert shop.filters() == []
    assert [one["weight"] for one in shop.route()["spec"]["http"][1]["route"]] == [0, 100]


async def test_a_late_writer_is_inert_and_swept(shop: Shop) -> None:
    mesh = shop.mesh()
    first = await shop.take(mesh)
    await mesh.apply(first, split(100))
    (zombies,) = shop.filters()
    second = await shop.take(mesh)
    await mesh.apply(second, split(0))
    late = {key: zombies["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    shop.api.apply(ENVOY_FILTER, {**zombies, "metadata": late})
    await asyncio.sleep(1.5)
    assert len(shop.filters()) == 2
    assert await shop.answers(100) == {"v1": 100}
    done = await mesh.sweep()
    assert any(f"#{first.holder.fencing} that had no lease" in one for one in done), done
    assert len(shop.filters()) == 1
    with pytest.raises(LeaseLost):
        await mesh.apply(first, split(100))
    shop.api.delete(LEASE, "autopilot.reviews", shop.scene.namespace)
    await asyncio.sleep(5)  # as often as guards look for what lies about
    await mesh.sweep()
    assert shop.filters() == []


async def test_an_overlay_carries_requests_as_the_users_rule_does(shop: Shop) -> None:
    retries = {"attempts": 3, "perTryTimeout": "700ms", "retryOn": "5xx,409", "backoff": "50ms"}
    headers = {"request": {"set": {"x-a": "1"}, "remove": ["x-b"]}, "response": {"add": {"x-c": "2"}}}
    shop.api.patch(
        VIRTUAL_SERVICE,
        "reviews",
        shop.scene.namespace,
        [
            {"op": "add", "path": "/spec/http/1/timeout", "value": "1m30s"},
            {"op": "add", "path": "/spec/http/1/retries", "value": retries},
            {"op": "add", "path": "/spec/http/1/headers", "value": headers},
        ],
    )
    mesh = shop.mesh()
    lease = await shop.take(mesh)
    await mesh.apply(lease, split(20))

    async def there(name: Callable[[str], bool]) -> Object:
        for _ in range(50):
            if found := [one for one in await shop.routes() if name(one["name"])]:
                return found[0]
            await asyncio.sleep(0.1)
        raise AssertionError("no such route")

    laid = await there(lambda name: ".overlay-" in name)
    base = await there(lambda name: name == "everybody")
    assert base["metadata"]["filter_metadata"].pop(standing_filter.FILTER)["overlay"]
    laid["request_headers_to_remove"].remove(HEADER)
    for one in (laid, base):
        one["route"].pop("weighted_clusters", None)
        one["route"].pop("cluster", None)
        for key in ("name", "match", "decorator"):
            one.pop(key)
    assert laid == base
    await mesh.lift(lease)


async def test_edits_of_the_route_beneath_are_the_users(shop: Shop) -> None:
    mesh = shop.mesh()
    lease = await shop.take(mesh)
    await mesh.apply(lease, split(10))
    name, namespace = "reviews", shop.scene.namespace
    shop.api.patch(VIRTUAL_SERVICE, name, namespace, [{"op": "add", "path": "/spec/http/1/timeout", "value": "3s"}])
    await mesh.renew(lease)
    (body,) = shop.filters()
    assert body["spec"]["configPatches"][1]["patch"]["value"]["route"]["timeout"] == "3s"
    shop.api.delete(ENVOY_FILTER, body["metadata"]["name"], ROOT)
    await mesh.renew(lease)
    assert len(shop.filters()) == 1
    shop.api.patch(
        VIRTUAL_SERVICE, name, namespace, [{"op": "replace", "path": "/spec/http/1/route/1/weight", "value": 60}]
    )
    for attempt in (lambda: mesh.renew(lease), lambda: mesh.apply(lease, split(20))):
        awaited: Awaitable[object] = attempt()
        with pytest.raises(TakenOver, match="those changes were kept"):
            await awaited
    await mesh.lift(lease)
    assert [one["weight"] for one in shop.route()["spec"]["http"][1]["route"]] == [100, 60]
    shop.api.patch(
        VIRTUAL_SERVICE,
        name,
        namespace,
        [
            {"op": "replace", "path": "/spec/http/1/route/1/weight", "value": 0},
            {"op": "add", "path": "/spec/http/1/mirror", "value": {"host": "reviews", "subset": "v2"}},
        ],
    )
    later = await shop.take(mesh)
    with pytest.raises(InvalidChange, match="has mirror, which driver envoyfilter cannot carry over"):
        await mesh.apply(later, split(20))
    assert shop.filters() == []
    await mesh.lift(later)


async def test_requests_that_come_through_a_gateway_are_split_too(shop: Shop, tmp_path: Path) -> None:
    """A VirtualService for a name of the outside, beside the one that sidecars follow."""
    inside = shop.route()["spec"]["http"]
    outside = {
        "apiVersion": VIRTUAL_SERVICE.api_version,
        "kind": VIRTUAL_SERVICE.kind,
        "metadata": {"name": "outside", "namespace": shop.scene.namespace},
        "spec": {"hosts": ["shop.example.com"], "gateways": ["shop"], "http": inside},
    }
    shop.api.create(VIRTUAL_SERVICE, outside)
    within = shop.scene
    async with ingress.gateway(shop.api, within.namespace, "shop.example.com", tmp_path) as through:
        shop.enter(through, "shop.example.com")
        await shop.until("v1", within=20)
        mesh = shop.mesh(maxUnattended=4)
        lease = await shop.take(mesh)
        deadline = (await mesh.apply(lease, split(100))).deadline
        assert deadline is not None
        await shop.until("v2")
        assert await shop.answers(40, {HEADER: "1"}) == {"v2": 40}
        shop.enter(within, within.host)
        await shop.until("v2")
        await asyncio.sleep(max(0.0, deadline + 1 - time.time()))
        assert await shop.answers(100) == {"v1": 100}
        shop.enter(through, "shop.example.com")
        assert await shop.answers(100) == {"v1": 100}
        await mesh.lift(lease)


async def test_when_everything_of_ours_is_killed_proxies_take_the_base(shop: Shop) -> None:
    words = (sys.executable, "-m", "tests.kube.test_envoyfilter", str(shop.kubeconfig), shop.scene.namespace)
    process = await asyncio.create_subprocess_exec(*words, cwd=Path(__file__).parents[2])
    async with shop.stream() as traffic:
        await shop.until("v2", within=30)
        began = time.time()
        await asyncio.sleep(5)  # longer than proxies wait
        killed = time.time()
        process.send_signal(signal.SIGKILL)
        await process.wait()
        (body,) = shop.filters()
        laid = laid_by(body)
        assert laid is not None
        await asyncio.sleep(laid.deadline - time.time() + 2)
    assert set(traffic.between(began, killed)) == {"v2"}
    assert traffic.after(0)[""] == 0
    assert set(traffic.after(laid.deadline + 1)) == {"v1"}
    late = [began for began, version in traffic.answers if version == "v2"]
    print(f"killed {laid.deadline - killed:.2f} s before the deadline; v2 until {max(late) - laid.deadline:.3f} s")


async def test_a_target_without_a_route_is_split_and_gets_one_by_a_commit(shop: Shop) -> None:
    shop.api.delete(VIRTUAL_SERVICE, "reviews", shop.scene.namespace)
    mesh = shop.mesh()
    lease = await shop.take(mesh)
    await mesh.apply(lease, split(100))
    await shop.until("v2")
    assert shop.api.list(VIRTUAL_SERVICE, shop.scene.namespace) == []
    async with shop.stream() as traffic:
        await mesh.commit(lease)
        await asyncio.sleep(1)
    assert set(traffic.after(0)) == {"v2"}
    (made,) = shop.api.list(VIRTUAL_SERVICE, shop.scene.namespace)
    assert "labels" not in made["metadata"]
    assert shop.filters() == []


async def _operate(kubeconfig: str, namespace: str) -> None:
    """Lays everything over to v2 and renews, until it is killed."""
    spec = {"provider": "istio", "driver": "envoyfilter", "kubeconfig": kubeconfig, "maxUnattended": 3}
    mesh = KubeMesh(ClusterMesh.model_validate({"metadata": {"name": "lab"}, "spec": spec}), Path(kubeconfig).parent)
    target = Target(mesh="lab", namespace=namespace, service="reviews")
    lease = await mesh.acquire(target, [Aspect.TRAFFIC], operation="canary/lab/test/reviews", token="t", ttl=60)
    await mesh.apply(lease, split(100))
    for _ in range(120):
        await asyncio.sleep(0.5)
        await mesh.renew(lease)


if __name__ == "__main__":
    asyncio.run(_operate(*sys.argv[1:]))
