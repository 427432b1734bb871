"""A small shop in a namespace of its own: `web` calls `reviews`, or another, of which there are two versions."""

from __future__ import annotations

import itertools
import json
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import (
    DEPLOYMENT,
    DESTINATION_RULE,
    HTTP_ROUTE,
    POD,
    SERVICE,
    SERVICE_ENTRY,
    VIRTUAL_SERVICE,
    Resource,
)
from autopilot.mesh.kube.routes.base import addresses
from tests.lab.cluster import NODE_NAME
from tests.lab.pods import PORT
from tests.lab.serve import SIDECAR

ISTIO_SIDECAR = Resource("networking.istio.io", "v1", "sidecars", "Sidecar")
_NUMBERS = itertools.count(1)
_LIMIT = 30.0
_ROLES = ("the caller", "version 1", "version 2")
"""Each has a pod."""
INBOUND = 8080
"""Where a pod's sidecar takes requests to the application."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What was put into a namespace."""

    namespace: str
    client: str
    """URL at which `web`'s sidecar takes requests to the mesh, at the first port."""
    service: str = "reviews"

    def at(self, port: int) -> str:
        """URL of another port."""
        return f"{self.client.rpartition(':')[0]}:{port}"

    @property
    def host(self) -> str:
        """The Host header of requests to the service."""
        return f"{self.service}.{self.namespace}.svc.cluster.local"


def furnish(
    api: KubeApi, namespace: str, *, sidecars: bool = True, service: str = "reviews", ports: Sequence[int] = (80,)
) -> Scene:
    """Deployments, Services and sidecars' configuration; returns once every pod is ready.

    Services have as many ports as are asked for, all of which lead to the same application, and `web` calls each.

    Where pods have sidecars, ready means that requests to both versions of the service are answered through them. In a
    real cluster the kubelet sees to it; here kwok calls a pod ready whose sidecar has not been started yet.
    """
    bind = f"127.1.{next(_NUMBERS)}.1"
    for name, app, version in (
        ("web", "web", "v1"),
        (f"{service}-v1", service, "v1"),
        (f"{service}-v2", service, "v2"),
    ):
        api.apply(DEPLOYMENT, _deployment(namespace, name, app, version, sidecar=sidecars))
    for name, selector in (
        (service, {"app": service}),
        (f"{service}-v1", {"app": service, "version": "v1"}),
        (f"{service}-v2", {"app": service, "version": "v2"}),
    ):
        taken = [{"name": f"http-{port}", "port": port, "targetPort": INBOUND} for port in ports]
        api.apply(SERVICE, _object(SERVICE, namespace, name, {"selector": selector, "ports": taken}))
    if sidecars:
        egress = [
            {
                "port": {"number": port, "protocol": "HTTP", "name": f"http-{port}"},
                "bind": bind,
                "captureMode": "NONE",
                "hosts": ["./*"],
            }
            for port in ports
        ]
        ingress = {
            "port": {"number": INBOUND, "protocol": "HTTP", "name": "http"},
            "captureMode": "NONE",
            "defaultEndpoint": f"0.0.0.0:{PORT}",
        }
        for app, spec in (
            ("web", {"egress": egress}),
            (service, {"ingress": [ingress], "egress": [{"hosts": ["istio-system/*"]}]}),
        ):
            wanted = {"workloadSelector": {"labels": {"app": app}}, **spec}
            api.apply(ISTIO_SIDECAR, _object(ISTIO_SIDECAR, namespace, app, wanted))
    _until_ready(api, namespace, service)
    if sidecars:
        for version in ("v1", "v2"):
            _until_served(api, namespace, service, version)
    return Scene(namespace, f"http://{bind}:{ports[0]}", service)


def subsets(api: KubeApi, namespace: str, service: str = "reviews") -> None:
    """A DestinationRule that tells v1 from v2."""
    found = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    spec = {"host": service, "subsets": found}
    api.apply(DESTINATION_RULE, _object(DESTINATION_RULE, namespace, service, spec))


