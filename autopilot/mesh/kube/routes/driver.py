"""Lays overlays over the routes of a target, looks after them, and takes them away.

Every write is one patch of one object that holds for the version that was read; who was too late reads again.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from autopilot.mesh.errors import InvalidChange, TakenOver, UnreadableRecord
from autopilot.mesh.kube.client import json_patch
from autopilot.mesh.kube.client.api_errors import Absent, Conflict
from autopilot.mesh.kube.client.client import MANAGER, Object
from autopilot.mesh.kube.client.resources import Resource
from autopilot.mesh.kube.routes import weight_patch
from autopilot.mesh.kube.routes.backends import Arms, Backend, service_backend
from autopilot.mesh.kube.routes.base import Route, Routes, Split, arms_of, beside, holds, ip_of, pod_names, route_to
from autopilot.mesh.kube.routes.discovery import Found, RouteDiscovery
from autopilot.mesh.kube.routes.overlay_port import Marked
from autopilot.mesh.kube.routes.patch_marks import has_mark, own_mark, unread_marks
from autopilot.mesh.kube.routes.weight_patch import Mark, WeightList
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.kube.state.write_order import refuse_later
from autopilot.mesh.model import EVERY_RULE, LAST_WRITE, Holder, RuleChoice, Target, Tier, Writer

_T = TypeVar("_T")
_OURS = "/metadata/labels/app.kubernetes.io~1managed-by"


class Overlayer:
    """Writes routes of one provider in one cluster. No proxy knows of deadlines here: guards keep them."""

    tier = Tier.GUARD

    def __init__(self, store: KubeStore, routes: Routes) -> None:
        self._store = store
        self._api = store.api
        self.routes = routes

    def resolved(
        self, target: Target, weights: Mapping[str, float], choice: RuleChoice = EVERY_RULE, *, strict: bool = True
    ) -> Split:
        """A split of the target with its arms looked up; see `Overlays`."""
        split = Split(weights, self._arms(target, tuple(weights)), choice)
        begins = strict and not any(has_mark(body, target.service) for _, body in self._bodies(target))
        if begins and (problems := self.around(target, split).problems):
            raise InvalidChange("; ".join(problems))
        return split

    def _arms(self, target: Target, names: Sequence[str]) -> Arms:
        """What the arms lead to, stable first.

        Raises:
            InvalidChange: one is not there, or two have pods in common.
        """
        stable, *_ = names
        arms: dict[str, tuple[Backend, ...]] = {name: (self.routes.resolve(target, name),) for name in names}
        pods = {name: self._pods(backends[0]) for name, backends in arms.items()}
        for first, second in itertools.combinations(names, 2):
            if shared := pods[first] & pods[second]:
                named = ", ".join(pod_names(self._api, target.namespace, shared))
                raise InvalidChange(
                    f"{first} and {second} select the same pods ({named}), so they cannot be compared; "
                    "select them by labels that differ between the versions"
                )
        for whole in {arms[stable][0].whole, service_backend(target.service, target.namespace)}:
            if any(whole in backends for backends in arms.values()):
                continue
            if (behind := self._pods(whole)) and behind <= pods[stable]:
                others = [backends[0] for name, backends in arms.items() if name != stable]
                if not any(holds(self._api, whole, other) for other in others):
                    arms[stable] = (*arms[stable], whole)
        return arms

    def _pods(self, backend: Backend) -> frozenset[str]:
        return frozenset(map(ip_of, self.routes.endpoints(backend)))

    def nearby(self, target: Target) -> list[Route]:
        """One route of each kind in the target's namespace; see `Overlays`."""
        return list({kind: Route(kind, body, ()) for kind, body in self._bodies(target)}.values())

    def around(self, target: Target, split: Split) -> Found:
        """What the split concerns, and what stands beside it."""
        return RouteDiscovery(self._api, self.routes, target).around(split.arms, split.choice)

    def found(self, target: Target, split: Split | None = None) -> list[Route]:
        """Every route that a split concerns; without one, those that something lies over or that lead to the target.

        Raises:
            Absent: the cluster serves none of the provider's kinds.
        """
        return self._routes_among(self._bodies(target), target, split)

    def _routes_among(
        self, bodies: Sequence[tuple[Resource, Object]], target: Target, split: Split | None
    ) -> list[Route]:
        marked = [one for one in bodies if split is not None or has_mark(one[1], target.service)]
        found = (route_to(self.routes, target, kind, body, split=split) for kind, body in marked or bodies)
        return [route for route in found if route is not None]

    def _bodies(self, target: Target) -> list[tuple[Resource, Object]]:
        found, problem = list[tuple[Resource, Object]](), None
        served = 0
        for kind in self.routes.kinds:
            try:
                found += [(kind, body) for body in self._api.list(kind, target.namespace)]
            except Absent as absent:
                problem = problem or absent
            else:
                served += 1
        if problem is not None and not served:
            raise problem
        return found

    def marked(self, mesh: str) -> list[Marked]:
        """Every mark on any route of the cluster."""
        found = []
        for kind in self.routes.kinds:
            try:
                bodies = self._api.list(kind)
            except Absent:
                continue
            for body in bodies:
                for mark in weight_patch.marks_of(body):
                    target = Target(mesh=mesh, namespace=body["metadata"]["namespace"], service=mark.service)
                    route = route_to(self.routes, target, kind, body) or Route(kind, body, ())
                    found.append(Marked(target, route, mark))
        return found

    def unread(self, mesh: str) -> list[UnreadableRecord]:
        """Marks that cannot be read, on any route of the cluster: they name no mesh."""
        del mesh
        found = []
        for kind in self.routes.kinds:
            with contextlib.suppress(Absent):
                for body in self._api.list(kind):
                    found += unread_marks(body, weight_patch.PREFIX, Mark)
        return found

    def refuse_unread(self, target: Target, routes: Iterable[Route]) -> None:
        """Refuses a target whose marks cannot be read."""
        for route in routes:
            own_mark(route.body, target.service)

    def lay(
        self,
        target: Target,
        holder: Holder,
        weights: Mapping[str, float],
        deadline: float = 0.0,  # noqa: ARG002 - proxies take no deadline here
        *,
        choice: RuleChoice = EVERY_RULE,
    ) -> list[Route]:
        """Gives the arms their weights in every route; safe to repeat. Returns the routes as they are now.

        Raises:
            TakenOver: somebody else has changed the weights since we laid them.
            LeaseLost: a later holder has laid something.
            InvalidChange: there is no route, and none can be made.
        """
        split = self.resolved(target, weights, choice)
        routes = self.found(target, split)
        if not routes:
            return [self._make(target, holder, split)]
        for route in routes:  # what one of them refuses is refused before another is written
            self._patch(target, route, split, self._mark(target, holder, split), None)
        return [
            self._persistently(target, route, lambda now: self._lay(target, holder, split, now), split)
            for route in routes
        ]

    def look_after(
        self,
        target: Target,
        holder: Holder,
        weights: Mapping[str, float],
        deadline: float = 0.0,  # noqa: ARG002 - proxies take no deadline here
        *,
        choice: RuleChoice = EVERY_RULE,
    ) -> list[str]:
        """Lays again what somebody has written over with what was there before; says what was done.

        Raises:
            TakenOver: somebody else has changed the weights.
        """
        done = []
        bodies = self._bodies(target)  # once: this is done at every renewal
        marked = (mark for _, body in bodies if (mark := own_mark(body, target.service)) is not None)
        split = self._standing(target, holder, marked, weights, choice)
        for route in self._routes_among(bodies, target, split):
            mark = own_mark(route.body, target.service)
            if mark is not None and mark.fencing == holder.fencing and not mark.made:
                self._refuse_foreign(route, mark)
            if mark is None or (mark.fencing == holder.fencing and weight_patch.reapplied(route.lists, mark)):
                self._persistently(target, route, lambda now: self._lay(target, holder, split, now), split)
                done.append(f"{route.name} had been overwritten by somebody else; the overlay was written again")
        return done

    def _standing(
        self, target: Target, holder: Holder, marked: Iterable[Mark], weights: Mapping[str, float], choice: RuleChoice
    ) -> Split:
        """The split that is in force, its arms as the marks have them: to look after it costs no look at pods."""
        for mark in marked:
            if mark.fencing == holder.fencing and set(weights) <= set(mark.arms):
                return Split(weights, {arm: mark.arms[arm] for arm in weights}, choice)
        return self.resolved(target, weights, choice, strict=False)

    def take_away(
        self,
        target: Target,
        fencing: int,
        *,
        write: int = LAST_WRITE,
        commit: Mapping[str, float] | None = None,
        choice: RuleChoice = EVERY_RULE,
    ) -> list[str]:
        """Takes away what this holder, or one before it, has laid; with `commit` it stays and is ours no longer.

        Returns:
            What could not be restored because somebody else had changed it, one sentence each.
        """
        notes: list[str] = []
        failed: list[UnreadableRecord] = []
        up_to = (fencing, write)
        if commit is not None and choice != EVERY_RULE:
            with contextlib.suppress(InvalidChange):  # an arm has gone meanwhile: no reason not to commit
                notes += self.around(target, self.resolved(target, commit, choice, strict=False)).left
        for route in self.found(target):
            try:
                notes += self._persistently(target, route, lambda now: self._take_away(target, now, up_to, commit))
            except UnreadableRecord as error:
                failed.append(error)  # one object's trouble is not another's
        if failed:
            raise failed[0]
        return notes

    def planned(
        self,
        target: Target,
        weights: Mapping[str, float],
        deadline: float = 0.0,  # noqa: ARG002 - proxies take no deadline here
        *,
        choice: RuleChoice = EVERY_RULE,
    ) -> list[tuple[Route | None, Object]]:
        """Every route as it stands, and as the API server says it would be. Writes nothing."""
        holder = Holder(operation="planned", fencing=0)
        split = self.resolved(target, weights, choice)
        routes = self.found(target, split)
        if not routes:
            resource, body = self._made(target, holder, split)
            return [(None, self._api.create(resource, body, dry_run=True))]

        def ask(route: Route) -> tuple[Route | None, Object]:
            mark = own_mark(route.body, target.service)
            operations, _ = self._patch(target, route, split, self._mark(target, holder, split), mark)
            name = route.body["metadata"]["name"]
            return route, self._api.patch(route.resource, name, target.namespace, operations, dry_run=True)

        return [self._persistently(target, route, ask, split) for route in routes]

    def in_force(self, target: Target, routes: Iterable[Route]) -> tuple[dict[str, float], dict[str, float]]:
        """Percent by arm in the target's first rule: in force now, and when nobody operates."""
        for route in routes:
            mark = weight_patch.mark_of(route.body, target.service)
            for one in route.lists:
                now = one.shares
                if mark is None or (laid := mark.of(one.key)) is None:
                    return now, now
                return now, {} if mark.made else _before(one, laid.before)
        return {}, {}

    def _lay(self, target: Target, holder: Holder, split: Split, route: Route) -> Route:
        mark = own_mark(route.body, target.service)
        if mark is not None:
            refuse_later(mark, holder, route.name)
        if mark is not None and mark.fencing < holder.fencing:
            self._take_away(target, route, mark.order, None)
            route, mark = self._again(target, route, split), None
        if mark is not None:
            self._refuse_foreign(route, mark)
        operations, laid = self._patch(target, route, split, self._mark(target, holder, split, mark), mark)
        if (
            mark == laid
            and not weight_patch.foreign(route.lists, laid)
            and not weight_patch.reapplied(route.lists, laid)
        ):
            return route  # it is there already
        body = self._api.patch(route.resource, route.body["metadata"]["name"], target.namespace, operations)
        return route_to(self.routes, target, route.resource, body, split=split) or Route(route.resource, body, ())

    def _patch(
        self, target: Target, route: Route, split: Split, new: Mark, before: Mark | None
    ) -> tuple[list[Object], Mark]:
        def entry(one: WeightList, arm: str, weight: int) -> Object:
            like = beside(one, route.body, split.stable)
            return self.routes.entry(like, split.arms[arm][0], weight, target.namespace)

        return weight_patch.lay(route.body, route.lists, split.weights, new=new, entry=entry, before=before)

    def _refuse_foreign(self, route: Route, mark: Mark) -> None:
        if mark.made:
            return
        if changed := weight_patch.foreign(route.lists, mark):
            raise TakenOver(
                f"{editor(route.body)} changed the weights of {route.name} (rule {', '.join(changed)}) since "
                f"{mark.operation} set them; those changes were kept"
            )

    def _take_away(
        self, target: Target, route: Route, up_to: tuple[int, int], commit: Mapping[str, float] | None
    ) -> list[str]:
        mark = own_mark(route.body, target.service)
        if mark is None or mark.order > up_to:
            return []
        name, namespace = route.body["metadata"]["name"], target.namespace
        if commit is not None:
            return self._keep(target, route, mark, commit)
        if mark.made:
            self._api.delete(route.resource, name, namespace, version=json_patch.version(route.body))
            return []
        operations, notes = weight_patch.restore(route.body, route.lists, mark)
        self._api.patch(route.resource, name, namespace, operations)
        return [f"{route.name}: {note}" for note in notes]

    def _keep(self, target: Target, route: Route, mark: Mark, weights: Mapping[str, float]) -> list[str]:
        """What was laid becomes the user's; where somebody has written the old weights back, it is laid once more."""
        name, namespace, notes = route.body["metadata"]["name"], target.namespace, []
        operations = json_patch.unchanged(route.body)
        if changed := weight_patch.foreign(route.lists, mark):
            said = f"rule {', '.join(changed)} has weights that somebody else set; they were kept"
            notes.append(f"{route.name}: {said}")
        elif weight_patch.reapplied(route.lists, mark):
            again, _ = self._patch(target, route, Split(weights, arms_of(mark, target)), mark, mark)
            operations = [one for one in again if not one["path"].startswith("/metadata/annotations")]
        operations += weight_patch.unmark(route.body, target.service)
        if mark.made and (route.body["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by"):
            operations.append({"op": "remove", "path": _OURS})
        self._api.patch(route.resource, name, namespace, operations)
        return notes

    def _make(self, target: Target, holder: Holder, split: Split) -> Route:
        resource, body = self._made(target, holder, split)
        made = self._api.create(resource, body)
        return route_to(self.routes, target, resource, made, split=split) or Route(resource, made, ())

    def _made(self, target: Target, holder: Holder, split: Split) -> tuple[Resource, Object]:
        if not any(split.weights.values()):
            raise InvalidChange(
                f"{target.ref} has no route, and none can be created without weights; write a route for it"
            )
        mark = self._mark(target, holder, split).model_copy(update={"made": True})
        return self.routes.make(target, weight_patch.integers(split.weights), split.arms, mark)

    def _mark(self, target: Target, holder: Holder, split: Split, before: Mark | None = None) -> Mark:
        made, writer = before.made if before else False, Writer.of(holder).model_dump()
        return Mark(service=target.service, **writer, made=made, arms=dict(split.arms))

    def _persistently(self, target: Target, route: Route, act: Callable[[Route], _T], split: Split | None = None) -> _T:
        """Acts on the route; where somebody wrote meanwhile, on what it is then."""
        at = [route]

        def once() -> _T:
            try:
                return act(at[0])
            except Conflict:
                at[0] = self._again(target, route, split)
                raise

        return self._store.persistently(once, route.name)

    def _again(self, target: Target, route: Route, split: Split | None = None) -> Route:
        body = self._api.get(route.resource, route.body["metadata"]["name"], target.namespace)
        if body is None:
            return Route(route.resource, {**copy.deepcopy(route.body), "metadata": _bare(route.body)}, ())
        return route_to(self.routes, target, route.resource, body, split=split) or Route(route.resource, body, ())


def _bare(body: Object) -> Object:
    """The metadata of an object that is gone: no mark, so that nothing is to be taken away."""
    return {key: value for key, value in body["metadata"].items() if key != "annotations"}


def _before(one: WeightList, before: Mapping[str, int | None]) -> dict[str, float]:
    weights = {arm: one.implied if weight is None else weight for arm, weight in before.items()}
    if len(before) == 1:
        return dict.fromkeys(before, 100.0)
    total = sum(weights.values())
    return {arm: 100 * weight / total for arm, weight in weights.items()} if total else {}


def editor(body: Object) -> str:
    """Who wrote last, as far as the object knows."""
    fields = body["metadata"].get("managedFields") or []
    others = [one for one in fields if one.get("manager") != MANAGER and one.get("subresource", "") == ""]
    latest: Object = max(others, key=lambda one: one.get("time", ""), default={})
    return str(latest.get("manager") or "somebody")
