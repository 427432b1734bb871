"""Rules of any route in a cluster, read for where they lead: of every kind, whether or not it is driven."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.client.resources import (
    GRPC_ROUTE,
    HTTP_ROUTE,
    LINKERD_HTTP_ROUTE,
    TCP_ROUTE,
    TLS_ROUTE,
    TRAFFIC_SPLIT,
    UDP_ROUTE,
    VIRTUAL_SERVICE,
    Resource,
)
from autopilot.mesh.kube.routes.backends import Arms, Backend
from autopilot.mesh.kube.routes.base import Routes, Rule, words_of
from autopilot.mesh.kube.routes.gateway_api import backend_of
from autopilot.mesh.kube.routes.istio import destination_of

GATEWAY_KINDS = (HTTP_ROUTE, GRPC_ROUTE, TLS_ROUTE, TCP_ROUTE, UDP_ROUTE, LINKERD_HTTP_ROUTE)
"""All that are written like the Gateway API's; Linkerd has one in a group of its own."""
ALL_KINDS = (VIRTUAL_SERVICE, *GATEWAY_KINDS, TRAFFIC_SPLIT)


@dataclass(frozen=True, slots=True)
class RouteDestination:
    """One rule of any route in the cluster."""

    resource: Resource
    body: Object
    name: str
    """The rule's own; may be empty."""
    words: str
    protocol: str
    backends: tuple[Backend, ...]
    """Those that get some of its requests."""
    raw: Object
    """As it is written."""
    rule: Rule | None = None
    """As the driver reads it; None where it does not drive such rules."""

    @property
    def namespace(self) -> str:
        """Its object's."""
        return str(self.body["metadata"]["namespace"])

    @property
    def object(self) -> str:
        """Its object's name."""
        return str(self.body["metadata"]["name"])

    @property
    def route(self) -> str:
        """`Kind namespace/name`, for people."""
        kind = self.resource.kind if self.resource is not LINKERD_HTTP_ROUTE else "Linkerd HTTPRoute"
        return f"{kind} {self.namespace}/{self.object}"


def leads_of(routes: Routes, kind: Resource, body: Object) -> Iterable[RouteDestination]:
    """Every rule of an object; those of the driver's kinds as it reads them, too."""
    driven = {rule.path: rule for rule in routes.rules(body)} if kind in routes.kinds else {}
    for path, protocol, name, raw, weights in _rules(kind, body):
        backends = tuple(backend for backend, weight in weights if weight)
        rule = driven.get(path)
        words = rule.words if rule else words_of(name, raw.get("match") or raw.get("matches"))
        yield RouteDestination(kind, body, name, words, protocol, backends, raw, rule)


def controller(body: Object) -> str:
    """Which other controller writes an object, in words; empty where none does."""
    for one in body["metadata"].get("ownerReferences") or []:
        if one.get("controller"):
            group = str(one.get("apiVersion", "")).partition("/")[0]
            return f"{one.get('kind')} {one.get('name')} ({group})"
    return ""


def _rules(kind: Resource, body: Object) -> Iterable[tuple[str, str, str, Object, list[tuple[Backend, int]]]]:
    """Every rule of a route: JSON pointer, protocol, name, itself, and what it leads to with which weight."""
    spec, namespace = body.get("spec") or {}, body["metadata"]["namespace"]
    if kind is VIRTUAL_SERVICE:
        for protocol in ("http", "tcp", "tls"):
            for index, rule in enumerate(spec.get(protocol) or []):
                given = rule.get("route") or []
                weights = [one.get("weight") or (100 if len(given) == 1 else 0) for one in given]
                backends = [destination_of(one, namespace) for one in given]
                yield (
                    f"/spec/{protocol}/{index}/route",
                    protocol,
                    str(rule.get("name") or ""),
                    rule,
                    list(zip(backends, weights, strict=True)),
                )
    elif kind is TRAFFIC_SPLIT:
        found = [
            (backend_of({"name": one.get("service", "")}, namespace), int(one.get("weight") or 0))
            for one in spec.get("backends") or []
        ]
        yield "/spec/backends", "http", "", spec, found
    else:
        protocol = "http" if kind is GRPC_ROUTE else kind.kind.removesuffix("Route").lower()
        for index, rule in enumerate(spec.get("rules") or []):
            found = [(backend_of(one, namespace), one.get("weight", 1)) for one in rule.get("backendRefs") or []]
            yield f"/spec/rules/{index}/backendRefs", protocol, str(rule.get("name") or ""), rule, found


def hints(lead: RouteDestination, arms: Arms) -> list[str]:
    """What of a rule that is split deserves a look: values that name the version, and mirrors."""
    stable, *others = arms
    found = []
    for index, backend in enumerate(lead.rule.backends if lead.rule else ()):
        if backend in arms[stable]:
            entry = (lead.raw.get("route") or lead.raw.get("backendRefs") or lead.raw.get("backends") or [])[index]
            found += [
                f"{lead.words} of {lead.route} sets {name} to {value!r} for {stable}, and {others[0]} gets the same: "
                "does that value name the version?"
                for name, value in _texts({key: value for key, value in entry.items() if key in ("headers", "filters")})
                if stable in value.split("-") or value == stable
            ]
    mirrors = lead.raw.get("mirror"), *(one.get("destination") for one in lead.raw.get("mirrors") or [])
    mirrored = [destination_of({"destination": one}, lead.namespace) for one in mirrors if one]
    mirrored += [
        backend_of((one.get("requestMirror") or {}).get("backendRef") or {}, lead.namespace)
        for one in lead.raw.get("filters") or []
        if one.get("requestMirror")
    ]
    for arm, backends in arms.items():
        if set(mirrored) & set(backends):
            found.append(f"{lead.words} of {lead.route} mirrors requests to {arm}, and goes on to do so")
    return found


def _texts(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Every text in a value, with the name of its field, or of the header that it is the value of."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        called = value.get("name")
        for key, one in value.items():
            if key != "name":
                yield from _texts(one, called if isinstance(called, str) and key == "value" else key)
    elif isinstance(value, Sequence):
        for one in value:
            yield from _texts(one, name)
