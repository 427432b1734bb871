"""Lays overlays over the routes of a target, looks after them, and takes them away.

Every write is one patch of one object that holds for the version that was read; who was too late reads again.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from autopilot.mesh.errors import InvalidChange, TakenOver, UnreadableRecord
from autopilot.mesh.kube import marks
from autopilot.mesh.kube.api import MANAGER, Absent, Conflict, Object
from autopilot.mesh.kube.marks import Mark, WeightList
from autopilot.mesh.kube.marks_read import own_mark, unread_marks
from autopilot.mesh.kube.overlays import Marked
from autopilot.mesh.kube.resources import Resource
from autopilot.mesh.kube.routes import Route, Routes
from autopilot.mesh.kube.store import KubeStore
from autopilot.mesh.kube.write_order import refuse_later
from autopilot.mesh.model import LAST_WRITE, Holder, Target, Tier, Writer

_T = TypeVar("_T")
_OURS = "/metadata/labels/app.kubernetes.io~1managed-by"


class Overlayer:
    """Writes routes of one provider in one cluster. No proxy knows of deadlines here: guards keep them."""

    tier = Tier.GUARD

    def __init__(self, store: KubeStore, routes: Routes) -> None:
        self._store = store
        self._api = store.api
        self.routes = routes

    def found(self, target: Target) -> list[Route]:
        """Every route that leads to the target.

        Raises:
            Absent: the cluster serves none of the provider's kinds.
        """
        found, problem = [], None
        served = 0
        for kind in self.routes.kinds:
            try:
                bodies = self._api.list(kind, target.namespace)
            except Absent as absent:
                problem = problem or absent
                continue
            served += 1
            found += [route for body in bodies if (route := self.routes.of(target, body, kind)) is not None]
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
                for mark in marks.marks_of(body):
                    target = Target(mesh=mesh, namespace=body["metadata"]["namespace"], service=mark.service)
                    route = self.routes.of(target, body, kind) or Route(kind, body, ())
                    found.append(Marked(target, route, mark))
        return found

    def unread(self, mesh: str) -> list[UnreadableRecord]:
        """Marks that cannot be read, on any route of the cluster: they name no mesh."""
        del mesh
        found = []
        for kind in self.routes.kinds:
            with contextlib.suppress(Absent):
                for body in self._api.list(kind):
                    found += unread_marks(body, marks.PREFIX, Mark)
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
    ) -> list[Route]:
        """Gives the arms their weights in every route; safe to repeat. Returns the routes as they are now.

        Raises:
            TakenOver: somebody else has changed the weights since we laid them.
            LeaseLost: a later holder has laid something.
            InvalidChange: there is no route, and none can be made.
        """
        routes = self.found(target)
        if not routes:
            return [self._make(target, holder, weights)]
        return [
            self._persistently(target, route, lambda now: self._lay(target, holder, weights, now)) for route in routes
        ]

    def look_after(
        self,
        target: Target,
        holder: Holder,
        weights: Mapping[str, float],
        deadline: float = 0.0,  # noqa: ARG002 - proxies take no deadline here
    ) -> list[str]:
        """Lays again what somebody has written over with what was there before; says what was done.

        Raises:
            TakenOver: somebody else has changed the weights.
        """
        done = []
        for route in self.found(target):
            mark = own_mark(route.body, target.service)
            if mark is not None and mark.fencing == holder.fencing and not mark.made:
                self._refuse_foreign(route, mark)
            if mark is None or (mark.fencing == holder.fencing and marks.reapplied(route.lists, mark)):
                self._persistently(target, route, lambda now: self._lay(target, holder, weights, now))
                done.append(f"{route.name} had been overwritten by somebody else; the overlay was written again")
        return done

    def take_away(
        self, target: Target, fencing: int, *, write: int = LAST_WRITE, commit: Mapping[str, float] | None = None
    ) -> list[str]:
        """Takes away what this holder, or one before it, has laid; with `commit` it stays and is ours no longer.

        Returns:
            What could not be restored because somebody else had changed it, one sentence each.
        """
        notes: list[str] = []
        failed: list[UnreadableRecord] = []
        up_to = (fencing, write)
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
    ) -> list[tuple[Route | None, Object]]:
        """Every route as it stands, and as the API server says it would be. Writes nothing."""
        holder = Holder(operation="planned", fencing=0)
        routes = self.found(target)
        if not routes:
            resource, body = self._made(target, holder, weights)
            return [(None, self._api.create(resource, body, dry_run=True))]

        def ask(route: Route) -> tuple[Route | None, Object]:
            mark = own_mark(route.body, target.service)
            operations, _ = self._patch(target, route, weights, self._mark(target, holder), mark)
            name = route.body["metadata"]["name"]
            return route, self._api.patch(route.resource, name, target.namespace, operations, dry_run=True)

        return [self._persistently(target, route, ask) for route in routes]

    def in_force(self, target: Target, routes: Iterable[Route]) -> tuple[dict[str, float], dict[str, float]]:
        """Percent by arm in the target's first rule: in force now, and when nobody operates."""
        for route in routes:
            mark = marks.mark_of(route.body, target.service)
            for one in route.lists:
                now = one.shares
                if mark is None or (laid := mark.of(one.key)) is None:
                    return now, now
                return now, {} if mark.made else _before(one, laid.before)
        return {}, {}

    def _lay(self, target: Target, holder: Holder, weights: Mapping[str, float], route: Route) -> Route:
        mark = own_mark(route.body, target.service)
        if mark is not None:
            refuse_later(mark, holder, route.name)
        if mark is not None and mark.fencing < holder.fencing:
            self._take_away(target, route, mark.order, None)
            route, mark = self._again(target, route), None
        if mark is not None:
            self._refuse_foreign(route, mark)
        operations, laid = self._patch(target, route, weights, self._mark(target, holder, mark), mark)
        if mark == laid and not marks.foreign(route.lists, laid) and not marks.reapplied(route.lists, laid):
            return route  # it is there already
        body = self._api.patch(route.resource, route.body["metadata"]["name"], target.namespace, operations)
        return self.routes.of(target, body, route.resource) or Route(route.resource, body, ())

    def _patch(
        self, target: Target, route: Route, weights: Mapping[str, float], new: Mark, before: Mark | None
    ) -> tuple[list[Object], Mark]:
        def entry(one: WeightList, arm: str, weight: int) -> Object:
            return self.routes.entry(target, one, arm, weight, route.body)

        return marks.lay(route.body, route.lists, weights, new=new, entry=entry, before=before)

    def _refuse_foreign(self, route: Route, mark: Mark) -> None:
        if mark.made:
            return
        if changed := marks.foreign(route.lists, mark):
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
            self._api.delete(route.resource, name, namespace, version=marks.version(route.body))
            return []
        operations, notes = marks.restore(route.body, route.lists, mark)
        self._api.patch(route.resource, name, namespace, operations)
        return [f"{route.name}: {note}" for note in notes]

    def _keep(self, target: Target, route: Route, mark: Mark, weights: Mapping[str, float]) -> list[str]:
        """What was laid becomes the user's; where somebody has written the old weights back, it is laid once more."""
        name, namespace, notes = route.body["metadata"]["name"], target.namespace, []
        operations = marks.unchanged(route.body)
        if changed := marks.foreign(route.lists, mark):
            said = f"rule {', '.join(changed)} has weights that somebody else set; they were kept"
            notes.append(f"{route.name}: {said}")
        elif marks.reapplied(route.lists, mark):
            again, _ = self._patch(target, route, weights, mark, mark)
            operations = [one for one in again if not one["path"].startswith("/metadata/annotations")]
        operations += marks.unmark(route.body, target.service)
        if mark.made and (route.body["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by"):
            operations.append({"op": "remove", "path": _OURS})
        self._api.patch(route.resource, name, namespace, operations)
        return notes

    def _make(self, target: Target, holder: Holder, weights: Mapping[str, float]) -> Route:
        resource, body = self._made(target, holder, weights)
        made = self._api.create(resource, body)
        return self.routes.of(target, made, resource) or Route(resource, made, ())

    def _made(self, target: Target, holder: Holder, weights: Mapping[str, float]) -> tuple[Resource, Object]:
        if not any(weights.values()):
            raise InvalidChange(
                f"{target.ref} has no route, and none can be created without weights; write a route for it"
            )
        mark = self._mark(target, holder).model_copy(update={"made": True})
        return self.routes.make(target, marks.integers(weights), mark)

    def _mark(self, target: Target, holder: Holder, before: Mark | None = None) -> Mark:
        made = before.made if before else False
        return Mark(service=target.service, **Writer.of(holder).model_dump(), made=made)

    def _persistently(self, target: Target, route: Route, act: Callable[[Route], _T]) -> _T:
        """Acts on the route; where somebody wrote meanwhile, on what it is then."""
        at = [route]

        def once() -> _T:
            try:
                return act(at[0])
            except Conflict:
                at[0] = self._again(target, route)
                raise

        return self._store.persistently(once, route.name)

    def _again(self, target: Target, route: Route) -> Route:
        body = self._api.get(route.resource, route.body["metadata"]["name"], target.namespace)
        if body is None:
            return Route(route.resource, {**copy.deepcopy(route.body), "metadata": _bare(route.body)}, ())
        return self.routes.of(target, body, route.resource) or Route(route.resource, body, ())


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
