"""An experiment that dies at each of its writes: whatever it left, a guard takes away; a late write changes nothing.

On a real API server, without Temporal and without traffic: every write of taking, laying faults for one user and for
everybody, cutting pods off, renewing and lifting is a point, struck before it, after it, and with the write arriving
when all is over. Over a route of the user's, over a service that has none, and with EnvoyFilters beside a route.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from autopilot.mesh.audit import verify
from autopilot.mesh.errors import MeshError
from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.client.resources import ENVOY_FILTER, NETWORK_POLICY, VIRTUAL_SERVICE
from autopilot.mesh.kube.envoyfilter import standing_filter
from autopilot.mesh.kube.envoyfilter.overlay import FilterOverlayer
from autopilot.mesh.kube.faults.driver import FaultDriver
from autopilot.mesh.kube.leases.ledger import KubeLedger
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.kube.routes.driver import Overlayer
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.model import Aspect, InjectFault, Target
from autopilot.spec.chaos.faults import Abort, Delay, Partition
from autopilot.spec.chaos.scope import HeaderMatch, Scope
from tests.kube.mortal import ME, Dead, Mode, MortalApi
from tests.lab import scene
from tests.lab.find import Cluster

pytestmark = pytest.mark.timeout(600)

ROOT = "istio-system"
TTL = 0.3
MODES: tuple[Mode, ...] = ("before", "after", "late")
JASON = Scope(headers={"end-user": HeaderMatch(exact="jason")})
_NUMBERS = itertools.count(1)
_TRIES = 3
_WALKS = 6


class Suite:
    """Plays cells on one target, one after the other."""

    def __init__(
        self, api: KubeApi, target: Target, kubeconfig: Path, guard: Callable[[], KubeMesh], driver: str = "plain"
    ) -> None:
        self._api, self._target, self._driver = api, target, driver
        # Proxies that keep the deadline end a walk that is slower than it.
        self._ttl = TTL if driver == "plain" else 3 * TTL
        self._kubeconfig, self._guard = kubeconfig, guard
        self._base = self._routes()
        self.violations: list[str] = []
        self.cells = 0

    async def writes(self) -> int:
        """How many writes the walk has when nothing happens to it, not even a conflict: two walks in a row agree."""
        before = -1
        for _ in range(_WALKS):
            api = await asyncio.to_thread(self._walk, -1, "before")
            await self._made_whole()
            assert self._routes() == self._base
            if api.writes == before:
                return before
            before = api.writes
        raise AssertionError(f"no two of {_WALKS} walks in a row had as many writes")

    async def cell(self, point: int, mode: Mode) -> None:
        """One death, and what came of it."""
        for _ in range(_TRIES):
            api = await asyncio.to_thread(self._walk, point, mode)
            if api.dead:
                break
            await self._made_whole()  # a slow machine may take longer than the lease lives
        else:
            self.violations.append(f"write {point}, {mode}: it never came to that write")
            return
        self.cells += 1
        await self._made_whole()
        if api.pending is not None:
            with contextlib.suppress(MeshError):
                await asyncio.to_thread(api.pending)  # it arrives at last
            await self._made_whole()
        name = f"write {point}, {mode}"
        if (now := self._routes()) != self._base:
            self.violations.append(f"{name}: the routes are {now}")
        left = self._api.list(NETWORK_POLICY, self._target.namespace)
        left += self._api.list(ENVOY_FILTER, ROOT, labels=f"meshautopilot.io/namespace={self._target.namespace}")
        if left:
            self.violations.append(f"{name}: {left[0]['metadata']['name']} stayed")
        for status in await self._guard().leases():
            if status.lease.target == self._target:
                self.violations.append(f"{name}: {status.lease.holder} still holds it")

    def _walk(self, point: int, mode: Mode) -> MortalApi:
        api = MortalApi(self._kubeconfig)
        api.point, api.mode = point, mode
        store, routes = KubeStore(api, "lab", "autopilot"), IstioRoutes(api)
        faults = FaultDriver(store, routes, self._driver, ROOT)
        overlays = Overlayer(store, routes) if self._driver == "plain" else FilterOverlayer(store, routes, ROOT)
        ledger = KubeLedger(store, overlays, 60.0, faults=faults)
        with contextlib.suppress(Dead, MeshError):
            lease = ledger.acquire(
                self._target,
                [Aspect.FAULTS, Aspect.RESILIENCE],
                operation=f"chaos/lab/kill/{next(_NUMBERS)}",
                token="run",
                ttl=self._ttl,
                planned_end=None,
                by=ME,
            )
            ledger.apply(lease, [InjectFault(fault=Abort(), scope=JASON), InjectFault(fault=Partition())], ME)
            ledger.renew(lease)
            ledger.apply(lease, [InjectFault(fault=Delay(delay=1), scope=Scope(percentage=10))], ME)
            ledger.renew(lease)
            ledger.condemn(lease, "harm")
            ledger.lift(lease, ME)
        return api

    def _routes(self) -> list[tuple[object, ...]]:
        """Every route as it stands, marks included."""
        return sorted(
            (
                str(body["metadata"]["name"]),
                str(body["spec"]),
                str(body["metadata"].get("annotations")),
                str(body["metadata"].get("labels")),
            )
            for body in self._api.list(VIRTUAL_SERVICE, self._target.namespace)
        )

    async def _made_whole(self) -> None:
        """A guard that comes up now sweeps until there is nothing left to do."""
        mesh = self._guard()
        mesh.sweep_every = 0.0
        async with asyncio.timeout(30):
            while True:
                done = await mesh.sweep()
                held = [one for one in await mesh.leases() if one.lease.target == self._target]
                if not held and not done:
                    return
                await asyncio.sleep(self._ttl / 2)


@pytest.mark.parametrize("over", ["a route", "no route", "a route by EnvoyFilters"])
async def test_death_at_any_write_leaves_nothing_behind(
    api: KubeApi, namespace: str, a_cluster: Cluster, open_kube: Callable[..., KubeMesh], over: str
) -> None:
    scene.furnish(api, namespace, sidecars=False)
    scene.subsets(api, namespace)
    driver = "envoyfilter" if "EnvoyFilters" in over else "plain"
    if over != "no route":
        scene.virtual_service(api, namespace, v1=100, v2=0)
    if driver == "envoyfilter":
        # Installed ahead: it is a standing part, and so the same points are met by every cell.
        standing_filter.install(api, ROOT)
    target = Target(mesh="lab", namespace=namespace, service="reviews")
    suite = Suite(api, target, a_cluster.kubeconfig, lambda: open_kube("istio", driver=driver), driver)
    points = await suite.writes()
    assert points >= 14
    for point, mode in itertools.product(range(points), MODES):
        await suite.cell(point, mode)
    print(f"{suite.cells} deaths")
    assert suite.violations == []
    assert suite.cells == 3 * points
    assert verify(await open_kube("istio", driver=driver).audit()) == []
