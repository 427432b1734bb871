"""Faults as routes: which requests they match, and what happens to those. Pure functions.

Each fault is a route of its own before the overlay's, so that it expires with the overlay, and whoever it does not
match goes where everybody goes. Chance is the route's (`runtime_fraction`), and Envoy decides by the same random number
which route matches and which arm of it serves: the shares of a fault's route add up to a prime, so that one says
nothing about the other.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from autopilot.mesh.envoy.config.fault_matches import header_matches, path_match, user_key
from autopilot.mesh.envoy.config.laid_fault import Laid
from autopilot.mesh.envoy.config.names import (
    BLACKHOLE,
    FAULT_FILTER,
    RESET,
    USER_HEADER,
    arm_cluster,
    fault_cluster,
)
from autopilot.mesh.leases.records import Overlay
from autopilot.mesh.model import FaultSign, InjectFault, endpoints_arm
from autopilot.spec.chaos.faults import (
    Abort,
    Bandwidth,
    Blackhole,
    Delay,
    Eject,
    Fault,
    GrpcAbort,
    Overflow,
    Reset,
    Retries,
    Timeout,
)
from autopilot.spec.mesh import Inbound, MeshService, MeshSpec, Proxy

PRIME = 999_983
"""What the weights of a fault's route add up to: coprime to the million that chance is counted in."""
_MILLION = 1_000_000
_STEPS = 8
"""Delays with jitter come in so many sizes."""
REROUTED = (Reset, Blackhole, Eject, Overflow)
"""Made by a cluster that stands in for the arm's own."""
RETRY_ON = "connect-failure,refused-stream,unavailable,5xx"
"""What the mesh retries, where it retries."""
_HTTP_FAULT = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"


def laid_over(service: MeshService, overlays: Sequence[Overlay]) -> list[Laid]:
    """Every fault that overlays lay over the service, in their order."""
    return [
        Laid(service, overlay.lease.holder.fencing, change)
        for overlay in overlays
        if overlay.lease.target.ref == service.ref
        for change in overlay.changes
        if isinstance(change, InjectFault)
    ]


def users_of(laid: Sequence[Laid]) -> list[str]:
    """What the constant filter must tell users apart by, in the order of its headers."""
    found: list[str] = []
    for one in laid:
        if (key := user_key(one)) and key not in found:
            found.append(key)
    return found


def internal_headers(users: Sequence[str]) -> list[str]:
    """The headers that the filter tells buckets in: no application is to see them."""
    return [f"{USER_HEADER}-{number}" for number in range(1, len(users) + 1)]


def called_by(spec: MeshSpec, proxy: Proxy, one: Laid) -> bool:
    """Whether this proxy stands before a caller that the fault is meant for."""
    source = one.scope.source
    if source is None:
        return True
    if source.proxy is not None:
        return source.proxy == proxy.name
    service = spec.service(whole_name(source.service or "", one.service.namespace))
    arms = {} if service is None else service.arms
    addresses = {address for name, arm in arms.items() if source.arm in (None, name) for address in arm.endpoints}
    return any(inbound.address in addresses for inbound in proxy.inbound)


def answered_by(proxy: Proxy, one: Laid) -> list[Inbound]:
    """The inbound listeners of this proxy through which the target answers requests that the fault meets."""
    addresses = {address for name, arm in one.service.arms.items() if one.meets(name) for address in arm.endpoints}
    return [inbound for inbound in proxy.inbound if inbound.address in addresses]


def whole_name(service: str, namespace: str) -> str:
    """`namespace/name` of a service that is named in a scope; a bare name means one of the target's namespace."""
    return service if "/" in service else f"{namespace}/{service}"


def lost(spec: MeshSpec, one: Laid, arm: str) -> list[str]:
    """The endpoints of an arm that a blackhole or an ejection takes away."""
    fault = one.fault
    endpoints = one.service.arms[endpoints_arm(arm)].endpoints
    if not isinstance(fault, Blackhole | Eject) or not one.meets(arm):
        return []
    if fault.zone is not None:
        return [address for address in endpoints if address in spec.zones.get(fault.zone, ())]
    return [address for address in endpoints if address in fault.endpoints] if fault.endpoints else list(endpoints)


def clusters(spec: MeshSpec, one: Laid) -> list[dict[str, Any]]:
    """The clusters that stand in for arms' own, without names and settings that all clusters share.

    Returns:
        For each: `name`, `endpoints` (a list of Envoy's addresses), and `thresholds` of its breakers where they differ.
    """
    if not isinstance(one.fault, REROUTED):
        return []
    found: list[dict[str, Any]] = []
    for arm, definition in one.service.arms.items():
        if not one.meets(arm):
            continue
        gone = lost(spec, one, arm)
        described: dict[str, Any] = {"name": fault_cluster(one.service.ref, arm, one.name)}
        match one.fault:
            case Reset():
                described["endpoints"] = [_internal(RESET)]
            case Blackhole():
                described["endpoints"] = [
                    _internal(BLACKHOLE) if address in gone else address for address in definition.endpoints
                ]
            case Eject():
                described["endpoints"] = [address for address in definition.endpoints if address not in gone]
            case Overflow():
                described["endpoints"] = list(definition.endpoints)
                limits = {
                    "max_requests": one.fault.requests,
                    "max_connections": one.fault.connections,
                    "max_pending_requests": one.fault.pending,
                }
                described["thresholds"] = {name: value for name, value in limits.items() if value is not None}
        found.append(described)
    return found


