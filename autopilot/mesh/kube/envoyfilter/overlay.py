"""Overlays that expire in the proxies: one EnvoyFilter of our own for each lease; the user's objects do not change.

Laid, moved and removed by writing that one object. Only a commit writes a VirtualService: first the overlay is made
to stay, then the weights become the base, then the overlay is removed. Any process that finds a commit half done
completes it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from autopilot.mesh.errors import InvalidChange, TakenOver, UnreadableRecord
from autopilot.mesh.kube.client import json_patch
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.client.resources import ENVOY_FILTER
from autopilot.mesh.kube.envoyfilter import conflicts, standing_filter
from autopilot.mesh.kube.envoyfilter.owned_objects import PLANNED, Kept, KeptFilters, own, renewed, why
from autopilot.mesh.kube.envoyfilter.render import FOR_EVER, Laid, overlay, same, with_deadline
from autopilot.mesh.kube.envoyfilter.source_rules import Reader
from autopilot.mesh.kube.routes import weight_patch
from autopilot.mesh.kube.routes.backends import Arms
from autopilot.mesh.kube.routes.base import Route, Routes, Split
from autopilot.mesh.kube.routes.discovery import Found
from autopilot.mesh.kube.routes.driver import Overlayer
from autopilot.mesh.kube.routes.overlay_port import Marked
from autopilot.mesh.kube.routes.patch_marks import own_mark
from autopilot.mesh.kube.routes.weight_patch import Mark
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.model import EVERY_RULE, LAST_WRITE, Holder, RuleChoice, Target, Tier

SETTLE = 2.0
"""Seconds between a commit's two writes: Istio reads VirtualServices and EnvoyFilters by two streams, and no proxy may
be told that the overlay is gone before it was told of the new base."""


class FilterOverlayer:
    """Overlays of one Istio mesh as EnvoyFilters.

    Args:
        store: where books lie.
        routes: VirtualServices.
        namespace: where EnvoyFilters are put.
        clock: seconds since the epoch.
        sleep: waits; exchanged by tests alone.
    """

    tier = Tier.PROXY

    def __init__(
        self,
        store: KubeStore,
        routes: Routes,
        namespace: str,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.routes = routes
        self._store = store
        self._api = store.api
        self._plain = Overlayer(store, routes)
        self._namespace = namespace
        self._kept = KeptFilters(store.api, namespace, "split")
        self._clock = clock
        self._sleep = sleep

    def resolved(
        self, target: Target, weights: Mapping[str, float], choice: RuleChoice = EVERY_RULE, *, strict: bool = True
    ) -> Split:
        """A split of the target with its arms looked up; see `Overlays`."""
        return self._plain.resolved(target, weights, choice, strict=strict and not self._kept.of(target))

    def nearby(self, target: Target) -> list[Route]:
        """Any VirtualService of the target's namespace: a commit writes them."""
        return self._plain.nearby(target)

    def around(self, target: Target, split: Split) -> Found:
        """What the split concerns, and what stands beside it."""
        return self._plain.around(target, split)

    def found(self, target: Target, split: Split | None = None) -> list[Route]:
        """Every VirtualService that a split concerns, or that leads to the target."""
        last = max(self._kept.of(target), key=lambda one: one.laid.fencing, default=None) if split is None else None
        if last is not None and (arms := _arms(last.laid)):
            split = Split(last.laid.weights, arms)
        return self._plain.found(target, split)

    def marked(self, mesh: str) -> list[Marked]:
        """Every overlay of this mesh, marks of the plain driver among them."""
        return [*self._plain.marked(mesh), *self._kept.marked(mesh)]

    def unread(self, mesh: str) -> list[UnreadableRecord]:
        """Marks and EnvoyFilters that cannot be read."""
        return [*self._plain.unread(mesh), *self._kept.unread(mesh)]

    def refuse_unread(self, target: Target, routes: Iterable[Route]) -> None:
        """Refuses a target with marks or EnvoyFilters that cannot be read."""
        self._plain.refuse_unread(target, routes)
        self._kept.refuse_unread(target)

    def lay(
        self,
        target: Target,
        holder: Holder,
        weights: Mapping[str, float],
        deadline: float,
        *,
        choice: RuleChoice = EVERY_RULE,
    ) -> list[Route]:
        """Writes the overlay's EnvoyFilter; what earlier holders left goes."""

        def once() -> list[Route]:
            mine, earlier = self._kept.before(target, holder)
            standing = self._plain.found(target)
            if any(mark.fencing <= holder.fencing for route in standing for mark in self._marks(target, route)):
                self._plain.take_away(target, holder.fencing)  # the plain driver's, from before
            split = self.resolved(target, weights, choice)
            routes = self._plain.found(target, split)
            body = self._rendered(target, renewed(holder, deadline, mine, weights), split, routes)
            conflicts.refuse(self._api, self._namespace, target, body)
            standing_filter.install(self._api, self._namespace)
            written = self._kept.write(body, mine)
            self._kept.remove(earlier)
            return [Route(ENVOY_FILTER, written, ())]

        return self._store.persistently(once, f"the EnvoyFilter over {target}")

    def look_after(
        self,
        target: Target,
        holder: Holder,
        weights: Mapping[str, float],
        deadline: float,
        *,
        choice: RuleChoice = EVERY_RULE,
    ) -> list[str]:
        """Writes the EnvoyFilter again where it is gone, its deadline has moved, or the rules beneath have changed."""

        def once() -> list[str]:
            mine, _ = self._kept.before(target, holder)
            arms = _arms(mine.laid) if mine is not None else {}
            if set(weights) <= set(arms):
                split = Split(weights, {arm: arms[arm] for arm in weights}, choice)
            else:
                split = self._plain.resolved(target, weights, choice, strict=False)
            routes = self._plain.found(target, split)
            body = self._rendered(target, renewed(holder, deadline, mine, weights), split, routes)
            if mine is not None and same(mine.body, body):
                return []
            self._kept.write(body, mine)
            return [why(body, mine, deadline)]

        return self._store.persistently(once, f"the EnvoyFilter over {target}")

    def take_away(
        self,
        target: Target,
        fencing: int,
        *,
        write: int = LAST_WRITE,
        commit: Mapping[str, float] | None = None,
        choice: RuleChoice = EVERY_RULE,
    ) -> list[str]:
        """Deletes what this holder, or one before it, has laid; a commit writes the weights into the base first."""
        filters = [one for one in self._kept.of(target) if one.laid.order <= (fencing, write)]
        notes = []
        if commit is not None:
            keep = functools.partial(self._keep, target, fencing)
            mine = self._store.persistently(keep, f"the EnvoyFilter over {target}")
            if mine is not None:
                notes += self._write_base(target, commit, choice, mine)
            if filters:
                self._sleep(SETTLE)
        self._kept.remove(filters)
        return notes + self._plain.take_away(target, fencing, write=write, commit=commit, choice=choice)

    def planned(
        self, target: Target, weights: Mapping[str, float], deadline: float, *, choice: RuleChoice = EVERY_RULE
    ) -> list[tuple[Route | None, Object]]:
        """The EnvoyFilters that would be written."""
        split = self.resolved(target, weights, choice)
        found = []
        if standing_filter.missing(self._api, self._namespace):
            standing = standing_filter.standing_filter(self._namespace)
            found.append((None, self._api.create(ENVOY_FILTER, standing, dry_run=True)))
        routes = self._plain.found(target, split)
        body = self._rendered(target, renewed(PLANNED, deadline, None, weights), split, routes)
        now = max(self._kept.of(target), key=lambda one: one.laid.fencing, default=None)
        before = Route(ENVOY_FILTER, now.body, ()) if now else None
        return [*found, (before, self._api.create(ENVOY_FILTER, body, dry_run=True))]

    def in_force(self, target: Target, routes: Iterable[Route]) -> tuple[dict[str, float], dict[str, float]]:
        """The overlay's weights while its deadline is to come, else the base's."""
        now, base = self._plain.in_force(target, routes)
        last = max(self._kept.of(target), key=lambda one: one.laid.fencing, default=None)
        return (dict(last.laid.weights) if last and self._clock() < last.laid.deadline else now), base

    def _rendered(self, target: Target, new: Laid, split: Split, routes: Sequence[Route]) -> Object:
        """The EnvoyFilter; `new` has the marks of what was laid before."""
        self._refuse_foreign(target, routes, new)
        reader = Reader(self._api, self.routes, target)
        mark = Mark(service=target.service, operation=new.operation, fencing=new.fencing, arms=dict(split.arms))
        intended = [reader.intended(route, split, mark, new.marks.get(_name(route))) for route in routes]
        pieces = reader.pieces(intended) if routes else reader.without_route(self._made(target, split, mark))
        laid = new.model_copy(update={"marks": {_name(one.route): one.mark for one in intended}})
        return overlay(self._namespace, target, laid, pieces)

    def _refuse_foreign(self, target: Target, routes: Sequence[Route], laid: Laid) -> None:
        for route in routes:
            mark = laid.marks.get(_name(route))
            if mark is not None and (changed := weight_patch.foreign(route.lists, mark)):
                raise TakenOver(
                    f"somebody else changed the weights of {route.name} (rule {', '.join(changed)}) since "
                    f"{laid.operation} laid an overlay on {target.ref}; those changes were kept"
                )

    def _keep(self, target: Target, fencing: int) -> Kept | None:
        """A commit that has begun does not fall back: the overlay stays until the base says the same."""
        mine = own(self._kept.of(target), fencing)
        if mine is not None and mine.unread is not None:
            raise mine.unread  # what was there before, and so what is somebody else's by now, is not known
        if mine is not None and mine.laid.deadline < FOR_EVER:
            self._api.patch(ENVOY_FILTER, mine.name, self._namespace, with_deadline(mine.body, mine.laid, FOR_EVER))
        return mine

    def _write_base(self, target: Target, weights: Mapping[str, float], choice: RuleChoice, mine: Kept) -> list[str]:
        """Makes the weights the base, as the plain driver's overlay would have; says what was left alone.

        Once the filter is gone nothing is written any more: later changes are the user's.
        """
        arms = _arms(mine.laid)
        known = {arm: arms[arm] for arm in weights} if set(weights) <= set(arms) else {}
        split = Split(weights, known, choice) if known else self.resolved(target, weights, choice, strict=False)
        routes = self._plain.found(target, split)
        new = Mark(service=target.service, operation="commit", fencing=0, arms=dict(split.arms))
        if not routes and mine.laid.marks:
            return []  # all of them say it already: a commit that was cut off goes on here
        if not routes:
            body = self._made(target, split, new)
            if self._api.get(self.routes.kinds[0], body["metadata"]["name"], target.namespace) is not None:
                return []
            for key in ("labels", "annotations"):
                body["metadata"].pop(key, None)  # it is the user's from now on
            self._api.create(self.routes.kinds[0], body)
            return []
        notes: list[str] = []
        for route in routes:
            if any(self._marks(target, route)):
                continue  # the plain driver has written it already
            mark = mine.laid.marks.get(_name(route))
            write = functools.partial(self._commit, target, split, new, route, mark)
            notes += self._store.persistently(write, route.name)
        return notes

    def _commit(self, target: Target, split: Split, new: Mark, route: Route, mark: Mark | None) -> list[str]:
        current = next((one for one in self._plain.found(target, split) if one.name == route.name), None)
        if current is None:
            return []
        if mark is not None and (changed := weight_patch.foreign(current.lists, mark)):
            return [f"{route.name}: rule {', '.join(changed)} has weights that somebody else set; they were kept"]
        intended = Reader(self._api, self.routes, target).intended(current, split, new)
        if json_patch.changes(intended.operations):
            self._api.patch(current.resource, _name(current), target.namespace, intended.operations)
        return []

    def _made(self, target: Target, split: Split, mark: Mark) -> Object:
        if not any(split.weights.values()):
            raise InvalidChange(
                f"{target.ref} has no route, and none can be created without weights; write a route for it"
            )
        return self.routes.make(target, weight_patch.integers(split.weights), split.arms, mark)[1]

    def _marks(self, target: Target, route: Route) -> list[Mark]:
        mark = own_mark(route.body, target.service)
        return [] if mark is None else [mark]


def _arms(laid: Laid) -> Arms:
    """The arms that an EnvoyFilter of ours was laid for, as far as it says so."""
    return next((mark.arms for mark in laid.marks.values() if mark.arms), {})


def _name(route: Route) -> str:
    return str(route.body["metadata"]["name"])
