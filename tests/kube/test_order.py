"""A try of a write that stands still on its way to the API server, while its successors go on: it lands nowhere.

Every write to the API server is a place where the process may be stopped (its machine paused, say) until all is over.
By each driver: splits and faults, in the user's route and in objects of our own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from autopilot.mesh.errors import LeaseLost, StaleWrite
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import ENVOY_FILTER, HTTP_ROUTE, NETWORK_POLICY, VIRTUAL_SERVICE
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.model import Aspect, Change, InjectFault, Lease, SplitTraffic, Target
from autopilot.spec.chaos.faults import Abort, Partition
from autopilot.spec.chaos.scope import HeaderMatch, Scope
from tests.kube.world import ME
from tests.lab import scene

pytestmark = pytest.mark.timeout(180)

_LIMIT = 30.0
JASON = Scope(headers={"end-user": HeaderMatch(exact="jason")})


class Stall:
    """Holds back the `point`-th write (from 0) that a mesh's API client sends, until it is let go."""

    def __init__(self, api: KubeApi, point: int) -> None:
        self.reached, self._go, self._writes = threading.Event(), threading.Event(), 0
        once = api._once

        def held(method: str, path: str, *rest: Any) -> Any:
            if method != "GET":
                self._writes += 1
                if self._writes == point + 1:
                    self.reached.set()
                    assert self._go.wait(_LIMIT), f"nobody let the write go within {_LIMIT:g} s"
            return once(method, path, *rest)

        api._once = held  # type: ignore[method-assign]

    def go(self) -> None:
        self._go.set()


class Shop:
    """One target, by one driver: three writes, and what lies in the cluster."""

    def __init__(self, api: KubeApi, namespace: str, driver: str, open_kube: Callable[..., KubeMesh]) -> None:
        self.api, self.namespace = api, namespace
        provider, _, what = driver.partition(" ")
        self.open = lambda: open_kube(provider, driver="envoyfilter" if "EnvoyFilter" in what else "plain")
        self.target = Target(mesh="lab", namespace=namespace, service="reviews")
        scene.furnish(api, namespace, sidecars=False)
        arms = ("v1", "v2")
        if provider == "istio":
            scene.subsets(api, namespace)
            scene.virtual_service(api, namespace, v1=100, v2=0)
        else:
            scene.http_route(api, namespace, reviews_v1=100, reviews_v2=0)
            arms = ("reviews-v1", "reviews-v2")
        self.aspect, self.writes = Aspect.TRAFFIC, [_split(arms, 10), _split(arms, 50), _split(arms, 100)]
        if "faults" in what:
            self.aspect, self.writes = Aspect.FAULTS, [_abort(501), _abort(502), []]
        if "partitions" in what:
            cut = InjectFault(fault=Partition(direction="egress"))
            self.aspect, self.writes = Aspect.FAULTS, [[InjectFault(fault=Partition())], [cut], []]

    def take(self) -> Lease:
        return self.open().ledger.acquire(
            self.target, [self.aspect], operation="canary/lab/test/x", token="run", ttl=60, planned_end=None, by=ME
        )

    def lies(self) -> list[tuple[str, Object]]:
        """Names and contents of everything that may steer the target."""
        own = f"meshautopilot.io/namespace={self.namespace}"
        kinds = (VIRTUAL_SERVICE, HTTP_ROUTE, NETWORK_POLICY)
        found = [one for kind in kinds for one in self.api.list(kind, self.namespace)]
        found += self.api.list(ENVOY_FILTER, "istio-system", labels=own)
        return sorted((one["metadata"]["name"], one["spec"]) for one in found)


def _split(arms: tuple[str, str], canary: float) -> Sequence[Change]:
    return [SplitTraffic(weights={arms[0]: 100 - canary, arms[1]: canary})]


def _abort(status: int) -> Sequence[Change]:
    return [InjectFault(fault=Abort(status=status), scope=JASON)]


SPLITS = ["istio", "gateway_api", "istio EnvoyFilter"]
FAULTS = ["istio faults", "istio EnvoyFilter faults", "istio partitions"]


