"""The constant filter in every proxy that calls: installed once, and left. Without it overlays are inert.

Installing it changes listeners, so their connections drain once; nothing that comes and goes with an operation does.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files

from autopilot.mesh.kube.api import KubeApi, Object
from autopilot.mesh.kube.resources import ENVOY_FILTER

NAME = "autopilot-overlays"
FILTER = "autopilot.overlays"
"""Of the HTTP filter, and so the key of the route metadata that it reads."""
VERSION = "meshautopilot.io/version"
MANAGED = {"app.kubernetes.io/managed-by": "autopilot"}
FAULTS = "autopilot.faults"
"""Of the filter behind it, which does nothing but what an overlay's route says for it."""
FAULT_TYPE = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"
_LUA = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"


def standing_filter(namespace: str) -> Object:
    """The EnvoyFilter that puts the constant filter before the router, in sidecars and gateways."""
    code = _code()
    values = (
        {"name": FILTER, "typed_config": {"@type": _LUA, "default_source_code": {"inline_string": code}}},
        # Istio's own of this kind stands before: it sees the user's route, and so the user's faults.
        {"name": FAULTS, "typed_config": {"@type": FAULT_TYPE}},
    )
    router = {
        "name": "envoy.filters.network.http_connection_manager",
        "subFilter": {"name": "envoy.filters.http.router"},
    }
    patches = [
        {
            "applyTo": "HTTP_FILTER",
            "match": {"context": context, "listener": {"filterChain": {"filter": router}}},
            # The last before the router: whatever looks at the route before it sees the user's own.
            "patch": {"operation": "INSERT_BEFORE", "value": value},
        }
        for context in ("SIDECAR_OUTBOUND", "GATEWAY")
        for value in values
    ]
    return {
        "apiVersion": ENVOY_FILTER.api_version,
        "kind": ENVOY_FILTER.kind,
        "metadata": {
            "name": NAME,
            "namespace": namespace,
            "labels": dict(MANAGED),
            "annotations": {VERSION: hashlib.sha256((code + FAULTS).encode()).hexdigest()[:16]},
        },
        "spec": {"configPatches": patches},
    }


def missing(api: KubeApi, namespace: str) -> bool:
    """Whether the filter is not installed."""
    return api.get(ENVOY_FILTER, NAME, namespace) is None


def is_current(api: KubeApi, namespace: str) -> bool:
    """Whether the filter that is installed is this release's."""
    found = api.get(ENVOY_FILTER, NAME, namespace)
    return found is not None and _version(found) == _version(standing_filter(namespace))


def install(api: KubeApi, namespace: str) -> None:
    """Installs the filter where there is none; one of another version is replaced only while nothing is overlaid."""
    wanted, found = standing_filter(namespace), api.get(ENVOY_FILTER, NAME, namespace)
    if found is not None:
        same = _version(found) == _version(wanted)
        labels = ",".join(f"{key}={value}" for key, value in MANAGED.items())
        others = (one for one in api.list(ENVOY_FILTER, namespace, labels=labels) if one["metadata"]["name"] != NAME)
        if same or any(others):
            return
    api.apply(ENVOY_FILTER, wanted)


def _version(body: Object) -> str:
    return str((body["metadata"].get("annotations") or {}).get(VERSION, ""))


@lru_cache(maxsize=1)
def _code() -> str:
    return files("autopilot.mesh.kube").joinpath("filters.lua").read_text(encoding="utf-8")
