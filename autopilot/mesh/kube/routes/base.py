"""What a provider must know of its kind of route; everything else is the same for all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import ENDPOINT_SLICE, POD, SERVICE, Resource
from autopilot.mesh.kube.routes.backends import Arms, Backend, service_backend
from autopilot.mesh.kube.routes.patch_marks import has_mark
from autopilot.mesh.kube.routes.weight_patch import PREFIX, Destination, Mark, WeightList, mark_of
from autopilot.mesh.model import EVERY_RULE, RuleChoice, Target


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a route as its provider reads it: where it leads, and with which weights."""

    key: str
    """What it is found again by."""
    path: str
    """JSON pointer to its list of destinations."""
    name: str
    """As the user calls it; may be empty."""
    words: str
    """For people."""
    backends: tuple[Backend, ...]
    weights: tuple[int | None, ...]
    implied: int
    """The weight of a destination where none is written."""

    def listed(self, arms: Arms) -> WeightList:
        """Its destinations, those of the arms by their names."""
        named = (arm_of(one, arms) for one in self.backends)
        return WeightList(
            key=self.key,
            path=self.path,
            destinations=tuple(Destination(arm, weight) for arm, weight in zip(named, self.weights, strict=True)),
            implied=self.implied,
        )

    def gives(self, arms: Arms, arm: str) -> bool:
        """Whether an arm gets some of its requests."""
        return self.listed(arms).shares.get(arm, 0.0) > 0


@dataclass(frozen=True, slots=True)
class Split:
    """A change of weights, its arms resolved."""

    weights: Mapping[str, float]
    """Percent by arm, stable's first."""
    arms: Arms
    choice: RuleChoice = EVERY_RULE

    @property
    def stable(self) -> str:
        """The arm whose share of each rule is divided."""
        return next(iter(self.weights))

    def concerns(self, rule: Rule, body: Object) -> bool:
        """Whether it divides this rule of an object: stable gets some of its requests, and the spec does not object."""
        meta = body["metadata"]
        return rule.gives(self.arms, self.stable) and self.choice.includes(rule.name, meta["namespace"], meta["name"])


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

    def rules(self, body: Object) -> list[Rule]:
        """The rules of an object of these kinds."""
        ...

    def named(self, target: Target, bodies: Iterable[Object]) -> Arms:
        """Arms that routes tell where no spec names any: for whoever only looks."""
        ...

    def known(self, target: Target) -> Arms:
        """Arms that the cluster tells without a route."""
        ...

    def subsets(self, target: Target) -> dict[str, dict[str, str]]:
        """Arms that are some of the pods of the target's own Service, by these pods' labels."""
        ...

    def resolve(self, target: Target, arm: str) -> Backend:
        """The one backend that a spec means by an arm's name.

        Raises:
            InvalidChange: there is none of exactly that name, or there are two; with what to write.
        """
        ...

    def endpoints(self, backend: Backend) -> tuple[str, ...]:
        """Addresses that answer for a backend now."""
        ...

    def entry(self, like: Object, backend: Backend, weight: int, namespace: str) -> Object:
        """A destination that carries requests as `like` does, which stands in a route of this namespace."""
        ...

    def make(self, target: Target, weights: Mapping[str, int], arms: Arms, mark: Mark) -> tuple[Resource, Object]:
        """A route of our own, where there is none."""
        ...

    def unready(self, route: Route) -> str:
        """Why the mesh has not taken the route as it is written now; empty where it has, or never says."""
        ...


def arm_of(backend: Backend, arms: Arms) -> str:
    """The arm that a destination leads to; empty where it is somebody else's."""
    return next((arm for arm, backends in arms.items() if backend in backends), "")


def arms_of(mark: Mark, target: Target) -> Arms:
    """The arms of a mark; of one from before they were written there, by their names."""
    if mark.arms:
        return mark.arms
    own = service_backend(target.service, target.namespace)
    names = {slot.partition("#")[0] for one in mark.lists for slot in {**one.before, **one.laid}}
    return {
        name: (
            own if name == target.service else own.model_copy(update={"subset": name}),
            service_backend(name, target.namespace),
        )
        for name in sorted(names)
    }


