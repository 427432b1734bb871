"""Faults that expire in the proxies: one EnvoyFilter of our own for each lease; the user's objects do not change.

Made as overlays of splits are: the user's route gets a deadline and a key as metadata, and before all others stands a
route for requests that bear the key, which carries them as the user's rule does, but for the fault. That is said to a
constant fault filter behind ours, which does nothing else. A narrower scope is a narrower match of that route: who does
not match goes on to the user's own. Source scopes cannot be said so, for routes do not know who calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autopilot.mesh.errors import InvalidChange, MeshUnavailable, UnreadableRecord
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.client.resources import ENVOY_FILTER
from autopilot.mesh.kube.envoyfilter import conflicts, standing_filter
from autopilot.mesh.kube.envoyfilter.owned_objects import PLANNED, Kept, KeptFilters, renewed, why
from autopilot.mesh.kube.envoyfilter.render import (
    ANY_PATH,
    Laid,
    OverlaidRule,
    enveloped,
    overlaid,
    patch_of,
    same,
    told,
)
from autopilot.mesh.kube.envoyfilter.source_rules import Reader, VirtualHost, route_names
from autopilot.mesh.kube.envoyfilter.standing_filter import FAULT_TYPE, FAULTS
from autopilot.mesh.kube.faults import rule_patch
from autopilot.mesh.kube.faults.istio_fields import Wish, said_in
from autopilot.mesh.kube.faults.match_narrowing import Narrowing, narrowed
from autopilot.mesh.kube.faults.virtual_service import RouteFaults
from autopilot.mesh.kube.routes import fault_marks
from autopilot.mesh.kube.routes.base import Route
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.routes.overlay_port import Marked
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.model import LAST_WRITE, Holder, Target
from autopilot.mesh.overlay_header import OVERLAY_HEADER
from autopilot.mesh.proxy_regex import refuse_regex
from autopilot.spec.chaos.faults import GRPC_CODES

_PERCENT = 10_000
"""In millionths."""


class FilterFaults:
    """Faults of one Istio mesh as EnvoyFilters.

    Args:
        store: where books lie.
        routes: VirtualServices.
        plain: finds the routes, and takes away what the plain driver left.
        namespace: where EnvoyFilters are put.
    """

    def __init__(self, store: KubeStore, routes: IstioRoutes, plain: RouteFaults, namespace: str) -> None:
        self._store = store
        self._api = store.api
        self._routes = routes
        self._plain = plain
        self._namespace = namespace
        self._kept = KeptFilters(store.api, namespace, "fault")

    def check(self, target: Target, wishes: Sequence[Wish]) -> None:
        """Refuses what EnvoyFilters cannot say.

        Raises:
            InvalidChange: with what comes nearest.
            MeshUnavailable: the constant filter is of an earlier release, and others use it still.
        """
        body = self._rendered(target, wishes, renewed(PLANNED, 0.0, None))
        conflicts.refuse(self._api, self._namespace, target, body)
        if not (self._stands() or standing_filter.replaceable(self._api, self._namespace)):
            raise MeshUnavailable(
                f"EnvoyFilter {self._namespace}/{standing_filter.NAME} is from an earlier release and cannot be "
                "replaced while operations use it; try again when they have ended (`autopilot leases`)"
            )

    def planned(self, target: Target, wishes: Sequence[Wish], deadline: float) -> list[tuple[Route | None, Object]]:
        """The EnvoyFilters that would be written."""
        found: list[tuple[Route | None, Object]] = []
        if not self._stands():
            before = self._api.get(ENVOY_FILTER, standing_filter.NAME, self._namespace)
            standing = standing_filter.standing_filter(self._namespace)
            after = standing if before else self._api.create(ENVOY_FILTER, standing, dry_run=True)
            found.append((Route(ENVOY_FILTER, before, ()) if before else None, after))
        body = self._rendered(target, wishes, renewed(PLANNED, deadline, None))
        return [*found, (None, self._api.create(ENVOY_FILTER, body, dry_run=True))]

    def lay(
        self, target: Target, holder: Holder, wishes: Sequence[Wish], deadline: float, *, renews: bool = False
    ) -> tuple[list[Route], list[str]]:
        """Writes the EnvoyFilter that says the faults; what earlier holders left goes. Says what was done.

        Args:
            target: whose.
            holder: who lays.
            wishes: the faults.
            deadline: when they expire in the proxies.
            renews: whether they were laid before: then the constant filter is not looked at.

        Raises:
            LeaseLost: a later holder has laid something.
            InvalidChange: the rules are such that they cannot be laid.
        """

        def once() -> tuple[list[Route], list[str]]:
            mine, earlier = self._kept.before(target, holder)
            body = self._rendered(target, wishes, renewed(holder, deadline, mine))
            if not renews:
                standing_filter.install(self._api, self._namespace)
            done: list[str] = []
            written = mine.body if mine is not None else body
            if mine is None or not same(mine.body, body):
                written = self._kept.write(body, mine)
                done.append(why(body, mine, deadline))
            self._kept.remove(earlier)
            return [Route(ENVOY_FILTER, written, ())], done

        return self._store.persistently(once, f"the EnvoyFilter over {target}")

    def take_away(self, target: Target, fencing: int, *, write: int = LAST_WRITE) -> list[str]:
        """Deletes what this holder, or one before it, has laid; there is nothing that it could not."""
        self._kept.remove(one for one in self._kept.of(target) if one.laid.order <= (fencing, write))
        return []

    def of(self, target: Target) -> list[Kept]:
        """Those over a target, from any operation."""
        return self._kept.of(target)

    def unread(self, mesh: str) -> list[UnreadableRecord]:
        """Those of this mesh that cannot be read."""
        return self._kept.unread(mesh)

    def refuse_unread(self, target: Target) -> None:
        """Refuses a target with EnvoyFilters that do not say whose they are."""
        self._kept.refuse_unread(target)

    def marked(self, mesh: str) -> list[Marked]:
        """Every EnvoyFilter of this mesh that says faults."""
        return self._kept.marked(mesh)

    def _stands(self) -> bool:
        return standing_filter.says_faults(self._api, self._namespace)

    def _rendered(self, target: Target, wishes: Sequence[Wish], laid: Laid) -> Object:
        for one in wishes:
            if one.narrowing.labels or one.narrowing.namespace:
                raise InvalidChange(
                    f"scope.source: {one.words} for one caller is not supported in routes that all proxies share; "
                    "nearest: a header that this caller sends, or driver plain"
                )
        reader = Reader(self._api, self._routes, target)
        routes = self._plain.found(target)
        over = [
            _Over(_beneath(target, route.body), place, self._routes.shares(target, route.body))
            for route, place in reader.places(routes)
        ]
        if not routes:
            made = self._plain.bare(target, wishes)
            over = [
                _Over(made, place, lambda _: {target.service: 100.0}, own=True) for place in reader.default_places()
            ]
        patches: list[Object] = []
        for number, where in enumerate(over):
            patches += _patches(reader, where, wishes, laid.model_copy(update={"token": f"{laid.token}-{number}"}))
        if not patches:
            raise InvalidChange(
                f"{wishes[0].words} would apply to no request: no rule that leads to {target.ref} is in scope"
            )
        reader.refuse_hashing(one.body for one in over)
        return enveloped(self._namespace, target, laid, patches, "fault")


@dataclass(frozen=True, slots=True)
class _Over:
    """One virtual host, and the VirtualService that it is made from."""

    body: Object
    place: VirtualHost
    shares: rule_patch.Shares
    own: bool = False
    """Whether Istio makes it from nothing: its one route is called `default`."""


def _beneath(target: Target, body: Object) -> Object:
    """The user's route without what the plain driver has laid over it: that goes before anything is written."""
    rules = rule_patch.base_of(body, target.service, fault_marks.mark_of(body, target.service))
    return {**body, "spec": {**body["spec"], "http": rules}}


