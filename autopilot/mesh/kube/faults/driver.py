"""Faults in a cluster's mesh: in VirtualServices, or in objects of our own."""

from __future__ import annotations

from collections.abc import Sequence

from autopilot.mesh.capabilities import ability
from autopilot.mesh.errors import InvalidChange, MeshError, TakenOver, UnreadableRecord
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.faults.envoyfilter import FilterFaults
from autopilot.mesh.kube.faults.network_policy import Partitions
from autopilot.mesh.kube.faults.virtual_service import RouteFaults
from autopilot.mesh.kube.routes.base import Route, Routes, selector_of
from autopilot.mesh.kube.routes.discovery import RouteDiscovery
from autopilot.mesh.kube.routes.fault_marks import own_mark
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.routes.overlay_port import Marked
from autopilot.mesh.kube.routes.service_entries import refuse_absent
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.model import LAST_WRITE, Holder, InjectFault, Target, Tier
from autopilot.spec.chaos.faults import Partition, describe


class FaultDriver:
    """Lays faults, looks after them and takes them away. All of it is safe to repeat.

    Args:
        store: of the mesh.
        routes: what its routes are written in.
        driver: as its file names it.
        filters: where EnvoyFilters are put.
    """

    def __init__(self, store: KubeStore, routes: Routes, driver: str, filters: str = "istio-system") -> None:
        self._store = store
        self._api = store.api
        self._kinds, self._provider, self._driver = routes, routes.provider, driver
        self._routes: RouteFaults | None = None
        self._filters: FilterFaults | None = None
        labels = self._labels_by_services
        if isinstance(routes, IstioRoutes):
            self._routes = RouteFaults(store, routes)
            labels = routes.labels
            if driver == "envoyfilter":
                self._filters = FilterFaults(store, routes, self._routes, filters)
        self._partitions = Partitions(store.api, labels)

    def found(self, target: Target) -> list[Route]:
        """The routes that faults of the target are said in; a partition needs none.

        Raises:
            InvalidChange: no such target.
            Forbidden: NetworkPolicies may not be looked for: better said before anything is laid.
        """
        refuse_absent(self._api, target, self._provider)
        self._partitions.of(target)
        return [] if self._routes is None else self._routes.found(target)

    def laid(self, target: Target) -> bool:
        """Whether faults lie over the target's routes: what was refused before they were laid is not asked again."""
        if self._routes is not None and self._routes.laid(target):
            return True
        return self._filters is not None and bool(self._filters.of(target))

    def check(self, target: Target, injected: Sequence[InjectFault]) -> None:
        """Refuses what cannot be said here, or not over what is there. Writes nothing.

        Raises:
            InvalidChange: with what comes nearest.
        """
        refuse_absent(self._api, target, self._provider)
        for one in injected:
            able = ability(self._provider, self._driver, one.fault.type)
            if not able.supported:
                raise InvalidChange(
                    f"{describe(one.fault)}: provider {self._provider}, driver {self._driver}, {able.note}"
                )
        said = _said(injected)
        if said and self._routes is not None:
            if not self.laid(target) and (problems := RouteDiscovery(self._api, self._kinds, target).refusals()):
                raise InvalidChange("; ".join(problems))
            (self._filters or self._routes).check(target, self._routes.wishes(target, said))
        self._partitions.check(target, injected)

    def lay(
        self, target: Target, holder: Holder, injected: Sequence[InjectFault], deadline: float
    ) -> tuple[list[Route], list[str]]:
        """Lays these faults, and takes away what this holder laid before; returns what was written, and what was done.

        Raises:
            TakenOver: somebody else has changed what we laid.
            LeaseLost: a later holder has laid something.
            InvalidChange: they cannot be laid over what is there.
        """
        said = _said(injected)
        written: list[Route] = []
        done: list[str] = []
        if said and self._routes is not None:
            written, done = self._say(self._routes, target, holder, said, deadline)
        else:
            for one in (self._filters, self._routes):
                done += one.take_away(target, holder.fencing) if one is not None else []
        policies, more = self._cut_off(target, holder, injected, deadline)
        return [*written, *policies], [*done, *more]

    def look_after(self, target: Target, holder: Holder, injected: Sequence[InjectFault], deadline: float) -> list[str]:
        """Repairs the overlay after edits of others; returns what was done, one sentence each.

        Raises:
            TakenOver: somebody else has changed it.
        """
        done, said = [], _said(injected)
        if said and self._routes is not None:
            try:
                done += self._say(self._routes, target, holder, said, deadline, adopt=True)[1]
            except InvalidChange as error:
                raise TakenOver(
                    f"somebody else changed the routes under the faults of {holder.operation}, and the faults cannot "
                    f"be laid again: {error}"
                ) from error
        if len(said) < len(injected):
            done += self._cut_off(target, holder, injected, deadline)[1]
        return done

    def _cut_off(
        self, target: Target, holder: Holder, injected: Sequence[InjectFault], deadline: float
    ) -> tuple[list[Route], list[str]]:
        return self._store.persistently(
            lambda: self._partitions.lay(target, holder, injected, deadline), f"the NetworkPolicies of {target}"
        )

    def take_away(self, target: Target, fencing: int, *, write: int = LAST_WRITE) -> list[str]:
        """Takes away what this holder, or one before it, has laid; partitions first, for they cost most.

        Returns:
            What could not be restored because somebody else had changed it, one sentence each.
        """
        notes: list[str] = []
        failed: list[MeshError] = []
        for one in (self._partitions, self._filters, self._routes):
            try:
                notes += one.take_away(target, fencing, write=write) if one is not None else []
            except MeshError as error:
                failed.append(error)  # one object's trouble is not another's
        if failed:
            raise failed[0]
        return notes

    def planned(
        self, target: Target, injected: Sequence[InjectFault], deadline: float
    ) -> list[tuple[Route | None, Object]]:
        """Every object as it stands (None: it does not), and as the API server says it would be. Writes nothing."""
        said = _said(injected)
        found: list[tuple[Route | None, Object]] = []
        if self._routes is not None and said:
            wishes = self._routes.wishes(target, said)
            found = (
                self._filters.planned(target, wishes, deadline)
                if self._filters is not None
                else self._routes.planned(target, wishes)
            )
        return [*found, *self._partitions.planned(target, injected, deadline)]

    def marked(self, mesh: str) -> list[Marked]:
        """Every fault of this mesh in the cluster."""
        found = self._partitions.marked(mesh)
        for one in (self._routes, self._filters):
            found += one.marked(mesh) if one is not None else []
        return found

    def refuse_unread(self, target: Target, routes: Sequence[Route]) -> None:
        """Refuses a target over which faults are laid that cannot be read.

        Raises:
            UnreadableRecord: with their place.
        """
        self._partitions.refuse_unread(target)
        for route in routes if self._routes is not None else ():
            own_mark(route.body, target.service)
        if self._filters is not None:
            self._filters.refuse_unread(target)

    def unread(self, mesh: str) -> list[UnreadableRecord]:
        """Marks of faults, and objects of our own that say them, that cannot be read."""
        found = self._partitions.unread(mesh)
        for one in (self._routes, self._filters):
            found += one.unread(mesh) if one is not None else []
        return found

    def tier(self, injected: Sequence[InjectFault]) -> Tier:
        """What restores all of these faults when no process of Autopilot lives."""
        return Tier.PROXY if self.expire(injected) and _said(injected) == list(injected) else Tier.GUARD

    def expire(self, injected: Sequence[InjectFault]) -> bool:
        """Whether some of them expire in the proxies by themselves."""
        return self._filters is not None and bool(_said(injected))

    def _say(
        self,
        routes: RouteFaults,
        target: Target,
        holder: Holder,
        said: Sequence[InjectFault],
        deadline: float,
        *,
        adopt: bool = False,
    ) -> tuple[list[Route], list[str]]:
        wishes = routes.wishes(target, said)
        if self._filters is None:
            return routes.lay(target, holder, wishes, adopt=adopt)
        notes = routes.take_away(target, holder.fencing)  # the plain driver's, from before
        written, done = self._filters.lay(target, holder, wishes, deadline, renews=adopt)
        return written, [*notes, *done]

    def _labels_by_services(self, namespace: str, service: str, arm: str | None) -> dict[str, str]:
        """Where versions are Services, what these select."""
        return selector_of(self._api, Target(mesh="", namespace=namespace, service=arm or service))


def _said(injected: Sequence[InjectFault]) -> list[InjectFault]:
    """Those that routes say."""
    return [one for one in injected if not isinstance(one.fault, Partition)]
