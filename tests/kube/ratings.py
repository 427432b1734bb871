"""A service called ratings whose caller has a real sidecar: what its requests meet, user by user."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import aiohttp
import pytest

from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import NETWORK_POLICY, VIRTUAL_SERVICE
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.model import Aspect, InjectFault, Lease, Target
from autopilot.spec.chaos.faults import Abort, Delay, Fault, Retries, Timeout
from autopilot.spec.chaos.scope import HeaderMatch, Scope
from tests.kube.world import ME
from tests.lab import scene
from tests.lab.pods import PORT

JASON = Scope(headers={"end-user": HeaderMatch(exact="jason")})
USER = {"end-user": "jason"}
OTHERS: tuple[dict[str, str], ...] = ({}, {"end-user": "ann"}, {"end-user": "jason2"})
EVERYBODY = Scope(percentage=100)
_RUNS = itertools.count(1)
each_fault = pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        (Delay(delay=1), "200 slow"),
        (Abort(status=500), "500"),
        (Retries(retries=0), "500"),
        (Timeout(timeout=0.2), "504"),
    ],
    ids=["delay", "abort", "retries", "timeout"],
)
"""The faults that a route can say, each with what a request meets."""


class Ratings:
    """A namespace whose `web` calls `ratings` through its sidecar."""

    def __init__(self, api: KubeApi, made: scene.Scene, session: aiohttp.ClientSession, mesh: KubeMesh) -> None:
        self.api, self.scene, self.session, self.mesh = api, made, session, mesh
        self.target = Target(mesh="lab", namespace=made.namespace, service="ratings")
        self.path = "/"
        """That requests ask for."""
        self.host = made.host

    async def take(self, ttl: float = 60, mesh: KubeMesh | None = None, operation: str = "chaos/lab/test/x") -> Lease:
        return await (mesh or self.mesh).acquire(
            self.target,
            [Aspect.FAULTS, Aspect.RESILIENCE],
            operation=operation,
            token=f"{next(_RUNS)}",
            ttl=ttl,
            by=ME,
        )

    async def lay(self, lease: Lease, *faults_: tuple[Fault, Scope | None]) -> None:
        changes = [InjectFault(fault=fault, scope=scope) for fault, scope in faults_]
        receipt = await self.mesh.apply(lease, changes, ME)
        await self.mesh.verify(receipt)

    def route(self) -> Object:
        found = self.api.get(VIRTUAL_SERVICE, "ratings", self.target.namespace)
        assert found is not None
        return found

    def edit(self, *operations: dict[str, Any]) -> None:
        """Somebody else writes the route."""
        self.api.patch(VIRTUAL_SERVICE, "ratings", self.target.namespace, operations)

    async def ask(self, headers: dict[str, str]) -> tuple[int, float]:
        began = time.monotonic()
        given = {"Host": self.host, **headers}
        async with self.session.get(f"{self.scene.client}{self.path}", headers=given) as response:
            await response.read()
            return response.status, time.monotonic() - began

    async def grpc_status(self, headers: dict[str, str]) -> str | None:
        given = {"Host": self.scene.host, "content-type": "application/grpc", **headers}
        async with self.session.post(f"{self.scene.client}/", headers=given) as response:
            return response.headers.get("grpc-status")

    async def met(self, headers: dict[str, str], number: int = 30) -> Counter[str]:
        """What so many requests met: their status, and `slow` where they took longer than half a second."""
        answers = await asyncio.gather(*(self.ask(headers) for _ in range(number)))
        return Counter(f"{status}{' slow' if seconds > 0.5 else ''}" for status, seconds in answers)

    async def until(self, headers: dict[str, str], wanted: str, within: float = 10.0) -> None:
        """Waits until all of many requests meet that, by whatever thread of a proxy, and then looks at more."""
        until = time.monotonic() + within
        while set(found := await self.met_or_closed(headers)) != {wanted}:
            assert time.monotonic() < until, f"{headers} meet {found}, and not {wanted}"
            await asyncio.sleep(0.05)
        await self.all(headers, wanted)

    async def met_or_closed(self, headers: dict[str, str]) -> Counter[str]:
        """As `met`, while listeners may be replaced: a proxy then closes connections that clients have kept."""
        try:
            return await self.met(headers)
        except aiohttp.ServerDisconnectedError:
            return Counter(closed=1)

    async def all(self, headers: dict[str, str], wanted: str, within: float = 10.0) -> None:
        """All of thirty requests meet that. A machine that is busy makes some of them slow for once, a fault always."""
        until = time.monotonic() + within
        while set(found := await self.met(headers)) != {wanted}:
            assert set(found) <= {wanted, f"{wanted} slow"}, f"{headers} meet {found}, and not {wanted} alone"
            assert time.monotonic() < until, f"{headers} go on meeting {found}, and not {wanted} alone"

    async def share(self, wanted: str, share: float, number: int, within: float = 20.0) -> None:
        """That share of so many requests meets that, once all proxies have the fault.

        Threads of a proxy take an update one after another: for a while only some requests can meet it.
        """
        allowed = 4 * math.sqrt(number * share * (1 - share))  # one false alarm in 16,000
        until = time.monotonic() + within
        while True:
            found = Counter[str]()
            for _ in range(number // 100):
                for status, seen in (await self.met({}, 100)).items():
                    found[status.removesuffix(" slow")] += seen  # of hundreds at once, on a busy machine
            assert found[wanted] + found["200"] == number, f"some meet neither: {found}"
            if abs(found[wanted] - number * share) <= allowed:
                return
            assert time.monotonic() < until, f"{found[wanted]} of {number} meet {wanted}, not {share:.0%}"

    async def nobody_but_jason(self, wanted: str) -> None:
        await self.until(USER, wanted)
        for headers in OTHERS:
            await self.all(headers, "200")

    async def nobody(self) -> None:
        for headers in (USER, *OTHERS):
            await self.until(headers, "200")

    async def behave(self, **behaviour: Any) -> None:
        for version in ("v1", "v2"):
            address = scene.pod_address(self.api, self.target.namespace, "ratings", version)
            async with self.session.post(f"http://{address}:{PORT}/_shop", json=behaviour) as response:
                assert response.status == 200

    def policies(self) -> list[Object]:
        return self.api.list(NETWORK_POLICY, self.target.namespace)


R = TypeVar("R", bound=Ratings)


@contextlib.asynccontextmanager
async def ratings_on(api: KubeApi, namespace: str, mesh: KubeMesh, kind: type[R]) -> AsyncIterator[R]:
    """Furnishes the namespace, and waits until requests are answered."""
    made = await asyncio.to_thread(scene.furnish, api, namespace, service="ratings")
    scene.subsets(api, namespace, "ratings")
    scene.virtual_service(api, namespace, "ratings", v1=100, v2=0)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        one = kind(api, made, session, mesh)
        await one.behave(errors=0.0, first_tries=0.0, delay=0.0, hang=False)
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(aiohttp.ClientError):  # its sidecar is not there yet
                    if set(await one.met({}, 3)) == {"200"}:
                        break
                await asyncio.sleep(0.2)
        yield one


def same(before: Object, after: Object) -> bool:
    """Whether nothing of an object that its user wrote has changed."""
    keys = ("labels", "annotations")
    return bool(
        before["spec"] == after["spec"]
        and all(before["metadata"].get(key) == after["metadata"].get(key) for key in keys)
    )