def _patches(reader: Reader, over: _Over, wishes: Sequence[Wish], laid: Laid) -> list[Object]:
    """What is to be changed in one virtual host."""
    body, place = over.body, over.place
    what = f"VirtualService {body['metadata']['namespace']}/{body['metadata']['name']}"
    rules = [rule for rule in fault_marks.rules_of(body) if not fault_marks.is_copy(rule)]
    found: list[Object] = []
    for index, (key, rule) in enumerate(zip(rule_patch.keys_of(rules), rules, strict=True)):
        said = rule_patch.concerning(wishes, over.shares(rule), key, rule_patch.name_of(rule))
        if not said:
            continue
        alone = place.context == "SIDECAR_OUTBOUND"
        names = ("default",) if over.own else route_names(rules, index, what, alone=alone)
        token = f"{laid.token}-{index}"
        base = OverlaidRule(place.context, place.host, names, {})
        own: list[Object] = []
        for narrowing, fields in reversed(said):  # each goes before those that were put there already
            if not _may_meet(rule, narrowing, key):
                continue
            rule_patch.refuse_own(rule, fields, key)
            route = reader.route({**rule, **said_in(rule, fields)}, body, place, own=over.own)
            if isinstance(fault := fields.get("fault"), dict):
                route["typed_per_filter_config"] = {FAULTS: {"@type": FAULT_TYPE, **_in_envoys_words(fault)}}
            piece = replace(base, route=route)
            met = overlaid(piece, token, laid.fencing, _matchers(narrowing), _path(narrowing))
            own.append(patch_of(piece, "INSERT_FIRST", met))
        if not own:
            continue
        # Who bears the key and meets nothing goes on by this route: nobody behind it need know of keys.
        found += [*told(base, token, laid.deadline, {"request_headers_to_remove": [OVERLAY_HEADER]}), *own]
    return found


