"""Gateway API: weights of backends in HTTPRoutes and GRPCRoutes, on Gateways and on Services (GAMMA).

Arms are Services, by their exact names.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.client.resources import GRPC_ROUTE, HTTP_ROUTE, Resource
from autopilot.mesh.kube.routes.backends import Arms, Backend, service_backend
from autopilot.mesh.kube.routes.base import Route, Rule, own, rule_key, service_of, words_of
from autopilot.mesh.kube.routes.service_arms import ServiceArms
from autopilot.mesh.kube.routes.weight_patch import Mark, told_apart
from autopilot.mesh.model import Target


class GatewayRoutes(ServiceArms):
    """HTTPRoutes and GRPCRoutes whose rules lead to a target's arms."""

    provider = "gateway_api"
    kinds: tuple[Resource, ...] = (HTTP_ROUTE, GRPC_ROUTE)

    def rules(self, body: Object) -> list[Rule]:
        """The rules of a route."""
        rules = (body.get("spec") or {}).get("rules") or []
        namespace = body["metadata"]["namespace"]
        keys = told_apart(rule_key(rule.get("name"), rule.get("matches")) for rule in rules)
        return [
            Rule(
                key=key,
                path=f"/spec/rules/{index}/backendRefs",
                name=str(rule.get("name") or ""),
                words=words_of(rule.get("name"), rule.get("matches")),
                backends=tuple(backend_of(one, namespace) for one in rule.get("backendRefs") or []),
                weights=tuple(one.get("weight") for one in rule.get("backendRefs") or []),
                implied=1,
            )
            for index, (key, rule) in enumerate(zip(keys, rules, strict=True))
        ]

    def named(self, target: Target, bodies: Iterable[Object]) -> Arms:
        """Services that routes on the target's Service lead to, or that share a rule with the target."""
        mine = service_backend(target.service, target.namespace)
        found: dict[str, tuple[Backend, ...]] = {}
        for body in bodies:
            everything = parents(body) == {mine}
            for rule in self.rules(body):
                if everything or mine in rule.backends:
                    found |= {one.name: (one,) for one in rule.backends if one.namespace == target.namespace}
        return found

    def entry(self, like: Object, backend: Backend, weight: int, namespace: str) -> Object:
        """Another backend for what `like` carries: with its port, and its filters."""
        made = copy.deepcopy({key: value for key, value in like.items() if key not in ("weight", "namespace")})
        where = {"namespace": backend.namespace} if backend.namespace != namespace else {}
        return {**made, **where, "name": backend.name, "weight": weight}

    def make(self, target: Target, weights: Mapping[str, int], arms: Arms, mark: Mark) -> tuple[Resource, Object]:
        """An HTTPRoute of our own on the target's Service."""
        ports = (service_of(self._api, target).get("spec") or {}).get("ports") or []
        port = ports[0]["port"] if ports else 80
        backends = [
            self.entry({"port": port}, arms[arm][0], weight, target.namespace) for arm, weight in weights.items()
        ]
        spec = {
            "parentRefs": [{"group": "", "kind": "Service", "name": target.service, "port": port}],
            "rules": [{"backendRefs": backends}],
        }
        return HTTP_ROUTE, own(HTTP_ROUTE, target, spec, mark)

    def unready(self, route: Route) -> str:
        """What its parents' controllers say of this generation; one parent that has taken it is enough."""
        generation = route.body["metadata"].get("generation", 0)
        parents = (route.body.get("status") or {}).get("parents") or []
        said = [_state(parent, generation) for parent in parents]
        if not said:
            return f"{route.name} has no status: no controller has processed it yet; check that one is installed"
        return "" if "" in said else f"{route.name}: {said[0]}"


def _state(parent: Mapping[str, Any], generation: int) -> str:
    conditions = {one["type"]: one for one in parent.get("conditions") or []}
    for kind in ("Accepted", "ResolvedRefs"):
        one = conditions.get(kind)
        if one is None or one.get("observedGeneration", generation) < generation:
            return f"{parent.get('controllerName', 'its controller')} has not processed this generation yet"
        if one["status"] != "True":
            return f"{kind} is {one['status']}: {one.get('message') or one.get('reason')}"
    return ""


def parents(body: Object) -> set[Backend]:
    """The Services that a route is on."""
    namespace = body["metadata"]["namespace"]
    given = (body.get("spec") or {}).get("parentRefs") or []
    return {backend_of(one, namespace) for one in given if one.get("kind") == "Service"}


def backend_of(reference: Mapping[str, Any], namespace: str) -> Backend:
    """What a backendRef leads to."""
    name, where = str(reference.get("name", "")), str(reference.get("namespace") or namespace)
    kind = reference.get("kind", "Service")
    if kind == "Service" and reference.get("group", "") in ("", "core"):
        return service_backend(name, where)
    return Backend(host=f"{kind} {where}/{name}")
