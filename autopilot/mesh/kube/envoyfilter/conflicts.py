"""Overlays of other targets over the same routes: a route bears one deadline and one key, so the second is refused."""

from __future__ import annotations

import json

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import ENVOY_FILTER
from autopilot.mesh.kube.envoyfilter.render import NAMESPACE, SERVICE, laid_by, selector
from autopilot.mesh.kube.envoyfilter.standing_filter import MANAGED
from autopilot.mesh.model import Target


def refuse(api: KubeApi, namespace: str, target: Target, body: Object) -> None:
    """Refuses an overlay where one of another target lies.

    Args:
        api: the cluster.
        namespace: where EnvoyFilters are put.
        target: whose overlay it is.
        body: the EnvoyFilter that is to be written.

    Raises:
        InvalidChange: with whose it is.
    """
    wanted = routes_of(body)
    for other in api.list(ENVOY_FILTER, namespace, labels=selector(MANAGED)):
        labels, laid = other["metadata"].get("labels") or {}, laid_by(other)
        theirs = f"{labels.get(NAMESPACE)}/{labels.get(SERVICE)}"
        if laid is None or theirs == target.ref:
            continue
        if any(_same(one, two) for one in wanted for two in routes_of(other)):
            raise InvalidChange(
                f"{laid.operation} has an overlay for {theirs} on the same rule; wait for its end (`autopilot leases`)"
            )


def routes_of(body: Object) -> set[tuple[str, str, str]]:
    """What an EnvoyFilter of ours gives a deadline: (context, virtual host, route; empty for all of them)."""
    found = set()
    for patch in body["spec"].get("configPatches") or []:
        match = patch.get("match") or {}
        host = dict((match.get("routeConfiguration") or {}).get("vhost") or {})
        if (patch.get("patch") or {}).get("operation") == "MERGE" and host:  # other versions may patch other things
            route = (host.pop("route", None) or {}).get("name", "")
            found.add((str(match.get("context")), json.dumps(host, sort_keys=True), route))
    return found


def _same(one: tuple[str, str, str], two: tuple[str, str, str]) -> bool:
    return one[:2] == two[:2] and (one[2] == two[2] or "" in {one[2], two[2]})
