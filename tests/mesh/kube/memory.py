"""An API server in memory, for properties over many clusters: what is patched there is patched as RFC 6902 says.

It knows nothing of admission or of controllers but two: Deployments have ready Pods, and Services have EndpointSlices.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from autopilot.mesh.kube.client.api_errors import Absent, Conflict
from autopilot.mesh.kube.client.client import KubeApi, Object, Operation
from autopilot.mesh.kube.client.resources import Resource
from tests.mesh.kube.test_weight_patch import NotSo, patched

ROUTES = ("VirtualService", "HTTPRoute", "GRPCRoute", "TrafficSplit")


class Memory(KubeApi):
    """Objects by kind, namespace and name.

    Args:
        objects: what there is, each with `kind` and `metadata`.
        absent: kinds that the cluster does not serve.
    """

    def __init__(self, objects: Iterable[Object], absent: Iterable[str] = ()) -> None:
        self._absent = frozenset(absent)
        self._version = 1
        self.objects: dict[tuple[str, str, str], Object] = {}
        for one in objects:
            self._put(copy.deepcopy(one))
        self._run()

    @property
    def routes(self) -> dict[tuple[str, str, str], Object]:
        """What every route says, marks and versions left out."""
        return {key: copy.deepcopy(one["spec"]) for key, one in self.objects.items() if key[0] in ROUTES}

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        self._served(resource)
        return copy.deepcopy(self.objects.get((_kind(resource), namespace or "", name)))

    def list(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Object]:
        assert not fields
        self._served(resource)
        parts = [part.partition("=") for part in labels.split(",") if part]
        wanted = {name: value for name, equals, value in parts if equals}
        needed = {name for name, equals, _ in parts if not equals}
        return [
            copy.deepcopy(one)
            for (kind, where, _), one in self.objects.items()
            if kind == _kind(resource)
            and namespace in (None, where)
            and wanted.items() <= (one["metadata"].get("labels") or {}).items()
            and needed <= (one["metadata"].get("labels") or {}).keys()
        ]

    def create(self, resource: Resource, body: Object, *, dry_run: bool = False) -> Object:
        self._served(resource)
        meta = body["metadata"]
        if (resource.kind, meta["namespace"], meta["name"]) in self.objects:
            raise Conflict(f"{resource.kind} {meta['name']} exists")
        return self._put({**copy.deepcopy(body), "kind": resource.kind}, keep=not dry_run)

    def patch(self, resource: Resource, name: str, namespace: str, operations: Any, *, dry_run: bool = False) -> Object:
        made: Iterable[Operation] = operations
        try:
            body = patched(self.objects[resource.kind, namespace, name], list(made))
        except (NotSo, KeyError) as error:
            raise Conflict(str(error)) from error
        return self._put(body, keep=not dry_run)

    def apply(self, resource: Resource, body: Object, **_: Any) -> Object:
        self._served(resource)
        return self._put({**copy.deepcopy(body), "kind": resource.kind})

    def delete(self, resource: Resource, name: str, namespace: str | None = None, **_: Any) -> bool:
        return self.objects.pop((resource.kind, namespace or "", name), None) is not None

    def _served(self, resource: Resource) -> None:
        if resource.kind in self._absent:
            raise Absent(f"the cluster does not serve {resource.kind}")

    def _put(self, body: Object, *, keep: bool = True) -> Object:
        self._version += 1
        meta = body["metadata"]
        meta["resourceVersion"] = str(self._version)
        meta.setdefault("namespace", "shop")
        if keep:
            self.objects[f"{_linkerd(body.get('apiVersion', ''))}{body['kind']}", meta["namespace"], meta["name"]] = (
                body
            )
        return copy.deepcopy(body)

    def _run(self) -> None:
        deployments = [one for (kind, _, _), one in self.objects.items() if kind == "Deployment"]
        for number, one in enumerate(deployments, start=1):
            meta, labels = one["metadata"], one["spec"]["template"]["metadata"]["labels"]
            status = {"podIP": f"10.0.0.{number}", "conditions": [{"type": "Ready", "status": "True"}]}
            pod = {"name": f"{meta['name']}-0", "namespace": meta["namespace"], "labels": labels}
            self._put({"kind": "Pod", "metadata": pod, "status": status})
        pods = [one for (kind, _, _), one in self.objects.items() if kind == "Pod"]
        for service in [one for (kind, _, _), one in self.objects.items() if kind == "Service"]:
            meta, selector = service["metadata"], service["spec"]["selector"]
            ips = [
                pod["status"]["podIP"]
                for pod in pods
                if pod["metadata"]["namespace"] == meta["namespace"]
                and selector.items() <= pod["metadata"]["labels"].items()
            ]
            labels = {"kubernetes.io/service-name": meta["name"]}
            named = {"name": f"{meta['name']}-x", "namespace": meta["namespace"], "labels": labels}
            endpoints = [{"addresses": [ip], "conditions": {"ready": True}} for ip in ips]
            self._put({"kind": "EndpointSlice", "metadata": named, "ports": [{"port": 80}], "endpoints": endpoints})


def _kind(resource: Resource) -> str:
    """What it is kept by: two groups have an HTTPRoute."""
    return f"{_linkerd(resource.group)}{resource.kind}"


def _linkerd(group: str) -> str:
    return "Linkerd " if group.startswith("policy.linkerd.io") else ""


def service(name: str, namespace: str = "shop", **selector: str) -> Object:
    """A Service, which by default selects the pods of its own name."""
    spec = {"selector": selector or {"app": name}, "ports": [{"name": "http", "port": 80}]}
    return {"kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def deployment(app: str, version: str, namespace: str = "shop") -> Object:
    """A Deployment of one version, with one pod."""
    spec = {"template": {"metadata": {"labels": {"app": app, "version": version}}}}
    return {"kind": "Deployment", "metadata": {"name": f"{app}-{version}", "namespace": namespace}, "spec": spec}


def subsets(host: str, *versions: str, namespace: str = "shop") -> Object:
    """A DestinationRule whose subsets are versions."""
    found = [{"name": version, "labels": {"version": version}} for version in versions]
    meta = {"name": host, "namespace": namespace}
    return {"kind": "DestinationRule", "metadata": meta, "spec": {"host": host, "subsets": found}}


def shop(app: str) -> list[Object]:
    """One application as both kinds of arms: Service, subsets v1 and v2, Services of each version, and their pods."""
    return [
        service(app),
        *(service(f"{app}-{version}", app=app, version=version) for version in ("v1", "v2")),
        *(deployment(app, version) for version in ("v1", "v2")),
        subsets(app, "v1", "v2"),
    ]
