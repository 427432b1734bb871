"""Names that renderers, telemetry and proxies must agree on."""

from __future__ import annotations

OVERLAY_HEADER = "x-autopilot-overlay"
"""Internal request header: how many overlays are alive. Set by the constant filter, never accepted from a client."""

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
