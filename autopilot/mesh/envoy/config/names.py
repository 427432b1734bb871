"""Names that renderers, telemetry and proxies must agree on."""

from __future__ import annotations

APPLICATION = "application"
"""The virtual host of the application behind a sidecar."""
LUA_FILTER = "envoy.filters.http.lua"
DEADLINES = "deadlines"
"""Key of the base route's filter metadata: the overlays' deadlines, milliseconds since the epoch, as strings."""


def outbound_cluster(service_ref: str, arm: str) -> str:
    """The caller-side cluster of one arm: `outbound/<namespace>/<service>/<arm>`. No dots: Envoy cuts names at them."""
    return f"outbound/{service_ref}/{arm}"


def inbound_cluster(listener: str) -> str:
    """The cluster of the application behind a sidecar."""
    return f"inbound/{listener}"


def host_names(namespace: str, service: str) -> list[str]:
    """What callers may write into the Host header to mean a service."""
    names = [service, f"{service}.{namespace}", f"{service}.{namespace}.svc.cluster.local"]
    return [form for name in names for form in (name, f"{name}:*")]


# Faults

FAULT_FILTER = "envoy.filters.http.fault"
"""In every listener's chain, doing nothing until a route says otherwise."""
USER_HEADER = "x-autopilot-user"
"""Internal request headers `…-1`, `…-2`: the user's bucket, 0 to 9999. No more accepted than `OVERLAY_HEADER`."""
USERS = "users"
"""Key of the base route's filter metadata: what tells users apart, `header NAME SALT` or `cookie NAME SALT` each."""
BUCKETS = 10_000
RESET, BLACKHOLE = "autopilot-reset", "autopilot-blackhole"
"""Listeners inside every proxy: one closes what is opened, the other takes requests and never answers."""
_FAULT = "~fault-"


def fault_name(fencing: int, fault: str) -> str:
    """What the routes, counters and clusters of one fault of one holder are called.

    Args:
        fencing: the holder's number on the target: never given twice.
        fault: digest of what the fault is; a step of an experiment may lay another.
    """
    return f"fault-{fencing}-{fault}"


def fault_cluster(service_ref: str, arm: str, name: str) -> str:
    """The cluster that stands in for an arm's own where a fault of this name needs one."""
    return f"{outbound_cluster(service_ref, arm)}~{name}"


def arm_cluster(cluster: str) -> str:
    """The arm's own cluster that a cluster stands in for; itself where it is one."""
    return cluster.partition(_FAULT)[0]
