"""Proxies' files for targets with an overlay that cannot be read: what the proxies have now stays.

Nothing is dropped and nothing is guessed: the virtual hosts of the present route files stay, with their deadlines, and
so do the clusters that they lead to. Pure: files in, files out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from autopilot.mesh.envoy.config.names import APPLICATION, outbound_cluster
from autopilot.mesh.envoy.config.render import ProxyFiles, response
from autopilot.spec.mesh import MeshSpec, Proxy

Present = Callable[[str], str | None]
"""A listener's name → its route table's file as it is, an empty name → the clusters'; None where there is none."""
_Resources = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Stays:
    """Services of which something stays as it is, `namespace/service`."""

    hosts: set[str]
    """Their routes, and the clusters that these lead to."""
    clusters: set[str]
    """All their clusters, whether or not routes lead to them."""


def keep(spec: MeshSpec, proxy: Proxy, files: ProxyFiles, present: Present, stays: Stays) -> ProxyFiles:
    """One proxy's files, with what it has now for some services.

    Args:
        spec: the base.
        proxy: whose files.
        files: as rendered from what could be read.
        present: the proxy's files as they are.
        stays: of which services.
    """
    kept: _Resources = []
    routes = dict(files.routes)
    for listener, wanted in _listeners(spec, proxy, stays.hosts).items():
        table = _resources(files.routes[listener])[0]
        there = _hosts(present(listener))
        for number, host in enumerate(table["virtual_hosts"]):
            if host["name"] in wanted and (known := there.get(host["name"])) is not None:
                table["virtual_hosts"][number] = {**known, "domains": host["domains"]}
                kept.append(known)
        routes[listener] = response([table])
    return replace(files, routes=routes, clusters=_with_clusters(files.clusters, present(""), kept, stays))


def _with_clusters(rendered: str, present: str | None, kept: _Resources, stays: Stays) -> str:
    mentioned = {text for host in kept for text in _strings(host)}
    prefixes = tuple(outbound_cluster(ref, "") for ref in stays.clusters)
    found = _resources(rendered)
    names = {one["name"] for one in found}
    more = [
        one
        for one in _resources(present)
        if (name := str(one.get("name"))) not in names and (name in mentioned or name.startswith(prefixes))
    ]
    return response([*found, *more]) if more else rendered


def _listeners(spec: MeshSpec, proxy: Proxy, hosts: set[str]) -> dict[str, set[str]]:
    """Listener → the virtual hosts in it that stay."""
    found = {outbound.name: hosts & set(outbound.services) for outbound in proxy.outbound}
    behind = {
        address
        for service in spec.services
        if service.ref in hosts
        for arm in service.arms.values()
        for address in arm.endpoints
    }
    found |= {inbound.name: {APPLICATION} for inbound in proxy.inbound if inbound.address in behind}
    return {listener: wanted for listener, wanted in found.items() if wanted}


def _hosts(content: str | None) -> dict[str, dict[str, Any]]:
    """The virtual hosts of a route table's file, by name."""
    hosts = next(iter(_resources(content)), {}).get("virtual_hosts")
    named = hosts if isinstance(hosts, list) else []
    return {str(host["name"]): host for host in named if isinstance(host, dict) and "name" in host}


def _resources(content: str | None) -> _Resources:
    """The resources of a file; none where it is not one of ours."""
    try:
        found = json.loads(content or "{}")
    except ValueError:
        return []
    listed = found.get("resources") if isinstance(found, dict) else None
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _strings(value: object) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
