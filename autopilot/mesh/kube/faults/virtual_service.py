"""Faults in the user's VirtualServices: laid, looked after, and taken away.

Every write is one patch of one object that holds for the version that was read; who was too late reads again. A service
that no VirtualService leads to gets one of ours for as long as the faults are laid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from autopilot.mesh.errors import InvalidChange, MeshError, TakenOver, UnreadableRecord
from autopilot.mesh.kube.client.api_errors import Absent, Conflict
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.client.json_patch import changes, version
from autopilot.mesh.kube.client.resources import VIRTUAL_SERVICE
from autopilot.mesh.kube.faults import rule_patch
from autopilot.mesh.kube.faults.istio_fields import Wish, wish
from autopilot.mesh.kube.routes import fault_marks
from autopilot.mesh.kube.routes.base import Route
from autopilot.mesh.kube.routes.driver import editor
from autopilot.mesh.kube.routes.fault_marks import PREFIX, FaultMark
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.routes.overlay_port import Marked
from autopilot.mesh.kube.routes.patch_marks import unread_marks
from autopilot.mesh.kube.routes.service_entries import refuse_absent, refuse_routed
from autopilot.mesh.kube.routes.weight_patch import Mark
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.kube.state.write_order import refuse_later
from autopilot.mesh.model import LAST_WRITE, Holder, InjectFault, Target, Writer
from autopilot.spec.chaos.scope import Scope

_T = TypeVar("_T")
_PLANNED = Holder(operation="planned", fencing=0)


class RouteFaults:
    """Writes faults of one Istio mesh. No proxy knows of deadlines here: guards keep them."""

    def __init__(self, store: KubeStore, routes: IstioRoutes) -> None:
        self._store = store
        self._api = store.api
        self._routes = routes

    def found(self, target: Target) -> list[Route]:
        """Every VirtualService that leads to the target."""
        return [_route(body) for body in self._theirs(target, self._bodies(target))]

    def laid(self, target: Target) -> bool:
        """Whether faults lie over the target's routes, or in one that was made for them."""
        return any(fault_marks.bears_mark(body, target.service) for body in self._bodies(target))

    def wishes(self, target: Target, injected: Sequence[InjectFault]) -> list[Wish]:
        """The faults in Istio's words.

        Raises:
            InvalidChange: one cannot be said, or its scope names what is not there.
        """
        found = []
        for one in injected:
            scope = one.scope or Scope(percentage=100)
            labels, namespace = None, ""
            if scope.arm is not None:
                known = {**self._routes.known(target), **self._routes.named(target, self._bodies(target))}
                if scope.arm not in known:
                    arms = ", ".join(known) or "none: it has no subsets"
                    raise InvalidChange(f"scope.arm: {target.ref} has no arm {scope.arm}; it has {arms}")
            if scope.rule is not None:
                self._refuse_unknown_rule(target, scope.rule)
            if scope.source is not None:
                if scope.source.service is None:
                    raise InvalidChange(
                        "scope.source.proxy: VirtualServices identify callers by labels; nearest: source.service"
                    )
                *where, name = scope.source.service.split("/")
                namespace = where[0] if where else target.namespace
                labels = self._routes.labels(namespace, name, scope.source.arm)
            found.append(wish(one.fault, scope, labels=labels, namespace=namespace))
        return found

    def planned(self, target: Target, wishes: Sequence[Wish]) -> list[tuple[Route | None, Object]]:
        """Every object as it stands (None: it does not), and as the API server says it would be. Writes nothing.

        Raises:
            InvalidChange: the faults cannot be laid over the rules there are.
        """
        theirs = self._theirs(target, self._bodies(target))
        if not theirs:
            return [(None, self._api.create(VIRTUAL_SERVICE, self._made(target, wishes, _PLANNED), dry_run=True))]
        found: list[tuple[Route | None, Object]] = []
        for body in self._met(target, theirs, wishes):
            operations, _ = self._said(target, body, wishes, _PLANNED)
            after = self._api.patch(VIRTUAL_SERVICE, _name(body), target.namespace, operations, dry_run=True)
            found.append((_route(body), after))
        return found

    def check(self, target: Target, wishes: Sequence[Wish]) -> None:
        """Refuses what the rules there are cannot say.

        Raises:
            InvalidChange: with the rule's name.
        """
        if theirs := self._theirs(target, self._bodies(target)):
            self._met(target, theirs, wishes)
        else:
            self._made(target, wishes, _PLANNED)

    def lay(
        self, target: Target, holder: Holder, wishes: Sequence[Wish], *, adopt: bool = False
    ) -> tuple[list[Route], list[str]]:
        """Makes every rule that leads to the target say the faults, and none that were laid before; safe to repeat.

        Args:
            target: whose.
            holder: who lays.
            wishes: the faults.
            adopt: whether what stands there without a mark is taken for ours.

        Returns:
            The objects as they are now, and what was done, one sentence each written object.

        Raises:
            TakenOver: somebody else has changed what we laid.
            LeaseLost: a later holder has laid something.
            InvalidChange: the rules are such that they cannot be laid.
        """

        def once() -> tuple[list[Route], list[str]]:
            bodies = self._bodies(target)
            for body in bodies:
                self._refuse_later(target, body, holder)
            theirs = self._theirs(target, bodies)
            written, done = [], []
            for body in bodies:
                if fault_marks.is_ours(body):
                    continue
                said = self._persistently(target, body, lambda now: self._lay(target, now, wishes, holder, adopt=adopt))
                if said is not None:
                    written.append(_route(said[0]))
                    done += said[1]
            ours = [body for body in bodies if fault_marks.is_ours(body)]
            if not theirs:
                made, done = self._make(target, wishes, holder, ours)
                return [_route(made)], done
            for body in ours:  # another client has written a route meanwhile
                self._delete(body, target)
            if not written:
                self._met(target, theirs, wishes)
            return written, done

        return self._store.persistently(once, f"the routes of {target.ref}")

    def take_away(self, target: Target, fencing: int, *, write: int = LAST_WRITE) -> list[str]:
        """Takes away what this holder, or one before it, has laid.

        Returns:
            What could not be restored because somebody else had changed it, one sentence each.
        """
        notes: list[str] = []
        failed: list[MeshError] = []
        for body in self._bodies(target):
            try:
                notes += self._persistently(target, body, lambda now: self._take_away(target, now, (fencing, write)))
            except MeshError as error:
                failed.append(error)  # one object's trouble is not another's
        if failed:
            raise failed[0]
        return notes

    def marked(self, mesh: str) -> list[Marked]:
        """Every mark of faults on any VirtualService of the cluster."""
        found = []
        for body in self._list(None):
            for mark in fault_marks.marks_of(body):
                target = Target(mesh=mesh, namespace=body["metadata"]["namespace"], service=mark.service)
                said = Mark(service=mark.service, operation=mark.operation, fencing=mark.fencing, write=mark.write)
                found.append(Marked(target, _route(body), said))
        return found

    def unread(self, mesh: str) -> list[UnreadableRecord]:
        """Marks of faults that cannot be read, on any VirtualService of the cluster: they name no mesh."""
        del mesh
        return [error for body in self._list(None) for error in unread_marks(body, PREFIX, FaultMark)]

    def _said(
        self, target: Target, body: Object, wishes: Sequence[Wish], holder: Holder, *, adopt: bool = False
    ) -> tuple[list[Object], FaultMark | None]:
        shares = self._routes.shares(target, body)
        try:
            return rule_patch.lay(body, wishes, shares, service=target.service, holder=holder, adopt=adopt)
        except InvalidChange as error:
            raise InvalidChange(f"{_route(body).name}: {error}") from error

    def _theirs(self, target: Target, bodies: Sequence[Object]) -> list[Object]:
        """Those that lead to the target and are not ours."""
        return [body for body in bodies if not fault_marks.is_ours(body) and self._leads(target, body)]

    def _met(self, target: Target, theirs: Sequence[Object], wishes: Sequence[Wish]) -> list[Object]:
        """Those of them in which somebody would meet the faults.

        Raises:
            InvalidChange: nobody would, in any; or one of them cannot say them.
        """
        found = [body for body in theirs if self._said(target, body, wishes, _PLANNED)[1] is not None]
        if not found:
            arm = next((one.arm for one in wishes if one.arm), "")
            why = f"gives {arm} any traffic" if arm else "takes a request that is in scope"
            names = ", ".join(_route(body).name for body in theirs)
            raise InvalidChange(f"{wishes[0].words} would apply to no request: no rule of {names} {why}")
        return found

    def _refuse_unknown_rule(self, target: Target, name: str) -> None:
        theirs = self._theirs(target, self._bodies(target))
        names = [rule_patch.name_of(rule) for body in theirs for rule in self._leading(target, body)]
        if name in names:
            return
        known = ", ".join(dict.fromkeys(filter(None, names)))
        if not theirs:
            why = f"no VirtualService of namespace {target.namespace} leads to {target.ref}; leave out rule"
        elif not known:
            why = f"no rule that leads to {target.ref} has a name; give the rule a name, or write path or headers"
        else:
            why = f"no rule of that name leads to {target.ref}; these do: {known}"
        raise InvalidChange(f"scope.rule: {name!r}: {why}")

    def _leads(self, target: Target, body: Object) -> bool:
        return bool(self._leading(target, body))

    def _leading(self, target: Target, body: Object) -> list[Object]:
        """The rules that give the target some of their requests."""
        shares = self._routes.shares(target, body)
        rules = (rule for rule in fault_marks.rules_of(body) if not fault_marks.is_copy(rule))
        return [rule for rule in rules if any(share for arm, share in shares(rule).items() if arm)]

    def _refuse_later(self, target: Target, body: Object, holder: Holder) -> FaultMark | None:
        mark = fault_marks.own_mark(body, target.service)
        if mark is not None:
            refuse_later(mark, holder, _route(body).name)
        return mark

    def _lay(
        self, target: Target, body: Object, wishes: Sequence[Wish], holder: Holder, *, adopt: bool
    ) -> tuple[Object, list[str]] | None:
        """Lays over one object: what it is now, and what was done; None where nobody meets anything in it."""
        mark = self._refuse_later(target, body, holder)
        mine = mark is not None and mark.fencing == holder.fencing
        if mark is not None and mine and (changed := rule_patch.foreign(body, mark)):
            raise TakenOver(
                f"{editor(body)} changed {_route(body).name} ({', '.join(changed)}) since {mark.operation} laid faults "
                "on it; those changes were kept"
            )
        try:
            operations, new = self._said(target, body, wishes, holder, adopt=adopt)
        except InvalidChange as error:
            if mine:
                raise TakenOver(f"{editor(body)} changed the route after faults were laid on it: {error}") from error
            raise
        if not changes(operations):
            return (body, []) if new is not None else None
        written = self._api.patch(VIRTUAL_SERVICE, _name(body), target.namespace, operations)
        return (
            (written, [f"{_route(body).name} had been changed by somebody else; the faults were written again"])
            if new is not None
            else None
        )

    def _take_away(self, target: Target, body: Object, up_to: tuple[int, int]) -> list[str]:
        mark = fault_marks.own_mark(body, target.service)
        if mark is None or mark.order > up_to:
            return []
        if mark.made:
            self._delete(body, target)
            return []
        operations, notes = rule_patch.restore(body, mark)
        self._api.patch(VIRTUAL_SERVICE, _name(body), target.namespace, operations)
        return [f"{_route(body).name}: {note}" for note in notes]

    def _make(
        self, target: Target, wishes: Sequence[Wish], holder: Holder, ours: Sequence[Object]
    ) -> tuple[Object, list[str]]:
        """A VirtualService of our own; one that an earlier holder left, or an earlier step, goes."""
        wanted = self._made(target, wishes, holder)
        for body in ours:
            mark = self._refuse_later(target, body, holder)
            if mark is not None and mark.fencing == holder.fencing and body.get("spec") == wanted["spec"]:
                return body, []
            self._delete(body, target)
        made = self._api.create(VIRTUAL_SERVICE, wanted)
        return made, [f"{_route(made).name} was missing or had been changed, and was written again"]

    def _made(self, target: Target, wishes: Sequence[Wish], holder: Holder) -> Object:
        mark = FaultMark(service=target.service, **Writer.of(holder).model_dump(), made=True)
        body = self.bare(target, wishes)
        body["spec"]["http"], _ = rule_patch.said_over(
            body["spec"]["http"],
            wishes,
            lambda _: {target.service: 100.0},
            service=target.service,
            fencing=holder.fencing,
        )
        body["metadata"]["annotations"] = {PREFIX + target.service: mark.model_dump_json()}
        return body

    def bare(self, target: Target, wishes: Sequence[Wish]) -> Object:
        """A VirtualService that leads to the target as Istio does without one.

        Raises:
            InvalidChange: there is no such Service or host, or a wish means one version of it, or one rule.
        """
        refuse_absent(self._api, target, self._routes.provider)
        if target.external:
            refuse_routed(self._api, target)
        if one := next((one for one in wishes if one.rule), None):
            raise InvalidChange(
                f"scope.rule: no VirtualService leads to {target.ref}, and so none has rule {one.rule!r}; leave out "
                "rule"
            )
        if one := next((one for one in wishes if one.arm), None):
            raise InvalidChange(
                f"scope.arm: no VirtualService leads to {target.ref}, and so none to {one.arm} alone; nearest: leave "
                "out arm"
            )
        return {
            "apiVersion": VIRTUAL_SERVICE.api_version,
            "kind": VIRTUAL_SERVICE.kind,
            "metadata": {
                "name": f"autopilot-fault-{target.service}",
                "namespace": target.namespace,
                "labels": {"app.kubernetes.io/managed-by": "autopilot"},
            },
            "spec": {"hosts": [target.service], "http": [{"route": [{"destination": {"host": target.service}}]}]},
        }

    def _bodies(self, target: Target) -> list[Object]:
        """VirtualServices of the target's namespace that lead to it, or that something of ours lies over."""
        return [
            body
            for body in self._list(target.namespace)
            if self._leads(target, body) or fault_marks.bears_mark(body, target.service)
        ]

    def _list(self, namespace: str | None) -> list[Object]:
        try:
            return self._api.list(VIRTUAL_SERVICE, namespace)
        except Absent:
            return []

    def _delete(self, body: Object, target: Target) -> None:
        self._api.delete(VIRTUAL_SERVICE, _name(body), target.namespace, version=version(body))

    def _persistently(self, target: Target, body: Object, act: Callable[[Object], _T]) -> _T:
        """Acts on the object; where somebody wrote meanwhile, on what it is then."""
        at = [body]

        def once() -> _T:
            try:
                return act(at[0])
            except Conflict:
                found = self._api.get(VIRTUAL_SERVICE, _name(body), target.namespace)
                at[0] = found or {"metadata": {"name": _name(body), "namespace": target.namespace}}
                raise

        return self._store.persistently(once, _route(body).name)


def _route(body: Object) -> Route:
    return Route(VIRTUAL_SERVICE, body, ())


def _name(body: Object) -> str:
    return str(body["metadata"]["name"])
