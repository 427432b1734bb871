"""Routes of one service: the base first, then one route for each number of overlays that may be alive.

Pure functions of the base and the overlays. With n overlays sorted by deadline, the k that live longest are exactly
those alive when the filter counts k, so n + 1 routes say everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autopilot.mesh.envoy.config.faults import PRIME, RETRY_ON, fault_routes, internal_headers, laid_over, users_of
from autopilot.mesh.envoy.config.laid_fault import Laid
from autopilot.mesh.envoy.config.names import (
    APPLICATION,
    DEADLINES,
    LUA_FILTER,
    USERS,
    host_names,
    inbound_cluster,
    outbound_cluster,
)
from autopilot.mesh.leases.records import Overlay
from autopilot.mesh.model import Change, LeasePhase, SplitTraffic, endpoints_arm
from autopilot.mesh.overlay_header import OVERLAY_HEADER
from autopilot.spec.chaos.faults import Retries
from autopilot.spec.mesh import Inbound, MeshService

_WHOLE = 10_000
"""What weights add up to: Envoy's are integers."""
_Headers = list[dict[str, Any]]

_IDLE = 300
"""Seconds after which Envoy ends a silent stream of its own accord, unless its route says otherwise."""


def effective_weights(service: MeshService, changes: Sequence[Change]) -> dict[str, float]:
    """Every arm's weight in percent after the changes, in the order of the service's arms; then baseline arms' own."""
    weights = service.weights
    for change in changes:
        match change:
            case SplitTraffic():
                weights = change.weights
    baselines = {arm: weight for arm, weight in weights.items() if arm != endpoints_arm(arm)}
    return {arm: weights.get(arm, 0.0) for arm in service.arms} | baselines


