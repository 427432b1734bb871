"""One EnvoyFilter for one overlay: pure, same input, same output.

The user's own route gets the deadline and a key as metadata; the overlay's route stands before all others and matches
the key in an internal header alone. Only the constant filter sets that header, only from the metadata of the route that
matched: so the user's rules decide as ever which requests are concerned, and order does not matter. The key cannot be
guessed, so a forged header means nothing even where the filter was removed.

The object's priority is the fencing number: where a late writer left another, the metadata of the later holder wins.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.kube.client.client import Object, Operation
from autopilot.mesh.kube.client.resources import ENVOY_FILTER
from autopilot.mesh.kube.envoyfilter.standing_filter import FILTER, MANAGED
from autopilot.mesh.kube.routes.weight_patch import Mark
from autopilot.mesh.leases.unreadable import why_of
from autopilot.mesh.model import Holder, Target
from autopilot.mesh.overlay_header import OVERLAY_HEADER
from autopilot.wire import Wire

LABEL = "meshautopilot.io/"
FAULT = LABEL + "fault"
"""Of objects that say faults, and no splits."""
MESH, NAMESPACE, SERVICE, FENCING = (LABEL + name for name in ("mesh", "namespace", "service", "fencing"))
LEASE, DEADLINE, OVERLAY = (LABEL + name for name in ("lease", "deadline", "overlay"))
FOR_EVER = 32_503_680_000.0
"""Of a commit under way, which never falls back: the year 3000, in seconds since the epoch."""
_HIGHEST = 2**31 - 1
ANY_PATH: Final = {"prefix": "/"}
"""A route's path specifier where it is for every path."""
Kind = Literal["split", "fault"]
"""What an EnvoyFilter of ours says."""


class Laid(Wire):
    """What an EnvoyFilter of ours says of itself, in an annotation."""

    operation: str
    fencing: int
    write: int = 0
    """Number of the operation's write that laid it."""
    deadline: float
    """Seconds since the epoch."""
    token: str
    weights: dict[str, float]
    """Percent by arm."""
    marks: dict[str, Mark] = Field(default_factory=dict)
    """VirtualService → its weights as they were when we came, and as a commit will write them."""

    @property
    def order(self) -> tuple[int, int]:
        """As `Writer.order`."""
        return self.fencing, self.write


@dataclass(frozen=True, slots=True)
class OverlaidRule:
    """One rule in one virtual host."""

    context: Literal["SIDECAR_OUTBOUND", "GATEWAY"]
    host: Mapping[str, str]
    """How EnvoyFilters tell the virtual host."""
    routes: tuple[str, ...]
    """Names of the base routes; none: all of the virtual host's."""
    route: Object
    """The overlay's route, without its match."""


def labels_of(target: Target) -> dict[str, str]:
    """What every overlay of a target bears."""
    return {**MANAGED, MESH: target.mesh, NAMESPACE: target.namespace, SERVICE: target.service}


