"""Istio's plain API: weights in VirtualServices, arms by DestinationRule subsets or by Services of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.api_errors import Absent, Forbidden
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import DESTINATION_RULE, SERVICE, VIRTUAL_SERVICE, Resource
from autopilot.mesh.kube.routes import fault_marks
from autopilot.mesh.kube.routes.backends import Arms, Backend, host_of, meant, service_backend
from autopilot.mesh.kube.routes.base import (
    Rule,
    addresses,
    arms_of,
    own,
    pods,
    rule_key,
    selector_of,
    service_of,
    words_of,
)
from autopilot.mesh.kube.routes.weight_patch import Mark, mark_of, told_apart
from autopilot.mesh.model import Target
from autopilot.spec.values.arms import kind_of, name_of


class IstioRoutes:
    """VirtualServices whose rules lead to a target's arms.

    Args:
        api: the cluster.
        root: Istio's root namespace, whose DestinationRules hold for all others.
    """

    provider = "istio"
    kinds: tuple[Resource, ...] = (VIRTUAL_SERVICE,)

    def __init__(self, api: KubeApi, root: str = "istio-system") -> None:
        self._api = api
        self._root = root

    def rules(self, body: Object) -> list[Rule]:
        """The HTTP rules that have destinations; copies that faults have put before them are none of anybody's."""
        if fault_marks.is_ours(body):
            return []
        namespace = body["metadata"]["namespace"]
        rules = [
            (index, rule) for index, rule in enumerate(fault_marks.rules_of(body)) if not fault_marks.is_copy(rule)
        ]
        keys = told_apart(rule_key(rule.get("name"), rule.get("match")) for _, rule in rules)
        return [
            Rule(
                key=key,
                path=f"/spec/http/{index}/route",
                name=str(rule.get("name") or ""),
                words=words_of(rule.get("name"), rule.get("match")),
                backends=tuple(destination_of(one, namespace) for one in rule.get("route") or []),
                weights=tuple(one.get("weight") for one in rule.get("route") or []),
                implied=0,
            )
            for key, (index, rule) in zip(keys, rules, strict=True)
        ]

    def shares(self, target: Target, body: Object) -> Callable[[Object], Mapping[str, float]]:
        """Tells of a rule of this VirtualService how it shares its requests: percent by arm, elsewhere under ""."""
        mark = mark_of(body, target.service)
        laid = arms_of(mark, target) if mark else {}

        def shared(rule: Object) -> Mapping[str, float]:
            given = rule.get("route") or []
            backends = tuple(destination_of(one, body["metadata"]["namespace"]) for one in given)
            found = Rule("", "", "", "", backends, tuple(one.get("weight") for one in given), 0)
            return found.listed({**_at_own_host(target, backends), **laid}).shares

        return shared

    def named(self, target: Target, bodies: Iterable[Object]) -> Arms:
        """The target's subsets that rules lead to, and the target as a whole where one does."""
        return _at_own_host(target, [one for body in bodies for rule in self.rules(body) for one in rule.backends])

    def known(self, target: Target) -> Arms:
        """The subsets of the target's DestinationRules."""
        return self._subset_backends(target)

    def resolve(self, target: Target, arm: str) -> Backend:
        """A subset of the target, or a Service of its namespace."""
        name, kind, subsets = name_of(arm), kind_of(arm), self._subset_backends(target)
        subset = subsets.get(name) if kind != "service" else None
        service = self._api.get(SERVICE, name, target.namespace) if kind != "subset" else None
        if subset and service:
            raise InvalidChange(
                f"arm {name} of {target.ref} may be subset {name} of its DestinationRule or Service {name}: write "
                f"{{subset: {name}}} or {{service: {name}}}"
            )
        if subset:
            return subset[0]
        if service:
            return service_backend(name, target.namespace)
        known = ", ".join(subsets) or "none"
        raise InvalidChange(
            f"{target.ref} has no arm {arm}: no DestinationRule for host {_host(target)} has such a subset (there: "
            f"{known}), and namespace {target.namespace} has no Service of that name; write the exact name of either"
        )

    def endpoints(self, backend: Backend) -> tuple[str, ...]:
        """Ready pods of a subset, or ready endpoints of a Service."""
        if not backend.namespace:
            return ()
        if not backend.subset:
            return addresses(self._api, backend.namespace, backend.name)
        target = Target(mesh="", namespace=backend.namespace, service=backend.name)
        selector = (service_of(self._api, target).get("spec") or {}).get("selector") or {}
        labels = self.subsets(target).get(backend.subset)
        return () if labels is None else pods(self._api, backend.namespace, {**selector, **labels})

    def entry(self, like: Object, backend: Backend, weight: int, namespace: str) -> Object:
        """Another destination for what `like` carries: with its headers, and its port."""
        made = copy.deepcopy({key: value for key, value in like.items() if key != "weight"})
        destination = dict(made.get("destination") or {})
        written = destination.get("host", "")
        if host_of(written, namespace) != backend.host:
            near = backend.namespace == namespace and "." not in written
            destination["host"] = backend.name if near else backend.host
        destination.pop("subset", None)
        if backend.subset:
            destination["subset"] = backend.subset
        return {**made, "destination": destination, "weight": weight}

    def make(self, target: Target, weights: Mapping[str, int], arms: Arms, mark: Mark) -> tuple[Resource, Object]:
        """A VirtualService of our own."""
        service_of(self._api, target)
        route = [self.entry({}, arms[arm][0], weight, target.namespace) for arm, weight in weights.items()]
        spec = {"hosts": [target.service], "http": [{"route": route}]}
        return VIRTUAL_SERVICE, own(VIRTUAL_SERVICE, target, spec, mark)

    def labels(self, namespace: str, service: str, arm: str | None) -> dict[str, str]:
        """What the pods of a service bear, or those of one version of it: a subset, or a Service of its own.

        Raises:
            InvalidChange: there is no such service or version, or it selects no pods.
        """
        target = Target(mesh="", namespace=namespace, service=service)
        if arm is None or arm == service:
            return selector_of(self._api, target)
        backend = self.resolve(target, arm)
        if backend.subset:
            return {**selector_of(self._api, target), **self.subsets(target)[backend.subset]}
        return selector_of(self._api, target.model_copy(update={"service": backend.name}))

    def unready(self, route: object) -> str:
        """Istio says nothing of VirtualServices unless it is told to: the measured split shows what proxies do."""
        del route
        return ""

    def _subset_backends(self, target: Target) -> dict[str, tuple[Backend, ...]]:
        return {name: (Backend(host=_host(target), subset=name),) for name in self.subsets(target)}

    def subsets(self, target: Target) -> dict[str, dict[str, str]]:
        """The target's subsets, by their pods' labels: of its own namespace, then of the root, then of callers'."""
        found: dict[str, dict[str, str]] = {}
        for rule in sorted(self._destination_rules(target), key=lambda one: self._nearness(one, target)):
            for subset in rule["spec"].get("subsets") or []:
                found.setdefault(subset["name"], subset.get("labels") or {})
        return found

    def _nearness(self, rule: Object, target: Target) -> tuple[bool, int]:
        namespace = _namespace(rule, target)
        place = 0 if namespace == target.namespace else 1 if namespace == self._root else 2
        return rule["spec"].get("host", "").startswith("*"), place

    def _destination_rules(self, target: Target) -> list[Object]:
        wanted = _host(target)
        try:
            rules = self._api.list(DESTINATION_RULE)
        except Absent:
            return []
        except Forbidden:  # what lies in other namespaces is then not seen
            rules = self._api.list(DESTINATION_RULE, target.namespace)
        return [
            rule
            for rule in rules
            if fnmatchcase(wanted, host_of(rule["spec"].get("host", ""), _namespace(rule, target)).replace("[", "[[]"))
        ]


