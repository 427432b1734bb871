"""What an overlay's routes must say, read from the VirtualServices that it is laid over.

The weights are those that the plain driver would write: the same patch is made, and applied to a copy alone. A commit
writes it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import KubeApi, Object, Operation
from autopilot.mesh.kube.client.resources import DESTINATION_RULE, SERVICE, VIRTUAL_SERVICE
from autopilot.mesh.kube.envoyfilter.istio_route_to_envoy import carriage, header_operations
from autopilot.mesh.kube.envoyfilter.render import OverlaidRule
from autopilot.mesh.kube.routes import weight_patch
from autopilot.mesh.kube.routes.backends import host_of
from autopilot.mesh.kube.routes.base import Route, Routes, Split, beside
from autopilot.mesh.kube.routes.service_entries import http_ports
from autopilot.mesh.kube.routes.weight_patch import Mark, WeightList
from autopilot.mesh.model import Target

_DOMAIN = ".svc.cluster.local"
_INSIDE = "mesh"
_ANNOTATIONS = "/metadata/annotations"


@dataclass(frozen=True, slots=True)
class Intended:
    """One VirtualService as the plain driver would write it."""

    route: Route
    operations: tuple[Operation, ...]
    """The patch, without a mark."""
    mark: Mark
    body: Object


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """A virtual host of Envoy's."""

    context: Literal["SIDECAR_OUTBOUND", "GATEWAY"]
    host: Mapping[str, str]
    port: int | None
    """The service's; None where a gateway takes requests."""


