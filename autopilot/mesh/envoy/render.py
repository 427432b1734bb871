"""The whole configuration of every proxy, from the base and the overlays in force: pure, same input, same output.

Every resource file carries the digest of its content as its version, so that a proxy's own word for what it has can be
compared with what was written.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

from autopilot.mesh.envoy.names import LUA_FILTER, inbound_cluster, outbound_cluster
from autopilot.mesh.envoy.routes import virtual_host
from autopilot.mesh.model import baseline_of
from autopilot.mesh.records import Overlay
from autopilot.spec.mesh import Inbound, MeshSpec, Outbound, Proxy, is_ip, split_address

_TYPE = "type.googleapis.com/"
_HCM = _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": _TYPE + "envoy.extensions.filters.http.router.v3.Router"},
}


@dataclass(frozen=True, slots=True)
class ProxyFiles:
    """One proxy's resources as file contents; `routes` by name of the outbound listener."""

    clusters: str
    listeners: str
    routes: Mapping[str, str] = field(default_factory=dict)


def render(
    spec: MeshSpec, overlays: Sequence[Overlay], paths: Mapping[str, Mapping[str, str]]
) -> dict[str, ProxyFiles]:
    """Renders every proxy.

    Args:
        spec: the base.
        overlays: those in force, over any service.
        paths: proxy → outbound listener → absolute path of its route table's file, for the listeners to point at.
    """
    return {proxy.name: _proxy(spec, proxy, overlays, paths[proxy.name]) for proxy in spec.proxies}


def version(content: str) -> str:
    """The version a rendered file carries."""
    return str(json.loads(content)["version_info"])


def _proxy(spec: MeshSpec, proxy: Proxy, overlays: Sequence[Overlay], paths: Mapping[str, str]) -> ProxyFiles:
    called = [ref for outbound in proxy.outbound for ref in outbound.services]
    # Baseline arms are always there, used or not: clusters then never change during an operation.
    clusters = [
        _cluster(outbound_cluster(service.ref, name), definition.endpoints)
        for service in spec.services
        if service.ref in called
        for arm, definition in service.arms.items()
        for name in ((arm, baseline_of(arm)) if len(service.arms) > 1 else (arm,))
    ]
    clusters += [_cluster(inbound_cluster(inbound.name), [inbound.application]) for inbound in proxy.inbound]
    listeners = [_inbound(inbound) for inbound in proxy.inbound]
    listeners += [_outbound(outbound, paths[outbound.name]) for outbound in proxy.outbound]
    return ProxyFiles(
        clusters=_response("envoy.config.cluster.v3.Cluster", clusters),
        listeners=_response("envoy.config.listener.v3.Listener", listeners),
        routes={
            outbound.name: _response(
                "envoy.config.route.v3.RouteConfiguration", [route_table(spec, outbound, overlays)]
            )
            for outbound in proxy.outbound
        },
    )


def route_table(spec: MeshSpec, outbound: Outbound, overlays: Sequence[Overlay]) -> dict[str, Any]:
    """The route table of one outbound listener."""
    hosts = []
    services = [service for ref in outbound.services if (service := spec.service(ref)) is not None]
    called = Counter(service.name for service in services)
    for service in services:
        own = [overlay for overlay in overlays if overlay.lease.target.ref == service.ref]
        hosts.append(virtual_host(service, own, sole=len(services) == 1, namesake=called[service.name] > 1))
    return {"name": outbound.name, "virtual_hosts": hosts, "validate_clusters": False}


def _cluster(name: str, endpoints: Sequence[str]) -> dict[str, Any]:
    parts = [split_address(endpoint) for endpoint in endpoints]
    return {
        "name": name,
        "type": "STATIC" if all(is_ip(host) for host, _ in parts) else "STRICT_DNS",
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [{"max_connections": 65536, "max_pending_requests": 65536, "max_requests": 65536}]
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": socket_address(f"{host}:{port}")}} for host, port in parts]}
            ],
        },
    }


def _inbound(inbound: Inbound) -> dict[str, Any]:
    table = {
        "name": inbound.name,
        "virtual_hosts": [
            {
                "name": "application",
                "domains": ["*"],
                "routes": [
                    {
                        "match": {"prefix": "/"},
                        # The caller's side decides when a request has taken too long, or was silent for too long.
                        "route": {"cluster": inbound_cluster(inbound.name), "timeout": "0s", "idle_timeout": "0s"},
                    }
                ],
            }
        ],
    }
    return _listener(inbound.name, inbound.address, {"route_config": table}, [_ROUTER])


def _outbound(outbound: Outbound, path: str) -> dict[str, Any]:
    rds = {
        "route_config_name": outbound.name,
        "config_source": {"resource_api_version": "V3", "path_config_source": {"path": path}},
    }
    lua = {
        "name": LUA_FILTER,
        "typed_config": {
            "@type": _TYPE + "envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": _filter_code()},
        },
    }
    return _listener(outbound.name, outbound.address, {"rds": rds}, [lua, _ROUTER])


def _listener(name: str, address: str, routes: dict[str, Any], filters: list[dict[str, Any]]) -> dict[str, Any]:
    manager = {"@type": _HCM, "stat_prefix": name, **routes, "http_filters": filters}
    return {
        "name": name,
        "address": socket_address(address),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def socket_address(address: str) -> dict[str, Any]:
    """`host:port` as Envoy's core.v3.Address."""
    host, port = split_address(address)
    return {"socket_address": {"address": host, "port_value": port}}


def _response(kind: str, resources: list[dict[str, Any]]) -> str:
    typed = [{"@type": _TYPE + kind, **resource} for resource in resources]
    digest = hashlib.sha256(json.dumps(typed, sort_keys=True).encode()).hexdigest()[:16]
    return json.dumps({"version_info": digest, "type_url": _TYPE + kind, "resources": typed}, indent=1)


@lru_cache(maxsize=1)
def _filter_code() -> str:
    return files("autopilot.mesh.envoy").joinpath("filter.lua").read_text(encoding="utf-8")