def unresolved(body: Object, hosts: Iterable[str]) -> dict[str, str]:
    """Hosts in a VirtualService's destinations that Istio takes as they are, and that were meant for one of these.

    Returns:
        What is written → the full name of the host that is meant.
    """
    wanted = set(hosts)
    spec = body.get("spec") or {}
    said = {
        str((one.get("destination") or {}).get("host", ""))
        for kind in ("http", "tcp", "tls")
        for rule in spec.get(kind) or []
        for one in rule.get("route") or []
    }
    return {host: meant(host) for host in sorted(said) if meant(host) in wanted}


def _host(target: Target) -> str:
    return service_backend(target.service, target.namespace).host


def _namespace(rule: Object, target: Target) -> str:
    return str((rule.get("metadata") or {}).get("namespace", target.namespace))


def destination_of(one: Mapping[str, Any], namespace: str) -> Backend:
    """What an entry of a rule's `route` leads to."""
    destination = one.get("destination") or {}
    host = host_of(str(destination.get("host", "")), namespace)
    return Backend(host=host, subset=str(destination.get("subset") or ""))


def _at_own_host(target: Target, backends: Iterable[Backend]) -> dict[str, tuple[Backend, ...]]:
    """Those at the target's own host, by their subsets, or by the target's name where they have none."""
    return {one.subset or target.service: (one,) for one in backends if one.host == _host(target)}
