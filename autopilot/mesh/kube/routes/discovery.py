"""Finds everything in a cluster that leads to an arm, before a split is laid: what is not driven has to be named.

A rollout that splits one of two ways to a service leaves callers on the old version who nobody knows of. So routes of
other namespaces, other kinds and other protocols are read too, and each is driven, left out by the spec, or a reason to
refuse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from autopilot.mesh.kube.client.api_errors import Absent, Forbidden
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import (
    SERVICE,
    SERVICE_ENTRY,
    VIRTUAL_SERVICE,
    Resource,
)
from autopilot.mesh.kube.routes.backends import Arms, Backend, service_backend
from autopilot.mesh.kube.routes.base import Routes, holds, ip_of
from autopilot.mesh.kube.routes.destinations import (
    ALL_KINDS,
    GATEWAY_KINDS,
    RouteDestination,
    controller,
    hints,
    leads_of,
)
from autopilot.mesh.kube.routes.gateway_api import parents
from autopilot.mesh.kube.routes.istio import unresolved
from autopilot.mesh.kube.routes.patch_marks import has_mark
from autopilot.mesh.model import RuleChoice, Target

_MANAGED = "argo-rollouts.argoproj.io/managed-by-rollouts"
_HASH = "rollouts-pod-template-hash"


@dataclass(frozen=True, slots=True)
class Found:
    """What stands around a split."""

    problems: tuple[str, ...] = ()
    """Reasons to refuse it, with what to do."""
    concerned: tuple[str, ...] = ()
    """Rules that it divides."""
    left: tuple[str, ...] = ()
    """Rules that go on leading to stable, since the spec leaves them out."""
    notes: tuple[str, ...] = ()
    """What to look at."""


class RouteDiscovery:
    """The routes of a cluster, read once.

    Args:
        api: the cluster.
        routes: of the driver.
        target: whose arms.
    """

    def __init__(self, api: KubeApi, routes: Routes, target: Target) -> None:
        self._api = api
        self._routes = routes
        self._target = target
        self._unseen: list[str] = []
        self._bodies = [(kind, body) for kind in ALL_KINDS for body in self._list(kind)]
        self._behind: dict[Backend, frozenset[str]] = {}

    def around(self, arms: Arms, choice: RuleChoice) -> Found:
        """What a split of these arms meets; stable is the first."""
        stable = next(iter(arms))
        problems: list[str] = [*self._misspelt(arms), *self._rolled_out(arms)]
        concerned, left, notes = list[str](), list[str](), list(self._unseen)
        for lead in self._leads():
            to_stable = bool(set(lead.backends) & set(arms[stable]))
            included = choice.includes(lead.name, lead.namespace, lead.object)
            mixed = "" if to_stable else self._mixed(lead, arms)
            if not (to_stable or mixed):
                notes += self._alone(lead, arms)
                problems += self._strange(lead, arms) if included else []
            elif not included:
                left.append(f"{lead.words} of {lead.route} still leads to {stable}: spec.routes leaves it out")
            elif problem := self._undriven(lead, stable) or mixed or self._shared(lead, arms):
                problems.append(problem)
            else:
                concerned.append(f"{lead.words} of {lead.route} is split")
                notes += hints(lead, arms)
        if left and not concerned and not problems:
            problems.append(f"spec.routes leaves out every rule that leads to {stable}; name one that is to be split")
        return Found(_once(problems), _once(concerned), _once(left), _once(notes))

    def refusals(self) -> list[str]:
        """Why faults for the target would miss some of its requests: rules that lead there and are not driven."""
        host = service_backend(self._target.service, self._target.namespace).host
        found = self._misspelt({})
        for lead in self._leads():
            if any(backend.host == host for backend in lead.backends) and (said := self._undriven(lead, "")):
                found.append(said)
        return list(_once(found))

    def _undriven(self, lead: RouteDestination, stable: str) -> str:
        """Why a rule cannot be written; empty where it can."""
        target = self._target
        out = f"or leave it out with spec.routes.except: [{lead.namespace}/{lead.object}]" if stable else ""
        out = out or "or aim at another service"
        if lead.namespace != target.namespace:
            if lead.resource in GATEWAY_KINDS and parents(lead.body):
                return (
                    f"{lead.route} sends callers of that namespace to {stable or target.ref}, whatever the split; "
                    f"remove it, {out}"
                )
            return (
                f"{lead.route} leads to {target.ref} and lies in another namespace, whose routes are not written; "
                f"move that rule to namespace {target.namespace}, {out}"
            )
        if lead.protocol != "http":
            return f"{target.ref} is routed by {lead.protocol}, which is not driven: remove {lead.route}, {out}"
        if lead.rule is None:
            kinds = " and ".join(f"{kind.kind}s" for kind in self._routes.kinds)
            return (
                f"{lead.route} leads to {target.ref}, and this mesh is driven by {kinds}: name the provider that "
                f"callers use in the mesh file (spec.provider), {out}"
            )
        if owner := controller(lead.body):
            return f"{lead.route} is controlled by {owner}; pause or remove it first, {out}"
        return ""

    def _shared(self, lead: RouteDestination, arms: Arms) -> str:
        """Whether another arm has a share of the rule before anything is laid."""
        stable, *others = arms
        if lead.rule is None or has_mark(lead.body, self._target.service):
            return ""
        shares = lead.rule.listed(arms).shares
        weights = "1 and 0" if lead.rule.implied else "100 and 0"
        for arm in others:
            if shares.get(arm):
                return (
                    f"{lead.words} of {lead.route} gives {arm} {shares[arm]:.3g} % before the rollout, which begins "
                    f"with {stable} alone: set the weights of {stable} and {arm} to {weights} there"
                )
        return ""

    def _mixed(self, lead: RouteDestination, arms: Arms) -> str:
        """A destination that means all pods of a Service, some of which are stable's; empty where there is none."""
        stable = next(iter(arms))
        mine, known = self._pods(arms[stable][0]), {one for backends in arms.values() for one in backends}
        for backend in lead.backends:
            if backend in known or backend.subset or not self._pods(backend) & mine:
                continue
            others = [arm for arm in arms if arm != stable and self._among(arms[arm][0], backend)] or ["others"]
            wanted = (
                f"subset: {arms[stable][0].subset}" if arms[stable][0].subset else f"Service {arms[stable][0].name}"
            )
            return (
                f"{lead.words} of {lead.route} leads to {backend.words} as a whole, behind which pods of {stable} and "
                f"{' and '.join(others)} stand; write {wanted} there"
            )
        return ""

    def _among(self, arm: Backend, backend: Backend) -> bool:
        """Whether some pods of an arm stand behind a Service, or will."""
        return bool(self._pods(backend) & self._pods(arm)) or holds(self._api, backend, arm)

    def _strange(self, lead: RouteDestination, arms: Arms) -> list[str]:
        """Backends of other kinds than Service, which may be anything: those that are called like an arm."""
        names = {self._target.service, *(backends[0].name for backends in arms.values())}
        return [
            f"{lead.route} leads to {one.host}, which is no Service, and so cannot be split; name a Service there, or "
            f"leave it out with spec.routes.except: [{lead.namespace}/{lead.object}]"
            for one in lead.backends
            if " " in one.host and one.host.rpartition("/")[2] in names and lead.namespace == self._target.namespace
        ]

    def _alone(self, lead: RouteDestination, arms: Arms) -> list[str]:
        """Rules that lead to another arm already: somebody's own intention, such as a tester's header."""
        _, *others = arms
        return [
            f"{lead.words} of {lead.route} leads to {arm} alone and stays"
            for arm in others
            if set(lead.backends) & set(arms[arm]) and lead.namespace == self._target.namespace
        ]

    def _misspelt(self, arms: Arms) -> list[str]:
        """Destinations that Istio takes for hosts of their own, where one of the arms was meant."""
        hosts = {one.host for backends in arms.values() for one in backends}
        hosts.add(service_backend(self._target.service, self._target.namespace).host)
        found = []
        for kind, body in self._bodies:
            if kind is not VIRTUAL_SERVICE or body["metadata"]["namespace"] != self._target.namespace:
                continue
            for written, full in unresolved(body, hosts).items():
                if written not in self._entries():
                    found.append(
                        f"VirtualService {self._target.namespace}/{body['metadata']['name']}: {written} is no host "
                        f"Istio knows; write {full.partition('.')[0]} or {full}"
                    )
        return found

    def _rolled_out(self, arms: Arms) -> list[str]:
        """Arms whose selectors Argo Rollouts writes: it moves them to other pods, and weights with them."""
        subsets = self._routes.subsets(self._target)
        found = []
        for arm, (backend, *_) in arms.items():
            body = self._api.get(SERVICE, backend.name, backend.namespace) or {}
            notes = (body.get("metadata") or {}).get("annotations") or {}
            selector = subsets.get(backend.subset) or (body.get("spec") or {}).get("selector") or {}
            if (owner := notes.get(_MANAGED)) or _HASH in selector:
                who = f"Rollout {owner}" if owner else "an Argo Rollout"
                found.append(
                    f"{arm} ({backend.words}) is controlled by {who} (argoproj.io), which moves it to other pods; "
                    "pause or remove it first"
                )
        return found

    def _entries(self) -> set[str]:
        """Hosts that ServiceEntries define."""
        return {host for body in self._list(SERVICE_ENTRY) for host in (body.get("spec") or {}).get("hosts") or []}

    def _pods(self, backend: Backend) -> frozenset[str]:
        if backend not in self._behind:
            self._behind[backend] = frozenset(map(ip_of, self._routes.endpoints(backend)))
        return self._behind[backend]

    def _leads(self) -> Iterable[RouteDestination]:
        for kind, body in self._bodies:
            yield from leads_of(self._routes, kind, body)

    def _list(self, resource: Resource) -> list[Object]:
        try:
            return self._api.list(resource)
        except Absent:
            return []
        except Forbidden as error:
            try:
                found = self._api.list(resource, self._target.namespace)
            except (Absent, Forbidden):
                found = []
            self._unseen.append(f"{resource.kind}s of other namespaces were not looked at: {error}")
            return found


def _once(sentences: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sentences))
