"""SMI's TrafficSplit: weights of backend Services behind a root Service. The project is archived, its API lives on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.client.resources import TRAFFIC_SPLIT, Resource
from autopilot.mesh.kube.routes.backends import Arms, Backend, service_backend
from autopilot.mesh.kube.routes.base import Rule, own, service_of
from autopilot.mesh.kube.routes.service_arms import ServiceArms
from autopilot.mesh.kube.routes.weight_patch import Mark
from autopilot.mesh.model import Target


class SplitRoutes(ServiceArms):
    """TrafficSplits whose backends are a target's arms."""

    provider = "smi"
    kinds: tuple[Resource, ...] = (TRAFFIC_SPLIT,)

    def rules(self, body: Object) -> list[Rule]:
        """A TrafficSplit is one rule; what it is a rule for is its root service."""
        backends, namespace = (body.get("spec") or {}).get("backends") or [], body["metadata"]["namespace"]
        return [
            Rule(
                key="backends",
                path="/spec/backends",
                name="",
                words=f"the split of {root_of(body)}",
                backends=tuple(service_backend(str(one.get("service", "")), namespace) for one in backends),
                weights=tuple(one.get("weight") for one in backends),
                implied=0,
            )
        ]

    def named(self, target: Target, bodies: Iterable[Object]) -> Arms:
        """The backends of its splits."""
        mine = [rule for body in bodies if root_of(body) == target.service for rule in self.rules(body)]
        return {one.name: (one,) for rule in mine for one in rule.backends}

    def entry(self, like: Object, backend: Backend, weight: int, namespace: str) -> Object:
        """A backend for another arm."""
        del like, namespace
        return {"service": backend.name, "weight": weight}

    def make(self, target: Target, weights: Mapping[str, int], arms: Arms, mark: Mark) -> tuple[Resource, Object]:
        """A TrafficSplit of our own."""
        service_of(self._api, target)
        backends = [{"service": arms[arm][0].name, "weight": weight} for arm, weight in weights.items()]
        return TRAFFIC_SPLIT, own(TRAFFIC_SPLIT, target, {"service": target.service, "backends": backends}, mark)

    def unready(self, route: object) -> str:
        """A TrafficSplit has no status: the measured split shows what proxies do."""
        del route
        return ""


def root_of(body: Object) -> str:
    """The name of its root service."""
    return str((body.get("spec") or {}).get("service", "")).split(".")[0]