class Reader:
    """Reads one target's routes; made anew for each look, for it remembers Services."""

    def __init__(self, api: KubeApi, routes: Routes, target: Target) -> None:
        self._api = api
        self._routes = routes
        self._target = target
        self._services: dict[str, list[int] | None] = {}

    def intended(self, route: Route, split: Split, new: Mark, before: Mark | None = None) -> Intended:
        """The VirtualService with these weights.

        Raises:
            InvalidChange: it cannot have them.
        """

        def entry(one: WeightList, arm: str, weight: int) -> Object:
            like = beside(one, route.body, split.stable)
            return self._routes.entry(like, split.arms[arm][0], weight, self._target.namespace)

        operations, mark = weight_patch.lay(route.body, route.lists, split.weights, new=new, entry=entry, before=before)
        kept = tuple(one for one in operations if not one["path"].startswith(_ANNOTATIONS))
        return Intended(route, kept, mark, patched(route.body, kept))

    def pieces(self, intended: Sequence[Intended]) -> list[OverlaidRule]:
        """What is to be overlaid, rule by rule and virtual host by virtual host.

        Raises:
            InvalidChange: some of it cannot be; nothing is overlaid by halves.
        """
        found = []
        bodies = {one.route.name: one.body for one in intended}
        for route, place in self.places([one.route for one in intended]):
            body = bodies[route.name]
            rules = body["spec"]["http"]
            for weighted in route.lists:
                index = int(weighted.path.split("/")[3])
                names = route_names(rules, index, route.name, alone=place.context == "SIDECAR_OUTBOUND")
                found.append(OverlaidRule(place.context, place.host, names, self.route(rules[index], body, place)))
        if not found:
            raise InvalidChange(
                f"no route leads to {self._target.ref} that driver envoyfilter could overlay; write a "
                "VirtualService for it"
            )
        self.refuse_hashing(one.body for one in intended)
        return found

    def default_places(self) -> list[VirtualHost]:
        """The virtual hosts that Istio makes for a service without a route; their one route is called `default`."""
        host = self._host(self._target.service)
        return [VirtualHost("SIDECAR_OUTBOUND", {"name": f"{host}:{port}"}, port) for port in self._ports(host) or []]

    def without_route(self, body: Object) -> list[OverlaidRule]:
        """The same where the target has no route yet: over Istio's own, as this VirtualService of ours would split."""
        self.refuse_hashing([body])
        return [
            OverlaidRule(
                place.context, place.host, ("default",), self.route(body["spec"]["http"][0], body, place, own=True)
            )
            for place in self.default_places()
        ]

    def places(self, routes: Iterable[Route]) -> list[tuple[Route, VirtualHost]]:
        """The virtual hosts that VirtualServices are for.

        Raises:
            InvalidChange: one is for hosts with wildcards or for none of ours, two are for one host, or a rule has
                another's name.
        """
        found, told = [], set()
        for route in routes:
            places = self._places(route)
            if not places:
                hosts = ", ".join(route.body["spec"].get("hosts") or []) or "no host"
                raise InvalidChange(
                    f"{route.name} is for {hosts}, and no Service of this cluster has that name, so driver "
                    "envoyfilter would not cover it; use driver plain"
                )
            for place in places:
                where = json.dumps([place.context, dict(place.host)], sort_keys=True)
                if where in told:
                    raise InvalidChange(
                        f"{route.name} is not the only VirtualService for {'/'.join(place.host.values())}: proxies "
                        "use one of them, and driver envoyfilter cannot tell which; merge them, or use driver plain"
                    )
                told.add(where)
                found.append((route, place))
                if place.context == "GATEWAY":
                    self._refuse_namesakes(route, place.host["domainName"])
        return found

    def _refuse_namesakes(self, route: Route, host: str) -> None:
        """Gateways put the rules of every VirtualService for a host into one table, where names tell them apart."""
        meta = route.body["metadata"]
        own = {name for rule in route.body["spec"].get("http") or [] for name in _names(rule)}
        for other in self._api.list(VIRTUAL_SERVICE, None):
            there, spec = other["metadata"], other["spec"]
            if (there["namespace"], there["name"]) == (meta["namespace"], meta["name"]):
                continue
            if host not in (spec.get("hosts") or []) or set(spec.get("gateways") or [_INSIDE]) <= {_INSIDE}:
                continue
            if shared := own & {name for rule in spec.get("http") or [] for name in _names(rule)}:
                raise InvalidChange(
                    f"VirtualService {there['namespace']}/{there['name']} is for {host} too, and has a rule called "
                    f"{min(shared)!r} as {route.name} has: give each rule its own name"
                )

    def _places(self, route: Route) -> list[VirtualHost]:
        spec = route.body["spec"]
        gateways = spec.get("gateways") or [_INSIDE]
        found = []
        for host in map(self._host, spec.get("hosts") or []):
            if "*" in host:
                raise InvalidChange(f"{route.name} is for {host}: driver envoyfilter needs hosts without wildcards")
            if _INSIDE in gateways:
                found += [
                    VirtualHost("SIDECAR_OUTBOUND", {"name": f"{host}:{port}"}, port)
                    for port in self._ports(host) or []
                ]
            if any(gateway != _INSIDE for gateway in gateways):
                found.append(VirtualHost("GATEWAY", {"domainName": host}, None))
        return found

    def route(self, rule: Object, body: Object, place: VirtualHost, *, own: bool = False) -> Object:
        """Envoy's route that carries requests as the rule does, without a match.

        Raises:
            InvalidChange: the rule says what cannot be carried over.
        """
        meta = body["metadata"]
        what = f"rule {rule.get('name') or 'without a name'} of VirtualService {meta['namespace']}/{meta['name']}"
        route, action = carriage(rule, what)
        clusters = [
            {"name": self._cluster(one.get("destination") or {}, place, what), "weight": weight}
            | header_operations(one.get("headers"), what)
            for one in rule.get("route") or []
            if (weight := int(one.get("weight") or (100 if len(rule["route"]) == 1 else 0)))
        ]
        action["weighted_clusters"] = {"clusters": clusters}
        route |= {"route": action, "decorator": {"operation": f"{meta['name']}:{place.port or ''}/*"}}
        if not own:
            path = f"/apis/networking.istio.io/v1/namespaces/{meta['namespace']}/virtual-service/{meta['name']}"
            route["metadata"] = {"filter_metadata": {"istio": {"config": path}}}
        return route

    def _cluster(self, destination: Mapping[str, Any], place: VirtualHost, what: str) -> str:
        """Istio's name of a destination's cluster, by its own rules for the port."""
        host = self._host(destination.get("host", ""))
        ports = self._ports(host) or []
        port = (destination.get("port") or {}).get("number") or (ports[0] if len(ports) == 1 else place.port)
        if not port:
            raise InvalidChange(f"{what} names no port of {host}, which has several; name one")
        return f"outbound|{port}|{destination.get('subset', '')}|{host}"

    def _host(self, host: str) -> str:
        return host_of(host, self._target.namespace)

    def _ports(self, host: str) -> list[int] | None:
        """The ports of a Service of the cluster, or of the target outside it; None for other hosts."""
        if self._target.external and host == self._target.service and host not in self._services:
            self._services[host] = http_ports(self._api, self._target)
        if host not in self._services:
            parts = host.removesuffix(_DOMAIN).split(".")
            known = host.endswith(_DOMAIN) and len(parts) == 2
            body = self._api.get(SERVICE, parts[0], parts[1]) if known else None
            self._services[host] = (
                [int(one["port"]) for one in (body.get("spec") or {}).get("ports") or []] if body else None
            )
        return self._services[host]

    def refuse_hashing(self, bodies: Iterable[Object]) -> None:
        """Refuses destinations whose hashing an overlay's route would lose.

        Raises:
            InvalidChange: with the DestinationRule's name.
        """
        hosts = {
            self._host((one.get("destination") or {}).get("host", ""))
            for body in bodies
            for rule in body["spec"].get("http") or []
            for one in rule.get("route") or []
        }
        for body in self._api.list(DESTINATION_RULE, self._target.namespace):
            if self._host(body["spec"].get("host", "")) in hosts and '"consistentHash"' in json.dumps(body["spec"]):
                raise InvalidChange(
                    f"DestinationRule {body['metadata']['name']} asks for consistent hashing, which driver envoyfilter "
                    "cannot carry over; use driver plain"
                )


def route_names(rules: Sequence[Object], index: int, what: str, *, alone: bool) -> tuple[str, ...]:
    """Names of Envoy's routes of one rule; none where it has no name, and the virtual host no other rule.

    Raises:
        InvalidChange: they cannot be told from those of another rule.
    """
    own = _names(rules[index])
    if alone and len(rules) == 1 and "" in own:
        return ()
    others = {name for at, rule in enumerate(rules) if at != index for name in _names(rule)}
    if "" in own or others & set(own):
        raise InvalidChange(
            f"rule {index + 1} of {what} has no unique name, and driver envoyfilter identifies routes by the names of "
            "their rules; give each rule its own name"
        )
    return own


def patched(body: Object, operations: Iterable[Operation]) -> Object:
    """A copy of the object after a patch that sets values, or adds to lists."""
    made = copy.deepcopy(body)
    for one in operations:
        if one["op"] == "test":
            continue
        *way, last = one["path"].strip("/").split("/")
        place: Any = made
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list) and last == "-":
            place.append(copy.deepcopy(one["value"]))
        else:
            place[int(last) if isinstance(place, list) else last] = one["value"]
    return made


def _names(rule: Object) -> tuple[str, ...]:
    name = str(rule.get("name") or "")
    matches = [match.get("name") for match in rule.get("match") or [{}]]
    return tuple(dict.fromkeys(f"{name}.{match}" if match else name for match in matches))