def folded(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights by the arm whose endpoints answer: what a baseline arm gets counts for the arm it doubles."""
    total: dict[str, float] = {}
    for arm, weight in weights.items():
        total[endpoints_arm(arm)] = total.get(endpoints_arm(arm), 0.0) + weight
    return total


def virtual_host(
    service: MeshService,
    overlays: Sequence[Overlay],
    *,
    sole: bool,
    namesake: bool = False,
    meant: Callable[[Laid], bool] = lambda _: True,
) -> dict[str, Any]:
    """The virtual host of one service at a caller's proxy.

    Args:
        service: the base.
        overlays: those over this service that are in force.
        sole: the listener serves nothing else, so every Host header means this service.
        namesake: the listener serves another of the same name, so that alone means neither.
        meant: whether a fault is meant for this caller.
    """

    def plain(changes: Sequence[Change], name: str, headers: _Headers, total: int = _WHOLE) -> dict[str, Any]:
        return _route(service, changes, name=name, headers=headers, total=total)

    def wanted(one: Laid) -> bool:
        return not one.inbound and meant(one)

    host: dict[str, Any] = {
        "name": service.ref,
        "domains": ["*"] if sole else host_names(service.namespace, service.name)[2 if namesake else 0 :],
        "routes": _layers(service, overlays, plain, wanted),
    }
    if service.retries or any(isinstance(one.fault, Retries) for one in laid_over(service, overlays)):
        # Applications may tell a retry from a first try; Envoy replaces whatever a caller claims.
        host["include_request_attempt_count"] = True
    return host


def inbound_host(
    inbound: Inbound, service: MeshService | None, overlays: Sequence[Overlay], meant: Callable[[Laid], bool]
) -> dict[str, Any]:
    """The virtual host of the application behind a sidecar.

    Args:
        inbound: the listener.
        service: whose arm stands there; None where it is nobody's.
        overlays: those over this service that are in force.
        meant: whether a fault is meant for this listener.
    """

    def plain(changes: Sequence[Change], name: str, headers: _Headers, total: int = _WHOLE) -> dict[str, Any]:
        del changes, total  # here nothing is shared out
        # The caller's side decides when a request has taken too long, or was silent for too long.
        action = {"cluster": inbound_cluster(inbound.name), "timeout": "0s", "idle_timeout": "0s"}
        return {
            "name": f"{inbound.name}/{name}",
            "match": {"prefix": "/", **({"headers": headers} if headers else {})},
            "route": action,
            "request_headers_to_remove": [OVERLAY_HEADER],
        }

    def wanted(one: Laid) -> bool:
        return one.inbound and meant(one)

    own = [overlay for overlay in overlays if service and any(wanted(one) for one in laid_over(service, [overlay]))]
    routes = _layers(service, own, plain, wanted) if service else [plain((), "base", [])]
    return {"name": APPLICATION, "domains": ["*"], "routes": routes}


def _layers(
    service: MeshService,
    overlays: Sequence[Overlay],
    plain: Callable[..., dict[str, Any]],
    wanted: Callable[[Laid], bool],
) -> list[dict[str, Any]]:
    """The base, and one layer of routes for each number of overlays that may be alive."""
    base = [change for overlay in overlays if overlay.phase is LeasePhase.COMMITTING for change in overlay.changes]
    expiring = sorted(
        (overlay for overlay in overlays if overlay.phase is LeasePhase.ACTIVE),
        key=lambda overlay: (-overlay.deadline, overlay.lease.holder.fencing),
    )
    users = users_of([one for one in laid_over(service, expiring) if wanted(one)])
    without_header = {"name": OVERLAY_HEADER, "present_match": True, "invert_match": True}
    first = plain(base, "base", [without_header])
    if expiring:
        told: dict[str, Any] = {DEADLINES: [str(round(overlay.deadline * 1000)) for overlay in expiring]}
        if users:
            told[USERS] = users
        first["metadata"] = {"filter_metadata": {LUA_FILTER: told}}
    routes = [first]
    for alive in range(len(expiring), 0, -1):
        changes = [*base, *(change for overlay in expiring[:alive] for change in overlay.changes)]
        headers = [{"name": OVERLAY_HEADER, "string_match": {"exact": str(alive)}}]
        name = f"overlay-{alive}"
        laid = [one for one in laid_over(service, expiring[:alive]) if wanted(one)]
        if laid:
            routes += fault_routes(plain(changes, name, headers, PRIME), headers, laid, users)
        routes.append(plain(changes, name, headers))
    # A forged header that the filter could not remove (it was taken out, it failed) still means the base.
    routes.append(plain(base, "base-otherwise", []))
    if users:
        for route in routes:
            route["request_headers_to_remove"] = [OVERLAY_HEADER, *internal_headers(users)]
    return routes


def _route(
    service: MeshService, changes: Sequence[Change], *, name: str, headers: _Headers, total: int
) -> dict[str, Any]:
    match: dict[str, Any] = {"prefix": "/"}
    if headers:
        match["headers"] = headers
    clusters = [
        {"name": outbound_cluster(service.ref, arm), "weight": weight}
        for arm, weight in _integers(effective_weights(service, changes), total).items()
    ]
    # Written out: protobuf reads no 1e+06s. Envoy cuts at milliseconds.
    timeout = f"{service.timeout:.3f}".rstrip("0").rstrip(".") + "s"
    action: dict[str, Any] = {"weighted_clusters": {"clusters": clusters}, "timeout": timeout}
    if not 0 < service.timeout <= _IDLE:
        action["idle_timeout"] = timeout
    if service.retries:
        action["retry_policy"] = {"retry_on": RETRY_ON, "num_retries": service.retries}
    return {
        "name": f"{service.ref}/{name}",
        "match": match,
        "route": action,
        "request_headers_to_remove": [OVERLAY_HEADER],
    }


def _integers(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Weights as Envoy takes them, adding up exactly: what is cut off goes where most was cut (Hamilton)."""
    scaled = {arm: weight * total / 100 for arm, weight in weights.items()}
    whole = {arm: int(value) for arm, value in scaled.items()}
    left = round(sum(scaled.values())) - sum(whole.values())
    for arm in sorted(scaled, key=lambda arm: whole[arm] - scaled[arm])[:left]:
        whole[arm] += 1
    return whole
