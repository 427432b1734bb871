"""Istio's plain API: weights in VirtualServices, arms by DestinationRule subsets or by Services of their own."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube import faults
from autopilot.mesh.kube.api import Absent, KubeApi, Object
from autopilot.mesh.kube.marks import Destination, Mark, WeightList, mark_of, told_apart
from autopilot.mesh.kube.marks_read import has_mark
from autopilot.mesh.kube.resources import DESTINATION_RULE, VIRTUAL_SERVICE, Resource
from autopilot.mesh.kube.routes import (
    Route,
    addresses,
    first_of,
    is_named_after,
    own,
    pods,
    rule_key,
    selector_of,
    service_of,
    split_rules,
)
from autopilot.mesh.model import Target

_DOMAIN = "svc.cluster.local"


class IstioRoutes:
    """VirtualServices of the target's namespace that lead to it, by their hosts or by their destinations."""

    provider = "istio"
    kinds: tuple[Resource, ...] = (VIRTUAL_SERVICE,)

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    def of(self, target: Target, body: Object, resource: Resource) -> Route | None:
        """The VirtualService as a route to the target."""
        if faults.is_ours(body):
            return None
        mark = mark_of(body, target.service)
        host = self._host(target, body)
        rules = [(index, rule) for index, rule in enumerate(faults.rules_of(body)) if not faults.is_copy(rule)]
        keys = told_apart(rule_key(rule.get("name"), rule.get("match")) for _, rule in rules)
        lists = []
        for key, (index, rule) in zip(keys, rules, strict=True):
            laid = mark.of(key) if mark else None
            known, path = laid.laid if laid else (), f"/spec/http/{index}/route"
            listed = self._listed(target, rule, host, known, key=key, path=path)
            lists.append((listed, not rule.get("match")))
        concerned = split_rules(lists, mark)
        return Route(resource, body, concerned) if concerned or has_mark(body, target.service) else None

    def shares(self, target: Target, body: Object) -> Callable[[Object], Mapping[str, float]]:
        """Tells of a rule of this VirtualService how it shares its requests: percent by arm, elsewhere under ""."""
        host, mark = self._host(target, body), mark_of(body, target.service)
        laid = {arm for one in mark.lists for arm in one.laid} if mark else ()
        return lambda rule: self._listed(target, rule, host, laid, key="", path="").shares

    def _host(self, target: Target, body: Object) -> tuple[bool, bool]:
        """Whether the VirtualService is for the target's host, and for no other of its namespace."""
        mine = host_of(target.service, target.namespace)
        hosts = {host_of(host, target.namespace) for host in (body.get("spec") or {}).get("hosts") or []}
        alone = {host for host in hosts if host.endswith(f".{target.namespace}.{_DOMAIN}")} == {mine}
        return mine in hosts, alone

    def _listed(
        self, target: Target, rule: Object, host: tuple[bool, bool], laid: Container[str], *, key: str, path: str
    ) -> WeightList:
        given = rule.get("route") or []
        names = [self._arm(target, one.get("destination") or {}) for one in given]
        arms = _ours(names, target, own=host[0], alone=host[1], laid=laid)
        items = tuple(Destination(arm, one.get("weight")) for arm, one in zip(arms, given, strict=True))
        return WeightList(key=key, path=path, destinations=items, implied=0)

    def arms(self, target: Target, routes: Iterable[Route]) -> dict[str, tuple[str, ...]]:
        """Subsets of the target's DestinationRules by their ready pods, and Services that its routes name."""
        selector = (service_of(self._api, target).get("spec") or {}).get("selector") or {}
        found: dict[str, tuple[str, ...]] = {}
        for name, labels in self._subset_labels(target).items():
            found[name] = pods(self._api, target.namespace, {**selector, **labels})
        for route in routes:
            for one in route.lists:
                for item in one.destinations:
                    if item.arm and item.arm not in found:
                        found[item.arm] = addresses(self._api, target.namespace, item.arm)
        return found

    def entry(self, target: Target, one: WeightList, arm: str, weight: int, body: Object) -> Object:
        """A destination like the rule's first, for another arm."""
        like = dict(first_of(one, body).get("destination") or {})
        if arm in self._subset_labels(target):
            like |= {"host": target.service, "subset": arm}
        else:
            like.pop("subset", None)
            like["host"] = arm
        return {"destination": like, "weight": weight}

    def make(self, target: Target, weights: Mapping[str, int], mark: Mark) -> tuple[Resource, Object]:
        """A VirtualService of our own."""
        subsets = self._subset_labels(target)
        route = [
            {
                "destination": {"host": target.service, "subset": arm} if arm in subsets else {"host": arm},
                "weight": weight,
            }
            for arm, weight in weights.items()
        ]
        spec = {"hosts": [target.service], "http": [{"route": route}]}
        return VIRTUAL_SERVICE, own(VIRTUAL_SERVICE, target, spec, mark)

    def labels(self, namespace: str, service: str, arm: str | None) -> dict[str, str]:
        """What the pods of a service bear, or those of one version of it: a subset, or a Service of its own.

        Raises:
            InvalidChange: there is no such service or version, or it selects no pods.
        """
        target = Target(mesh="", namespace=namespace, service=service)
        selector = selector_of(self._api, target)
        if arm is None or arm == service:
            return selector
        subsets = self._subset_labels(target)
        if arm in subsets:
            return {**selector, **subsets[arm]}
        if is_named_after(arm, service):
            return selector_of(self._api, target.model_copy(update={"service": arm}))
        raise InvalidChange(
            f"{namespace}/{service} has no version {arm}; it has {', '.join(sorted(subsets)) or 'none that have names'}"
        )

    def unready(self, route: Route) -> str:
        """Istio says nothing of VirtualServices unless it is told to: the measured split shows what proxies do."""
        return ""

    def _destination_rules(self, target: Target) -> list[Object]:
        wanted = host_of(target.service, target.namespace)
        try:
            rules = self._api.list(DESTINATION_RULE, target.namespace)
        except Absent:
            return []
        return [rule for rule in rules if host_of(rule["spec"].get("host", ""), target.namespace) == wanted]

    def _subset_labels(self, target: Target) -> dict[str, dict[str, str]]:
        return {
            subset["name"]: subset.get("labels") or {}
            for rule in self._destination_rules(target)
            for subset in rule["spec"].get("subsets") or []
        }

    def _arm(self, target: Target, destination: Mapping[str, Any]) -> tuple[str, bool]:
        """What an arm there would be called, and whether it is certain: a destination of the target's own host."""
        host = host_of(destination.get("host", ""), target.namespace)
        if host == host_of(target.service, target.namespace):
            return str(destination.get("subset") or target.service), True
        name, _, rest = host.partition(".")
        return (name if rest == f"{target.namespace}.{_DOMAIN}" else ""), False


def _ours(
    names: Sequence[tuple[str, bool]], target: Target, *, own: bool, alone: bool, laid: Container[str]
) -> list[str]:
    """Which destinations of a rule are arms, by their names; empty for somebody else's.

    Another Service of the namespace is a version of the target where the route is the target's alone, or where a rule
    that leads to the target, or to what is named after it, is under the target's host too; or where it is named after
    the target itself beside it, or was laid there by us.
    """
    leads = any(certain for _, certain in names)
    named = any(is_named_after(name, target.service) for name, _ in names)
    every = own and (alone or leads or named)
    return [
        name if certain or every or name in laid or (leads and is_named_after(name, target.service)) else ""
        for name, certain in names
    ]


def host_of(host: str, namespace: str) -> str:
    """A host as Istio reads it in this namespace: short names are made whole."""
    parts = host.split(".")
    if len(parts) == 1:
        return f"{host}.{namespace}.{_DOMAIN}"
    if len(parts) == 2 or (len(parts) == 3 and parts[2] == "svc"):
        return f"{parts[0]}.{parts[1]}.{_DOMAIN}"
    return host
