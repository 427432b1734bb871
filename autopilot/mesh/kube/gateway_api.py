"""Gateway API: weights of backends in HTTPRoutes and GRPCRoutes, on Gateways and on Services (GAMMA).

Arms are Services. A route is the target's where its parent is the target, where the target is one of its backends, or
where it bears the target's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autopilot.mesh.kube.api import KubeApi, Object
from autopilot.mesh.kube.marks import Destination, Mark, WeightList, mark_of, told_apart
from autopilot.mesh.kube.marks_read import has_mark
from autopilot.mesh.kube.resources import GRPC_ROUTE, HTTP_ROUTE, SERVICE, Resource
from autopilot.mesh.kube.routes import (
    Route,
    addresses,
    first_of,
    is_named_after,
    own,
    rule_key,
    service_of,
    split_rules,
)
from autopilot.mesh.model import Target


class GatewayRoutes:
    """HTTPRoutes and GRPCRoutes of the target's namespace."""

    provider = "gateway_api"
    kinds: tuple[Resource, ...] = (HTTP_ROUTE, GRPC_ROUTE)

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    def of(self, target: Target, body: Object, resource: Resource) -> Route | None:
        """The object as a route to the target."""
        spec = body.get("spec") or {}
        rules = spec.get("rules") or []
        mark = mark_of(body, target.service)
        concerned = _concerned(target, body, rules)
        marked = has_mark(body, target.service)
        if not any(concerned) and not marked:
            return None
        keys = told_apart(rule_key(rule.get("name"), rule.get("matches")) for rule in rules)
        lists = [
            (
                WeightList(
                    key=key,
                    path=f"/spec/rules/{index}/backendRefs",
                    destinations=tuple(
                        Destination(arm=_arm(backend, target) if ours else "", weight=backend.get("weight"))
                        for backend in rule.get("backendRefs") or []
                    ),
                    implied=1,
                ),
                _takes_all(rule.get("matches")),
            )
            for index, (key, rule, ours) in enumerate(zip(keys, rules, concerned, strict=True))
        ]
        found = split_rules(lists, mark)
        return Route(resource, body, found) if found or marked else None

    def arms(self, target: Target, routes: Iterable[Route]) -> dict[str, tuple[str, ...]]:
        """Services that the routes name, and those that are versions of the target by their names or selectors."""
        listed = {item.arm for route in routes for one in route.lists for item in one.destinations if item.arm}
        services = {one["metadata"]["name"]: one for one in self._api.list(SERVICE, target.namespace)}
        if not listed:
            service_of(self._api, target)
        selector = ((services.get(target.service) or {}).get("spec") or {}).get("selector") or {}
        names = {
            name
            for name, body in services.items()
            if name in listed or (name != target.service and _is_version(name, body, target, selector))
        }
        return {name: addresses(self._api, target.namespace, name) for name in sorted(names | listed)}

    def entry(self, target: Target, one: WeightList, arm: str, weight: int, body: Object) -> Object:
        """A backend like the rule's first, for another arm."""
        like = {key: value for key, value in first_of(one, body).items() if key in {"group", "kind", "port"}}
        return {**like, "name": arm, "weight": weight}

    def make(self, target: Target, weights: Mapping[str, int], mark: Mark) -> tuple[Resource, Object]:
        """An HTTPRoute of our own on the target's Service."""
        ports = (service_of(self._api, target).get("spec") or {}).get("ports") or []
        port = ports[0]["port"] if ports else 80
        backends = [{"name": arm, "port": port, "weight": weight} for arm, weight in weights.items()]
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


def _concerned(target: Target, body: Object, rules: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Which rules lead the target's traffic.

    All rules of a route on its Service alone do. Of any other route, those that list the target; where it bears the
    target's name, or is on other Services too, also those that list what is named after it, or else all.
    """
    arms = [{_arm(backend, target) for backend in rule.get("backendRefs") or []} for rule in rules]
    parents = (body.get("spec") or {}).get("parentRefs") or []
    services = {
        parent.get("name")
        for parent in parents
        if _is_service(parent) and parent.get("namespace", target.namespace) == target.namespace
    }
    if services == {target.service}:
        return [True] * len(rules)
    if target.service in services or (not services and body["metadata"]["name"] == target.service):
        named = [any(is_named_after(arm, target.service) for arm in found) for found in arms]
        return named if any(named) else [True] * len(rules)
    return [target.service in found for found in arms]


def _is_service(reference: Mapping[str, Any]) -> bool:
    return reference.get("kind") == "Service" and reference.get("group", "") in ("", "core")


def _arm(backend: Mapping[str, Any], target: Target) -> str:
    local = backend.get("namespace", target.namespace) == target.namespace
    service = backend.get("kind", "Service") == "Service" and backend.get("group", "") in ("", "core")
    return str(backend.get("name", "")) if local and service else ""


def _takes_all(matches: object) -> bool:
    """Whether a rule's matches let everything through: none, or the one that the API server writes by default."""
    return not matches or matches == [{"path": {"type": "PathPrefix", "value": "/"}}]


def _is_version(name: str, body: Object, target: Target, selector: Mapping[str, str]) -> bool:
    mine = (body.get("spec") or {}).get("selector") or {}
    return is_named_after(name, target.service) or bool(selector and selector.items() < mine.items())
