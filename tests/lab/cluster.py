"""What a fresh cluster is given: CRDs, a node, namespaces."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from ruamel.yaml import YAML

from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import CRD, Resource
from tests.lab import build

NODE = Resource("", "v1", "nodes", "Node")
NAMESPACE = Resource("", "v1", "namespaces", "Namespace")
PEERS = Resource("security.istio.io", "v1", "peerauthentications", "PeerAuthentication")
NODE_NAME = "lab-node"
_LIMIT = 30.0


def documents(file: Path) -> list[Object]:
    """The objects of one YAML file."""
    with file.open(encoding="utf-8") as stream:
        return [document for document in YAML(typ="safe", pure=True).load_all(stream) if document]


def crd_files() -> list[Path]:
    """Where Istio's and the Gateway API's CRDs lie, in their own modules."""
    istio = build.module_folder("istio", "istio.io/api") / "kubernetes" / "customresourcedefinitions.gen.yaml"
    gateway = build.module_folder("istio", "sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"
    return [istio, *sorted(path for path in gateway.glob("gateway.networking*.yaml"))]


def install_crds(api: KubeApi, objects: Iterable[Object]) -> None:
    """Applies CRDs, and waits until the API server serves them."""
    names = []
    for body in objects:
        if body["kind"] == CRD.kind:
            api.apply(CRD, body)
            names.append(body["metadata"]["name"])
    until = time.monotonic() + _LIMIT
    for name in names:
        while not _established(api.get(CRD, name)):
            if time.monotonic() > until:
                raise TimeoutError(f"the API server does not serve {name} after {_LIMIT:g} s")
            time.sleep(0.05)


def _established(crd: Object | None) -> bool:
    conditions: Sequence[Object] = (crd or {}).get("status", {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def furnish(api: KubeApi) -> None:
    """One node that every pod names, Istio's namespace, and no mTLS, for nobody here signs certificates."""
    api.apply(NODE, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME}})
    make_namespace(api, "istio-system")
    body = {"metadata": {"name": "default", "namespace": "istio-system"}, "spec": {"mtls": {"mode": "DISABLE"}}}
    api.apply(PEERS, {"apiVersion": PEERS.api_version, "kind": PEERS.kind, **body})


def make_namespace(api: KubeApi, name: str) -> None:
    """A namespace; there already is there well."""
    api.apply(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
