"""SMI's TrafficSplit: weights of backend Services behind a root Service. The project is archived, its API lives on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from autopilot.mesh.kube.api import KubeApi, Object
from autopilot.mesh.kube.marks import Destination, Mark, WeightList
from autopilot.mesh.kube.marks_read import has_mark
from autopilot.mesh.kube.resources import SERVICE, TRAFFIC_SPLIT, Resource
from autopilot.mesh.kube.routes import Route, addresses, is_named_after, own, service_of
from autopilot.mesh.model import Target


class SplitRoutes:
    """TrafficSplits of the target's namespace whose root service it is."""

    provider = "smi"
    kinds: tuple[Resource, ...] = (TRAFFIC_SPLIT,)

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    def of(self, target: Target, body: Object, resource: Resource) -> Route | None:
        """The TrafficSplit as a route to the target."""
        spec = body.get("spec") or {}
        if str(spec.get("service", "")).split(".")[0] != target.service:
            # Somebody has led it elsewhere since we laid something: nothing of it concerns us but the mark.
            return Route(resource, body, ()) if has_mark(body, target.service) else None
        backends = tuple(
            Destination(arm=str(one.get("service", "")), weight=one.get("weight")) for one in spec.get("backends") or []
        )
        return Route(
            resource, body, (WeightList(key="backends", path="/spec/backends", destinations=backends, implied=0),)
        )

    def arms(self, target: Target, routes: Iterable[Route]) -> dict[str, tuple[str, ...]]:
        """The backends of its splits; without one, Services that begin with its name and a dash."""
        listed = {item.arm for route in routes for one in route.lists for item in one.destinations if item.arm}
        if not listed:
            service_of(self._api, target)
            names = (one["metadata"]["name"] for one in self._api.list(SERVICE, target.namespace))
            listed = {name for name in names if name != target.service and is_named_after(name, target.service)}
        return {name: addresses(self._api, target.namespace, name) for name in sorted(listed)}

    def entry(self, target: Target, one: WeightList, arm: str, weight: int, body: Object) -> Object:
        """A backend for another arm."""
        return {"service": arm, "weight": weight}

    def make(self, target: Target, weights: Mapping[str, int], mark: Mark) -> tuple[Resource, Object]:
        """A TrafficSplit of our own."""
        spec = {
            "service": target.service,
            "backends": [{"service": arm, "weight": weight} for arm, weight in weights.items()],
        }
        return TRAFFIC_SPLIT, own(TRAFFIC_SPLIT, target, spec, mark)

    def unready(self, route: Route) -> str:
        """A TrafficSplit has no status: the measured split shows what proxies do."""
        return ""