def route_to(
    routes: Routes, target: Target, resource: Resource, body: Object, *, split: Split | None = None
) -> Route | None:
    """An object as a route to the target; None where it leads elsewhere, and nothing of ours lies over it.

    Args:
        routes: how it is read.
        target: the target.
        resource: its kind.
        body: the object.
        split: whose rules are wanted: those in which stable has a share, and those that it has split before. None:
            those that the mark on the object names, or without one every rule that leads to what the target has.
    """
    mark = mark_of(body, target.service)
    arms = split.arms if split else arms_of(mark, target) if mark else routes.named(target, [body])
    laid = {one.key for one in mark.lists} if mark else set()
    lists = []
    for rule in routes.rules(body):
        new = split.concerns(rule, body) if split else not mark and any(rule.gives(arms, arm) for arm in arms)
        if new or rule.key in laid:
            lists.append(rule.listed(arms))
    if split is None and not mark:
        # Whoever only looks takes the first: one that shares requests says more than one for testers, the last more.
        lists.sort(key=lambda one: len({item.arm for item in one.destinations if item.arm}))
        lists.reverse()
    return Route(resource, body, tuple(lists)) if lists or has_mark(body, target.service) else None


def words_of(name: object, matches: object) -> str:
    """A rule for people: its name, else the paths that it matches."""
    if name:
        return f"rule {name}"
    paths = [path for match in matches if (path := _path(match))] if isinstance(matches, list) else []
    return f"the rule for {', '.join(dict.fromkeys(paths))}" if paths else "the rule without a name"


def _path(match: object) -> str:
    """`/api` of a match, in Istio's words or in the Gateway API's."""
    said = (match.get("uri") or match.get("path") or {}) if isinstance(match, dict) else {}
    if not isinstance(said, dict):
        return ""
    return str(said.get("value") or next((value for value in said.values() if isinstance(value, str)), ""))


def beside(one: WeightList, body: Object, arm: str) -> Object:
    """The destination of an arm in a list as it stands in the object, else the first; empty where it has none."""
    found: Any = body
    for part in one.path.strip("/").split("/"):
        found = found[int(part)] if part.isdigit() else found[part]
    index = next((at for at, item in enumerate(one.destinations) if item.arm == arm), 0)
    return dict(found[index]) if found else {}


def rule_key(name: object, matches: object) -> str:
    """What a rule is told by: its name, else what it matches."""
    if isinstance(name, str) and name:
        return f"name {name}" if name == "default" or name.startswith(("match-", "name ")) else name
    if not matches:
        return "default"
    canonical = json.dumps(matches, sort_keys=True, separators=(",", ":"))
    return f"match-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


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
    if target.external:
        raise InvalidChange(
            f"{target.service} is a host outside the cluster, which has no pods here; nearest: an abort with status "
            "503, at its callers"
        )
    selector: dict[str, str] = (service_of(api, target).get("spec") or {}).get("selector") or {}
    if not selector:
        raise InvalidChange(f"Service {target.ref} has no selector, so its pods are unknown; name another Service")
    return selector


def holds(api: KubeApi, whole: Backend, arm: Backend) -> bool:
    """Whether a Service selects every pod of an arm, whichever there are: an arm may have none before its rollout."""
    if whole == arm.whole:
        return True
    if whole.namespace != arm.namespace:
        return False
    bodies = [api.get(SERVICE, one.name, one.namespace) or {} for one in (whole, arm)]
    wide, narrow = (dict[str, str]((one.get("spec") or {}).get("selector") or {}) for one in bodies)
    return bool(wide) and wide.items() <= narrow.items()


def addresses(api: KubeApi, namespace: str, service: str) -> tuple[str, ...]:
    """Addresses of the ready endpoints of a Service, `host:port`."""
    found = set()
    for body in api.list(ENDPOINT_SLICE, namespace, labels=f"kubernetes.io/service-name={service}"):
        ports = [port.get("port") for port in body.get("ports") or []]
        for endpoint in body.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready", True):
                found |= {_joined(address, ports[0] if ports else 0) for address in endpoint["addresses"]}
    return tuple(sorted(found))


def _joined(address: str, port: int | None) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def ip_of(address: str) -> str:
    """The IP of an endpoint, which is `10.0.0.1`, `10.0.0.1:80`, `fd00::1` or `[fd00::1]:80`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address if address.count(":") > 1 else address.partition(":")[0]


def pods(api: KubeApi, namespace: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Addresses of the ready pods that carry the labels."""
    if not labels:
        return ()
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return tuple(
        sorted(str(body["status"]["podIP"]) for body in api.list(POD, namespace, labels=selector) if is_ready(body))
    )


def pod_names(api: KubeApi, namespace: str, ips: Iterable[str]) -> list[str]:
    """The names of pods, by their IPs; the IP itself where no pod has it."""
    names = {
        str((body.get("status") or {}).get("podIP")): str(body["metadata"]["name"]) for body in api.list(POD, namespace)
    }
    return sorted(names.get(ip, ip) for ip in ips)


def is_ready(pod: Object) -> bool:
    """Whether a pod takes requests now."""
    status: dict[str, Any] = pod.get("status") or {}
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or [])
    return ready and bool(status.get("podIP")) and "deletionTimestamp" not in pod["metadata"]