def virtual_service(api: KubeApi, namespace: str, service: str = "reviews", **weights: int) -> Object:
    """A VirtualService as a user would write it: a tester's header leads to v2, the rest is shared."""
    destination = {"host": service}
    rules = [
        {
            "name": "testers",
            "match": [{"headers": {"x-tester": {"exact": "yes"}}}],
            "route": [{"destination": {**destination, "subset": "v2"}}],
        },
        {
            "name": "everybody",
            "route": [
                {"destination": {**destination, "subset": arm}, "weight": weight} for arm, weight in weights.items()
            ],
        },
    ]
    spec = {"hosts": [service], "http": rules}
    return api.create(VIRTUAL_SERVICE, _object(VIRTUAL_SERVICE, namespace, service, spec))


def http_route(api: KubeApi, namespace: str, **weights: int) -> Object:
    """An HTTPRoute on the Service, as a user would write it; arms are Services (`_` stands for a dash)."""
    parents = [{"group": "", "kind": "Service", "name": "reviews", "port": 80}]
    backends = [{"name": arm.replace("_", "-"), "port": 80, "weight": weight} for arm, weight in weights.items()]
    spec = {"parentRefs": parents, "rules": [{"backendRefs": backends}]}
    return api.create(HTTP_ROUTE, _object(HTTP_ROUTE, namespace, "reviews", spec))


def service_entry(api: KubeApi, namespace: str, host: str, service: str = "reviews") -> Object:
    """A host outside the mesh, which is the application of the service's first version in fact."""
    spec = {
        "hosts": [host],
        "location": "MESH_EXTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": PORT}],
        "endpoints": [{"address": pod_address(api, namespace, service, "v1")}],
    }
    return api.create(SERVICE_ENTRY, _object(SERVICE_ENTRY, namespace, "payments", spec))


def pod_address(api: KubeApi, namespace: str, app: str, version: str) -> str:
    """The address of the one pod of a version."""
    (pod,) = api.list(POD, namespace, labels=f"app={app},version={version}")
    return str(pod["status"]["podIP"])


def _deployment(namespace: str, name: str, app: str, version: str, *, sidecar: bool) -> Object:
    labels = {"app": app, "version": version}
    template = {
        "metadata": {"labels": {**labels, **({SIDECAR: "true"} if sidecar else {})}},
        "spec": {"nodeName": NODE_NAME, "containers": [{"name": "app", "image": f"shop/{app}:{version}"}]},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return _object(DEPLOYMENT, namespace, name, spec)


def _object(resource: Resource, namespace: str, name: str, spec: dict[str, Any]) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}


def _until_ready(api: KubeApi, namespace: str, service: str) -> None:
    until = time.monotonic() + _LIMIT
    while True:
        found = [pod for pod in api.list(POD, namespace) if pod["metadata"]["labels"].get("app") in ("web", service)]
        there = len(found) == len(_ROLES) and all(pod.get("status", {}).get("podIP") for pod in found)
        if there and all(addresses(api, namespace, name) for name in (f"{service}-v1", f"{service}-v2")):
            return
        if time.monotonic() > until:
            raise TimeoutError(f"{len(found)} of {len(_ROLES)} pods of {namespace} are there after {_LIMIT:g} s")
        time.sleep(0.1)


def _until_served(api: KubeApi, namespace: str, service: str, version: str) -> None:
    """Waits until a pod's sidecar passes requests on to its application, and not to one that had its address before."""
    (pod,) = api.list(POD, namespace, labels=f"app={service},version={version}")
    name, address = f"{namespace}.{pod['metadata']['name']}", pod["status"]["podIP"]
    until = time.monotonic() + _LIMIT
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}:{INBOUND}/_shop", timeout=1) as response:
                found = json.load(response)["service"]
        except OSError as error:
            found = str(error)
        if found == name:
            return
        if time.monotonic() > until:
            raise TimeoutError(f"the sidecar at {address} does not serve {name} after {_LIMIT:g} s: {found}")
        time.sleep(0.1)
