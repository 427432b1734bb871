"""What a provider must know of its kind of route; everything else is the same for all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.api import KubeApi, Object
from autopilot.mesh.kube.marks import PREFIX, Mark, WeightList
from autopilot.mesh.kube.resources import ENDPOINT_SLICE, POD, SERVICE, Resource
from autopilot.mesh.model import Target


@dataclass(frozen=True, slots=True)
class Route:
    """One object that leads traffic to a target, and the lists of it that are split."""

    resource: Resource
    body: Object
    lists: tuple[WeightList, ...]

    @property
    def name(self) -> str:
        """`Kind namespace/name`, for people."""
        meta = self.body["metadata"]
        return f"{self.resource.kind} {meta['namespace']}/{meta['name']}"


class Routes(Protocol):
    """One provider's kind of route."""

    provider: str
    """As `spec.provider` names it."""
    kinds: tuple[Resource, ...]
    """What may lead traffic to a target."""

    def of(self, target: Target, body: Object, resource: Resource) -> Route | None:
        """The object as a route to the target; None where it leads elsewhere."""
        ...

    def arms(self, target: Target, routes: Iterable[Route]) -> dict[str, tuple[str, ...]]:
        """Arm → addresses that answer for it now.

        Raises:
            InvalidChange: no such target.
        """
        ...

    def entry(self, target: Target, one: WeightList, arm: str, weight: int, body: Object) -> Object:
        """A destination for an arm that a list of this object lacks."""
        ...

    def make(self, target: Target, weights: Mapping[str, int], mark: Mark) -> tuple[Resource, Object]:
        """A route of our own, where there is none."""
        ...

    def unready(self, route: Route) -> str:
        """Why the mesh has not taken the route as it is written now; empty where it has, or never says."""
        ...


def rule_key(name: object, matches: object) -> str:
    """What a rule is told by: its name, else what it matches."""
    if isinstance(name, str) and name:
        return f"name {name}" if name == "default" or name.startswith(("match-", "name ")) else name
    if not matches:
        return "default"
    canonical = json.dumps(matches, sort_keys=True, separators=(",", ":"))
    return f"match-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def is_named_after(arm: str, service: str) -> bool:
    """Whether a Service is the target, or one of its versions by its name."""
    return arm == service or arm.startswith(f"{service}-")


def split_rules(lists: Iterable[tuple[WeightList, bool]], mark: Mark | None) -> tuple[WeightList, ...]:
    """Which rules of a route a split concerns: those that share traffic among arms, else the last that takes all.

    Rules that lead to one arm alone on some condition are somebody's own intention (a tester's header), and stay.

    Args:
        lists: each rule's list, and whether the rule takes whatever comes.
        mark: what is laid over the route; its lists concern us whatever has become of them.
    """
    found = list(lists)
    laid = {one.key for one in mark.lists} if mark else set()
    shared = tuple(
        one for one, _ in found if one.key in laid or len({item.arm for item in one.destinations if item.arm}) > 1
    )
    if shared:
        return shared
    return tuple(one for one, takes_all in found[-1:] if takes_all and any(item.arm for item in one.destinations))


def first_of(one: WeightList, body: Object) -> Object:
    """The first destination of a list, as it stands in the object; empty where there is none."""
    found: Any = body
    for part in one.path.strip("/").split("/"):
        found = found[int(part)] if part.isdigit() else found[part]
    return dict(found[0]) if found else {}


def own(resource: Resource, target: Target, spec: Object, mark: Mark) -> Object:
    """A route of our own, with its mark on it."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": f"autopilot-{target.service}",
            "namespace": target.namespace,
            "labels": {"app.kubernetes.io/managed-by": "autopilot"},
            "annotations": {PREFIX + target.service: mark.model_dump_json()},
        },
        "spec": spec,
    }


def service_of(api: KubeApi, target: Target) -> Object:
    """The target's Service.

    Raises:
        InvalidChange: there is none.
    """
    found = api.get(SERVICE, target.service, target.namespace)
    if found is None:
        names = ", ".join(sorted(one["metadata"]["name"] for one in api.list(SERVICE, target.namespace)))
        raise InvalidChange(
            f"namespace {target.namespace} has no Service {target.service}"
            + (f"; it has {names}" if names else ", and no other Service")
        )
    return found


def selector_of(api: KubeApi, target: Target) -> dict[str, str]:
    """The labels by which the target's Service selects its pods.

    Raises:
        InvalidChange: there is no such Service, or it selects none.
    """
    selector: dict[str, str] = (service_of(api, target).get("spec") or {}).get("selector") or {}
    if not selector:
        raise InvalidChange(f"Service {target.ref} has no selector, so its pods are unknown; name another Service")
    return selector


def addresses(api: KubeApi, namespace: str, service: str) -> tuple[str, ...]:
    """Addresses of the ready endpoints of a Service, `host:port`."""
    found = set()
    for body in api.list(ENDPOINT_SLICE, namespace, labels=f"kubernetes.io/service-name={service}"):
        ports = [port.get("port") for port in body.get("ports") or []]
        for endpoint in body.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready", True):
                found |= {f"{address}:{ports[0] if ports else 0}" for address in endpoint["addresses"]}
    return tuple(sorted(found))


def pods(api: KubeApi, namespace: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Addresses of the ready pods that carry the labels."""
    if not labels:
        return ()
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return tuple(
        sorted(str(body["status"]["podIP"]) for body in api.list(POD, namespace, labels=selector) if is_ready(body))
    )


def is_ready(pod: Object) -> bool:
    """Whether a pod takes requests now."""
    status: dict[str, Any] = pod.get("status") or {}
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or [])
    return ready and bool(status.get("podIP")) and "deletionTimestamp" not in pod["metadata"]
