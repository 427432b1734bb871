"""Targets outside the cluster: hosts that ServiceEntries define. Their failures are played at their callers.

Istio counts such a host's requests under the namespace of its ServiceEntry, so the target's namespace must be that one;
then a host has one lease and one ceiling too, however many namespaces call it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.api_errors import Absent, Forbidden
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import SERVICE, SERVICE_ENTRY, VIRTUAL_SERVICE, Resource
from autopilot.mesh.kube.routes import fault_marks
from autopilot.mesh.kube.routes.backends import DOMAIN, host_of, meant
from autopilot.mesh.kube.routes.base import service_of
from autopilot.mesh.model import Target

_READ = frozenset({"", "HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB"})
"""Protocols of which proxies see requests; without one they look for themselves."""


def refuse_absent(api: KubeApi, target: Target, provider: str) -> None:
    """Refuses a target that is neither a Service of its namespace nor, on Istio, the host of a ServiceEntry there.

    Args:
        api: the cluster.
        target: the target.
        provider: of the mesh.

    Raises:
        InvalidChange: with what there is.
    """
    if not target.external:
        service_of(api, target)
        return
    host = target.service
    name, _, rest = host.partition(".")
    namespace = rest.partition(".")[0]
    if (meant(host) or host.endswith(f".{DOMAIN}")) and api.get(SERVICE, name, namespace) is not None:
        raise InvalidChange(
            f"{host} is Service {namespace}/{name}: write target.service: {name} and metadata.namespace: {namespace}"
        )
    if provider != "istio":
        raise InvalidChange(
            f"{host} has dots, and hosts outside the cluster are targets only on Istio, by a ServiceEntry; this mesh's "
            f"provider is {provider}: write the name of a Service"
        )
    entries = _entries(api, target.namespace, host)
    if not entries:
        raise InvalidChange(
            f"namespace {target.namespace} has no ServiceEntry for {host}"
            + _elsewhere(_list(api, SERVICE_ENTRY, target.namespace), host)
        )
    if not http_ports(api, target):
        protocols = [str(port.get("protocol") or "").upper() for one in entries for port in _ports(one)]
        said = ", ".join(dict.fromkeys(protocols)) or "no port"
        raise InvalidChange(
            f"ServiceEntry {_name(entries[0])} says that {host} is called by {said}, of which proxies see no requests: "
            "add a port with protocol HTTP, HTTP2 or GRPC, which a DestinationRule may send on as TLS (TLS origination)"
        )


def http_ports(api: KubeApi, target: Target) -> list[int]:
    """The ports at which proxies see the requests to a host outside the cluster."""
    ports = [port for one in _entries(api, target.namespace, target.service) for port in _ports(one)]
    return list(
        dict.fromkeys(int(port["number"]) for port in ports if str(port.get("protocol") or "").upper() in _READ)
    )


def refuse_routed(api: KubeApi, target: Target) -> None:
    """Refuses to make a VirtualService for a host that has one: proxies use one of two, and it may be either.

    Raises:
        InvalidChange: with its name.
    """
    for body in _list(api, VIRTUAL_SERVICE, target.namespace):
        hosts = (body.get("spec") or {}).get("hosts") or []
        if target.service in [host_of(str(host), "") for host in hosts] and not fault_marks.is_ours(body):
            raise InvalidChange(
                f"VirtualService {_name(body)} is for {target.service} and no rule of it leads there, so faults would "
                "need a second VirtualService for the host, of which proxies use one; nearest: aim at the Service that "
                "it leads to, such as an egress gateway's, with a header that selects these requests"
            )


def _entries(api: KubeApi, namespace: str, host: str) -> list[Object]:
    try:
        found = api.list(SERVICE_ENTRY, namespace)
    except Absent:
        return []
    return [one for one in found if host in _hosts(one)]


def _elsewhere(entries: Iterable[Object], host: str) -> str:
    """What there is instead, and what to do."""
    known = list(entries)
    for one in known:
        if host in _hosts(one):
            namespace = one["metadata"]["namespace"]
            return f"; namespace {namespace} has one, {_name(one)}: write metadata.namespace: {namespace}"
    for one in known:
        if any(each.startswith("*.") and host.endswith(each[1:]) for each in _hosts(one)):
            return (
                f"; ServiceEntry {_name(one)} has it among others, by a wildcard, and Istio leads to no single host of "
                "those: write a ServiceEntry for this host"
            )
    hosts = ", ".join(sorted({each for one in known for each in _hosts(one)}))
    return f"; ServiceEntries have {hosts}" if hosts else ", and no ServiceEntry was found; write one for this host"


def _list(api: KubeApi, resource: Resource, namespace: str) -> list[Object]:
    """Those of all namespaces, as far as they may be seen."""
    with contextlib.suppress(Absent, Forbidden):
        return api.list(resource)
    with contextlib.suppress(Absent, Forbidden):
        return api.list(resource, namespace)
    return []


def _hosts(entry: Object) -> list[str]:
    return [str(host) for host in (entry.get("spec") or {}).get("hosts") or []]


def _ports(entry: Object) -> list[Object]:
    return list((entry.get("spec") or {}).get("ports") or [])


def _name(body: Object) -> str:
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"