def _may_meet(rule: Object, narrowing: Narrowing, key: str) -> bool:
    """Whether a request can match both. Where Istio has no match for both it may: here each is matched by itself."""
    try:
        return bool(narrowed(rule, narrowing, key))
    except InvalidChange:
        return True


def _in_envoys_words(fault: Mapping[str, Object]) -> Object:
    found: Object = {}
    for kind, said in fault.items():
        percentage = {"numerator": round(said["percentage"]["value"] * _PERCENT), "denominator": "MILLION"}
        if kind == "delay":
            found["delay"] = {"fixed_delay": said["fixedDelay"], "percentage": percentage}
        elif "httpStatus" in said:
            found["abort"] = {"http_status": said["httpStatus"], "percentage": percentage}
        else:
            found["abort"] = {"grpc_status": GRPC_CODES[said["grpcStatus"]], "percentage": percentage}
    return found


def _matchers(narrowing: Narrowing) -> list[Object]:
    found: list[Object] = []
    for name, match in sorted(narrowing.headers.items()):
        if not match:
            found.append({"name": name, "present_match": True})
            continue
        ((kind, text),) = match.items()
        if kind == "regex":
            refuse_regex(text, f"scope.headers.{name}")
        said = {"safe_regex": {"regex": text}} if kind == "regex" else {kind: text}
        found.append({"name": name, "string_match": said})
    if narrowing.method:
        found.append({"name": ":method", "string_match": dict(narrowing.method)})
    return found


def _path(narrowing: Narrowing) -> Object:
    """As a route's own specifier, which leaves out the query as Istio's match does; a matcher of `:path` would not."""
    if not narrowing.path:
        return ANY_PATH
    ((kind, text),) = narrowing.path.items()
    if kind == "regex":
        refuse_regex(text, "scope.path")
    return {"safe_regex": {"regex": text}} if kind == "regex" else {"path" if kind == "exact" else "prefix": text}
