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
from typing import Any

from autopilot.mesh.envoy.config import faults, laid_fault
from autopilot.mesh.envoy.config.listener_filters import inner_listeners, steering_filters
from autopilot.mesh.envoy.config.names import inbound_cluster, outbound_cluster
from autopilot.mesh.envoy.config.routes import inbound_host, virtual_host
from autopilot.mesh.leases.records import Overlay, Spare
from autopilot.mesh.model import InjectFault, baseline_of
from autopilot.spec.mesh import Inbound, MeshSpec, Outbound, Proxy
from autopilot.spec.values.addresses import is_ip, split_address

_TYPE = "type.googleapis.com/"
_HCM = _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_LIMITS = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
"""Circuit breakers, of which a mesh file knows none: Envoy's own are low, three retries at a time the lowest."""
_NO_LIMIT = 65536


@dataclass(frozen=True, slots=True)
class ProxyFiles:
    """One proxy's resources as file contents; `routes` by name of the listener."""

    clusters: str
    listeners: str
    routes: Mapping[str, str] = field(default_factory=dict)


def render(
    spec: MeshSpec,
    overlays: Sequence[Overlay],
    paths: Mapping[str, Mapping[str, str]],
    spares: Sequence[Spare] = (),
) -> dict[str, ProxyFiles]:
    """Renders every proxy.

    Args:
        spec: the base.
        overlays: those in force, over any service.
        paths: proxy → listener → absolute path of its route table's file, for the listeners to point at.
        spares: clusters beyond the base's that are to be there, whether routes lead to them or not.
    """
    return {proxy.name: _proxy(spec, proxy, overlays, paths[proxy.name], spares) for proxy in spec.proxies}


def version(content: str) -> str:
    """The version a rendered file carries."""
    return str(json.loads(content)["version_info"])


def _proxy(
    spec: MeshSpec, proxy: Proxy, overlays: Sequence[Overlay], paths: Mapping[str, str], spares: Sequence[Spare]
) -> ProxyFiles:
    called = [ref for outbound in proxy.outbound for ref in outbound.services]
    # Baseline arms are always there, used or not: clusters then never change during a rollout.
    clusters = [
        _cluster(outbound_cluster(service.ref, name), [socket_address(each) for each in definition.endpoints])
        for service in spec.services
        if service.ref in called
        for arm, definition in service.arms.items()
        for name in ((arm, baseline_of(arm)) if len(service.arms) > 1 else (arm,))
    ]
    clusters += _stand_ins(spec, called, spares)
    clusters += [
        _cluster(inbound_cluster(inbound.name), [socket_address(inbound.application)]) for inbound in proxy.inbound
    ]
    listeners = [_inbound(inbound, paths[inbound.name]) for inbound in proxy.inbound]
    listeners += [_outbound(outbound, paths[outbound.name]) for outbound in proxy.outbound]
    if proxy.outbound:
        listeners += inner_listeners()
    tables = {inbound.name: inbound_table(spec, proxy, inbound, overlays) for inbound in proxy.inbound}
    tables |= {outbound.name: route_table(spec, outbound, overlays, proxy) for outbound in proxy.outbound}
    return ProxyFiles(
        clusters=_response("envoy.config.cluster.v3.Cluster", clusters),
        listeners=_response("envoy.config.listener.v3.Listener", listeners),
        routes={name: _response("envoy.config.route.v3.RouteConfiguration", [table]) for name, table in tables.items()},
    )


def _stand_ins(spec: MeshSpec, called: Sequence[str], spares: Sequence[Spare]) -> list[dict[str, Any]]:
    """Clusters for faults; one that was made with the same name stays the same."""
    found: dict[str, dict[str, Any]] = {}
    for spare in spares:
        service = spec.service(spare.lease.target.ref)
        if service is None or service.ref not in called:
            continue
        for change in spare.changes:
            if isinstance(change, InjectFault):
                for each in faults.clusters(spec, laid_fault.Laid(service, spare.lease.holder.fencing, change)):
                    endpoints = [socket_address(one) if isinstance(one, str) else one for one in each["endpoints"]]
                    found[each["name"]] = _cluster(each["name"], endpoints, each.get("thresholds"))
    return list(found.values())


def inbound_table(spec: MeshSpec, proxy: Proxy, inbound: Inbound, overlays: Sequence[Overlay]) -> dict[str, Any]:
    """The route table of one inbound listener."""
    services = [
        service for service in spec.services for arm in service.arms.values() if inbound.address in arm.endpoints
    ]
    disturbed = [service for service in services if faults.laid_over(service, overlays)]
    service = next(iter(disturbed or services), None)

    def meant(one: laid_fault.Laid) -> bool:
        return inbound in faults.answered_by(proxy, one)

    return {"name": inbound.name, "virtual_hosts": [inbound_host(inbound, service, overlays, meant)]}


def route_table(
    spec: MeshSpec, outbound: Outbound, overlays: Sequence[Overlay], proxy: Proxy | None = None
) -> dict[str, Any]:
    """The route table of one outbound listener; `proxy` is whose, where faults of some callers alone are laid."""

    def meant(one: laid_fault.Laid) -> bool:
        return proxy is None or faults.called_by(spec, proxy, one)

    hosts = []
    services = [service for ref in outbound.services if (service := spec.service(ref)) is not None]
    called = Counter(service.name for service in services)
    for service in services:
        own = [overlay for overlay in overlays if overlay.lease.target.ref == service.ref]
        namesake = called[service.name] > 1
        hosts.append(virtual_host(service, own, sole=len(services) == 1, namesake=namesake, meant=meant))
    return {"name": outbound.name, "virtual_hosts": hosts, "validate_clusters": False}


def _cluster(
    name: str, addresses: Sequence[dict[str, Any]], thresholds: Mapping[str, int] | None = None
) -> dict[str, Any]:
    named = [
        address["socket_address"]["address"]
        for address in addresses
        if "socket_address" in address and not is_ip(address["socket_address"]["address"])
    ]
    breakers = {**dict.fromkeys(_LIMITS, _NO_LIMIT), **(thresholds or {})}
    return {
        "name": name,
        "type": "STRICT_DNS" if named else "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [breakers]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}} for address in addresses]}],
        },
    }


def _inbound(inbound: Inbound, path: str) -> dict[str, Any]:
    return _listener(inbound.name, inbound.address, _rds(inbound.name, path), steering_filters())


def _outbound(outbound: Outbound, path: str) -> dict[str, Any]:
    return _listener(outbound.name, outbound.address, _rds(outbound.name, path), steering_filters())


def _rds(name: str, path: str) -> dict[str, Any]:
    source = {"resource_api_version": "V3", "path_config_source": {"path": path}}
    return {"rds": {"route_config_name": name, "config_source": source}}


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
    return response([{"@type": _TYPE + kind, **resource} for resource in resources], _TYPE + kind)


def response(typed: Sequence[dict[str, Any]], kind: str | None = None) -> str:
    """A file of resources, each with its `@type`; `kind` is that of all, and needed where there are none."""
    digest = hashlib.sha256(json.dumps(typed, sort_keys=True).encode()).hexdigest()[:16]
    return json.dumps({"version_info": digest, "type_url": kind or typed[0]["@type"], "resources": typed}, indent=1)
