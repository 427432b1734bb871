"""One target on one kind of route, and what a test does to it beside the mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import HTTP_ROUTE, VIRTUAL_SERVICE, Resource
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.model import Aspect, Lease, SplitTraffic, Target

ME = Actor(who="ann", why="a test")


class World:
    """One target on one kind of route."""

    def __init__(self, api: KubeApi, namespace: str, provider: str, open_kube: Callable[..., KubeMesh]) -> None:
        self.api, self.namespace, self.provider, self.open = api, namespace, provider, open_kube
        self.mesh: KubeMesh = open_kube(provider)
        self.target = Target(mesh="lab", namespace=namespace, service="reviews")
        istio = provider == "istio"
        self.stable, self.canary = ("v1", "v2") if istio else ("reviews-v1", "reviews-v2")
        self.resource: Resource = VIRTUAL_SERVICE if istio else HTTP_ROUTE

    def route(self) -> Object:
        found = self.api.get(self.resource, "reviews", self.namespace)
        assert found is not None
        return found

    def written(self) -> list[int | None]:
        """The weights of the shared rule, as they stand in the object."""
        return [one.get("weight") for one in self.rule(self.route())]

    def rule(self, body: Object) -> list[dict[str, Any]]:
        spec = body["spec"]
        return spec["http"][-1]["route"] if self.provider == "istio" else spec["rules"][-1]["backendRefs"]

    @property
    def place(self) -> str:
        return "/spec/http/1/route" if self.provider == "istio" else "/spec/rules/0/backendRefs"

    def edit(self, *operations: dict[str, Any]) -> None:
        """Somebody else writes the route."""
        self.api.patch(self.resource, "reviews", self.namespace, operations)

    async def take(
        self,
        operation: str = "canary/lab/test/reviews",
        token: str = "run",
        mesh: KubeMesh | None = None,
        ttl: float = 60,
    ) -> Lease:
        return await (mesh or self.mesh).acquire(
            self.target, [Aspect.TRAFFIC], operation=operation, token=token, ttl=ttl, by=ME
        )

    def split(self, canary: float) -> list[SplitTraffic]:
        return [SplitTraffic(weights={self.stable: 100 - canary, self.canary: canary})]