def fault_routes(
    plain: dict[str, Any], headers: list[dict[str, Any]], laid: Sequence[Laid], users: Sequence[str]
) -> list[dict[str, Any]]:
    """The routes of faults, to stand in front of the one that they depart from.

    Args:
        plain: that route; its weighted clusters, where it has any, add up to `PRIME`.
        headers: what its match asks of headers.
        laid: the faults that this proxy is to lay there.
        users: what the filter tells users apart by (`users_of`).
    """
    taken: dict[str, float] = {}
    routes = []
    for one in laid:
        match = [*headers, *header_matches(one, users)]
        begins = taken.get(kind_of_scope(one), 0.0)
        share = 100.0 if one.scope.percentage is None else one.scope.percentage
        taken[kind_of_scope(one)] = begins + share
        for number, fault in enumerate(sizes(one.fault), start=1):
            ends = begins + share * number / len(sizes(one.fault))
            routes.append(_route(plain, match, ends, one, fault))
    return routes


def sign_of(spec: MeshSpec, one: Laid) -> FaultSign:
    """How to recognise a fault in the counters of proxies."""
    if one.inbound:
        laid = [(proxy.name, inbound.name) for proxy in spec.proxies for inbound in answered_by(proxy, one)]
    else:
        laid = [
            (proxy.name, outbound.name)
            for proxy in spec.proxies
            if called_by(spec, proxy, one)
            for outbound in proxy.outbound
            if one.service.ref in outbound.services
        ]
    return FaultSign(kind=one.fault.type, name=one.name, proxies=tuple(laid))


def sizes(fault: Fault) -> list[Fault]:
    """A fault as those that make it up: with jitter, delays of several sizes that share its requests evenly."""
    if not isinstance(fault, Delay) or not fault.jitter:
        return [fault]
    width = 2 * fault.jitter / _STEPS
    first = fault.delay - fault.jitter + width / 2
    return [Delay(delay=round(max(0.001, first + width * step), 6)) for step in range(_STEPS)]


def _route(
    plain: dict[str, Any], headers: list[dict[str, Any]], ends: float, one: Laid, fault: Fault
) -> dict[str, Any]:
    match: dict[str, Any] = {**path_match(one.scope), "headers": headers}
    if ends < 100:
        chance = {"numerator": round(ends / 100 * _MILLION), "denominator": "MILLION"}
        match["runtime_fraction"] = {"default_value": chance}
    route = copy.deepcopy(plain)
    route |= {"name": f"{plain['name']}/{one.name}", "match": match, "stat_prefix": one.name}
    action = route["route"]
    match fault:
        case Delay() | Abort() | GrpcAbort() | Bandwidth():
            filtered = {FAULT_FILTER: {"@type": _HTTP_FAULT, **_filter(fault)}}
            if one.scope.arm is None or "weighted_clusters" not in action:
                route["typed_per_filter_config"] = filtered
            else:
                for entry in action["weighted_clusters"]["clusters"]:
                    if one.meets(_arm_of(entry)):
                        entry["typed_per_filter_config"] = filtered
        case Reset() | Blackhole() | Eject() | Overflow():
            for entry in action["weighted_clusters"]["clusters"]:
                arm = endpoints_arm(_arm_of(entry))
                if one.meets(arm):
                    entry["name"] = fault_cluster(one.service.ref, arm, one.name)
        case Timeout() | Retries():
            route["route"] = _policy(action, fault)
    return route


def _policy(action: dict[str, Any], fault: Timeout | Retries) -> dict[str, Any]:
    """The route's action under another timeout, or other retries."""
    if isinstance(fault, Timeout):
        return {**action, "timeout": _duration(fault.timeout)}
    kept = {key: value for key, value in action.items() if key != "retry_policy"}
    if not fault.retries:
        return kept
    policy: dict[str, Any] = {"retry_on": RETRY_ON, "num_retries": fault.retries}
    if fault.per_try_timeout is not None:
        policy["per_try_timeout"] = _duration(fault.per_try_timeout)
    return {**kept, "retry_policy": policy}


def _filter(fault: Fault) -> dict[str, Any]:
    always = {"numerator": 100, "denominator": "HUNDRED"}
    match fault:
        case Delay():
            return {"delay": {"fixed_delay": _duration(fault.delay), "percentage": always}}
        case Abort():
            return {"abort": {"http_status": fault.status, "percentage": always}}
        case GrpcAbort():
            return {"abort": {"grpc_status": fault.code, "percentage": always}}
        case Bandwidth():
            limit = {"fixed_limit": {"limit_kbps": fault.limit}, "percentage": always}
            return {"response_rate_limit": limit}
    raise TypeError(f"{fault.type} is not made by the fault filter")


def kind_of_scope(one: Laid) -> str:
    """Faults of the same scope take their shares one beside the other; of different ones, the first takes its own."""
    return one.scope.model_dump_json(exclude={"percentage"})


def _arm_of(entry: dict[str, Any]) -> str:
    return arm_cluster(str(entry["name"])).rsplit("/", 1)[-1]


def _internal(listener: str) -> dict[str, Any]:
    return {"envoy_internal_address": {"server_listener_name": listener}}


def _duration(seconds: float) -> str:
    """Written out: protobuf reads no 1e-06s."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
