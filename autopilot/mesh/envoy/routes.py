"""Routes of one service: the base first, then one route for each number of overlays that may be alive.

Pure functions of the base and the overlays. With n overlays sorted by deadline, the k that live longest are exactly
those alive when the filter counts k, so n + 1 routes say everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autopilot.mesh.envoy.names import DEADLINES, LUA_FILTER, OVERLAY_HEADER, host_names, outbound_cluster
from autopilot.mesh.model import Change, LeasePhase, SplitTraffic, endpoints_arm
from autopilot.mesh.records import Overlay
from autopilot.spec.mesh import MeshService

_WEIGHT_SCALE = 100
"""Envoy's weights are integers: hundredths of a percent."""

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
    service: MeshService, overlays: Sequence[Overlay], *, sole: bool, namesake: bool = False
) -> dict[str, Any]:
    """The virtual host of one service.

    Args:
        service: the base.
        overlays: those over this service that are in force.
        sole: the listener serves nothing else, so every Host header means this service.
        namesake: the listener serves another of the same name, so that alone means neither.
    """
    base = [change for overlay in overlays if overlay.phase is LeasePhase.COMMITTING for change in overlay.changes]
    expiring = sorted(
        (overlay for overlay in overlays if overlay.phase is LeasePhase.ACTIVE),
        key=lambda overlay: (-overlay.deadline, overlay.lease.holder.fencing),
    )
    without_header = {"name": OVERLAY_HEADER, "present_match": True, "invert_match": True}
    first = _route(service, base, name="base", headers=[without_header])
    if expiring:
        deadlines = [str(round(overlay.deadline * 1000)) for overlay in expiring]
        first["metadata"] = {"filter_metadata": {LUA_FILTER: {DEADLINES: deadlines}}}
    routes = [first]
    for alive in range(len(expiring), 0, -1):
        changes = [*base, *(change for overlay in expiring[:alive] for change in overlay.changes)]
        header = {"name": OVERLAY_HEADER, "string_match": {"exact": str(alive)}}
        routes.append(_route(service, changes, name=f"overlay-{alive}", headers=[header]))
    # A forged header that the filter could not remove (it was taken out, it failed) still means the base.
    routes.append(_route(service, base, name="base-otherwise", headers=[]))
    host: dict[str, Any] = {
        "name": service.ref,
        "domains": ["*"] if sole else host_names(service.namespace, service.name)[2 if namesake else 0 :],
        "routes": routes,
    }
    if service.retries:
        # Applications may tell a retry from a first try; Envoy replaces whatever a caller claims.
        host["include_request_attempt_count"] = True
    return host


def _route(
    service: MeshService, changes: Sequence[Change], *, name: str, headers: list[dict[str, Any]]
) -> dict[str, Any]:
    match: dict[str, Any] = {"prefix": "/"}
    if headers:
        match["headers"] = headers
    clusters = [
        {"name": outbound_cluster(service.ref, arm), "weight": weight}
        for arm, weight in _integers(effective_weights(service, changes)).items()
    ]
    # Written out: protobuf reads no 1e+06s. Envoy cuts at milliseconds.
    timeout = f"{service.timeout:.3f}".rstrip("0").rstrip(".") + "s"
    action: dict[str, Any] = {"weighted_clusters": {"clusters": clusters}, "timeout": timeout}
    if not 0 < service.timeout <= _IDLE:
        action["idle_timeout"] = timeout
    if service.retries:
        action["retry_policy"] = {
            "retry_on": "connect-failure,refused-stream,unavailable,5xx",
            "num_retries": service.retries,
        }
    return {
        "name": f"{service.ref}/{name}",
        "match": match,
        "route": action,
        "request_headers_to_remove": [OVERLAY_HEADER],
    }


def _integers(weights: Mapping[str, float]) -> dict[str, int]:
    """Weights as Envoy takes them, adding up to 100 % exactly: what is cut off goes where most was cut (Hamilton)."""
    scaled = {arm: weight * _WEIGHT_SCALE for arm, weight in weights.items()}
    whole = {arm: int(value) for arm, value in scaled.items()}
    left = round(sum(scaled.values())) - sum(whole.values())
    for arm in sorted(scaled, key=lambda arm: whole[arm] - scaled[arm])[:left]:
        whole[arm] += 1
    return whole