def selector(labels: Mapping[str, str]) -> str:
    """Labels as a label selector."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


def overlay(namespace: str, target: Target, laid: Laid, pieces: Sequence[OverlaidRule]) -> Object:
    """The EnvoyFilter of an overlay.

    Args:
        namespace: where it is put.
        target: whose traffic it splits.
        laid: whose overlay it is, and until when.
        pieces: what it concerns.
    """
    patches: list[Object] = []
    for number, piece in enumerate(pieces):
        key = f"{laid.token}-{number}"
        patches += told(piece, key, laid.deadline)
        patches.append(patch_of(piece, "INSERT_FIRST", overlaid(piece, key, laid.fencing)))
    return enveloped(namespace, target, laid, patches)


def enveloped(namespace: str, target: Target, laid: Laid, patches: Sequence[Object], kind: Kind = "split") -> Object:
    """The EnvoyFilter that bears these patches. Those of targets of all namespaces lie in one, so names tell whose."""
    infix, labels = ("fault.", {FAULT: "route"}) if kind == "fault" else ("", {})
    return {
        "apiVersion": ENVOY_FILTER.api_version,
        "kind": ENVOY_FILTER.kind,
        "metadata": {
            "name": f"autopilot.{target.namespace}.{target.service}.{infix}{laid.fencing}",
            "namespace": namespace,
            "labels": {**labels_of(target), FENCING: str(laid.fencing), **labels},
            "annotations": annotations_of(laid),
        },
        "spec": {"priority": min(laid.fencing, _HIGHEST), "configPatches": list(patches)},
    }


def with_deadline(body: Object, laid: Laid, deadline: float) -> list[Operation]:
    """The patch that gives the overlay another deadline; it holds for the version that was read alone."""
    patches = copy.deepcopy(body["spec"]["configPatches"])
    for patch in patches:
        if patch["patch"]["operation"] == "MERGE":
            patch["patch"]["value"]["metadata"]["filter_metadata"][FILTER]["deadline"] = _milliseconds(deadline)
    annotations = {
        **(body["metadata"].get("annotations") or {}),
        **annotations_of(laid.model_copy(update={"deadline": deadline})),
    }
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": body["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/spec/configPatches", "value": patches},
        {"op": "add", "path": "/metadata/annotations", "value": annotations},
    ]


def laid_by(body: Object) -> Laid | None:
    """Who laid it, and what; None where it is no overlay. What cannot be read (it was edited) is told by its labels."""
    meta = body["metadata"]
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    try:
        return Laid.model_validate_json(annotations.get(OVERLAY, ""))
    except ValidationError:
        fencing = labels.get(FENCING, "")
        if not fencing.isdigit():
            return None
        operation = annotations.get(LEASE, "").rpartition("#")[0]
        return Laid(operation=operation, fencing=int(fencing), deadline=0, token="", weights={})


def unread_of(body: Object) -> UnreadableRecord | None:
    """What is wrong with what an EnvoyFilter of ours says of itself; None where it can be read."""
    meta = body["metadata"]
    try:
        Laid.model_validate_json((meta.get("annotations") or {}).get(OVERLAY, ""))
    except ValidationError as error:
        return UnreadableRecord(f"EnvoyFilter {meta['namespace']}/{meta['name']}", why_of(error))
    return None


def same(one: Object, other: Object) -> bool:
    """Whether two say the same."""
    return one["spec"] == other["spec"] and all(
        (one["metadata"].get("annotations") or {}).get(key) == other["metadata"]["annotations"][key]
        for key in (LEASE, OVERLAY)
    )


def holder_of(laid: Laid) -> Holder:
    """Who laid it."""
    return Holder(operation=laid.operation, fencing=laid.fencing)


def annotations_of(laid: Laid) -> dict[str, str]:
    """What an EnvoyFilter of ours says of itself."""
    until = dt.datetime.fromtimestamp(laid.deadline, dt.UTC).isoformat(timespec="milliseconds")
    return {LEASE: str(holder_of(laid)), DEADLINE: until, OVERLAY: laid.model_dump_json()}


def patch_of(piece: OverlaidRule, operation: str, value: Object, route: str | None = None) -> Object:
    """One patch of a virtual host, or of one of its routes."""
    host: Object = dict(piece.host)
    if route is not None:
        host["route"] = {"name": route}
    return {
        "applyTo": "HTTP_ROUTE",
        "match": {"context": piece.context, "routeConfiguration": {"vhost": host}},
        "patch": {"operation": operation, "value": value},
    }


def told(piece: OverlaidRule, key: str, deadline: float, value: Object | None = None) -> list[Object]:
    """The patches that give the user's own routes the overlay's key and deadline, and this value besides."""
    metadata = {FILTER: {"deadline": _milliseconds(deadline), "overlay": key}}
    merged = {"metadata": {"filter_metadata": metadata}, **(value or {})}
    return [patch_of(piece, "MERGE", merged, name) for name in piece.routes or (None,)]


def overlaid(
    piece: OverlaidRule, key: str, fencing: int, headers: Sequence[Object] = (), path: Mapping[str, Any] = ANY_PATH
) -> Object:
    """The route that stands before all others, for requests that bear the key and match these headers and this path."""
    removed = [*piece.route.get("request_headers_to_remove", []), OVERLAY_HEADER]
    return {
        **piece.route,
        "name": f"{piece.routes[0] if piece.routes else 'default'}.overlay-{fencing}",
        "match": {**path, "headers": [{"name": OVERLAY_HEADER, "string_match": {"exact": key}}, *headers]},
        "request_headers_to_remove": removed,
    }


def _milliseconds(seconds: float) -> str:
    """As the constant filter reads it. A string: Lua would print so large a number in another way."""
    return str(round(seconds * 1000))