@pytest.fixture(params=[*SPLITS, *FAULTS])
def shop(
    request: pytest.FixtureRequest, api: KubeApi, system: str, namespace: str, open_kube: Callable[..., KubeMesh]
) -> Shop:
    return Shop(api, namespace, request.param, open_kube)


@pytest.mark.parametrize("number", [1, 2])
async def test_a_try_that_stood_still_on_its_way_lands_nowhere(shop: Shop, number: int) -> None:
    """The try of one write stands still at each of its own writes; its second try and the next write go by."""
    point = 0
    while True:
        lease, late = shop.take(), shop.open()
        for earlier in range(1, number):
            shop.open().ledger.apply(lease.for_write(earlier), shop.writes[earlier - 1], ME)
        stall = Stall(late.api, point)
        trying = asyncio.create_task(
            asyncio.to_thread(late.ledger.apply, lease.for_write(number), shop.writes[number - 1], ME)
        )
        while not stall.reached.is_set() and not trying.done():
            await asyncio.sleep(0.01)
        if trying.done():  # it has no more writes than that
            await trying
            shop.open().ledger.lift(lease, ME)
            break
        for next_ in (number, number + 1):
            shop.open().ledger.apply(lease.for_write(next_), shop.writes[next_ - 1], ME)
        right = shop.lies()
        stall.go()
        with pytest.raises(StaleWrite):
            await trying
        assert shop.lies() == right, f"write {number} landed late, from its own write {point}"
        shop.open().ledger.lift(lease, ME)
        point += 1
    assert point >= 2, "it stood still at the book and at what it lays, at least"


@pytest.mark.parametrize("shop", SPLITS, indirect=True)
async def test_a_commit_means_one_write(shop: Shop) -> None:
    lease, ledger = shop.take(), shop.open().ledger
    ledger.apply(lease.for_write(1), shop.writes[0], ME)
    ledger.apply(lease.for_write(2), shop.writes[2], ME)
    with pytest.raises(StaleWrite):
        ledger.commit(lease.for_write(1), ME)
    with pytest.raises(StaleWrite):
        ledger.renew(lease.for_write(1))
    assert ledger.commit(lease.for_write(2), ME) is not None


async def test_an_earlier_run_that_asks_late_takes_nothing_from_the_later_one(shop: Shop) -> None:
    ledger = shop.open().ledger

    def asked(token: str, when: float) -> Lease:
        return ledger.acquire(
            shop.target, [shop.aspect], operation="canary/lab/test/x", token=token, ttl=60, planned_end=None, asked=when
        )

    later = asked("run-2", 200.0)
    ledger.apply(later.for_write(1), shop.writes[0], ME)
    right = shop.lies()
    with pytest.raises(StaleWrite, match="a later run"):
        asked("run-1", 100.0)
    assert shop.lies() == right
    ledger.renew(later.for_write(1))
    newest = asked("run-3", 300.0)
    with pytest.raises(LeaseLost):
        ledger.renew(later.for_write(1))
    ledger.lift(newest, ME)
    with pytest.raises(StaleWrite, match="has ended"):
        asked("run-2", 200.0)


@pytest.mark.parametrize("shop", FAULTS, indirect=True)
async def test_what_landed_late_though_and_was_left_by_its_writer_is_swept(shop: Shop) -> None:
    """The one that wrote late dies before it looks again, and the write after it had laid nothing over it."""
    before = shop.lies()
    lease, mesh = shop.take(), shop.open()
    mesh.ledger.apply(lease.for_write(2), [], ME)
    mesh.ledger._lay(lease.for_write(1), shop.writes[0], mesh.ledger._clock() + 60)
    assert shop.lies() != before
    guard = shop.open()
    guard.sweep_every = 0.0
    async with asyncio.timeout(_LIMIT):
        while shop.lies() != before:
            await guard.sweep()
            guard.ledger._looked = -1e9  # marks are looked for every few seconds: now
            await asyncio.sleep(0.05)
    mesh.ledger.renew(lease.for_write(2))
