"""The constant filter in every proxy that calls: installed once, and left. Without it overlays are inert.

Installing it changes listeners, so their connections drain once; nothing that comes and goes with an operation does.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files

from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import ENVOY_FILTER

NAME = "autopilot-overlays"
FILTER = "autopilot.overlays"
"""Of the HTTP filter, and so the key of the route metadata that it reads."""
VERSION = "meshautopilot.io/version"
RELEASE = "meshautopilot.io/release"
"""Annotation: counts what the filter can do, so that an older worker does not take it back."""
_WITH_FAULTS = 2
_OURS = 2
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
            "annotations": {
                VERSION: hashlib.sha256((code + FAULTS).encode()).hexdigest()[:16],
                RELEASE: str(_OURS),
            },
        },
        "spec": {"configPatches": patches},
    }


def missing(api: KubeApi, namespace: str) -> bool:
    """Whether the filter is not installed."""
    return api.get(ENVOY_FILTER, NAME, namespace) is None


def says_faults(api: KubeApi, namespace: str) -> bool:
    """Whether the filter that is installed knows of faults."""
    found = api.get(ENVOY_FILTER, NAME, namespace)
    return found is not None and _release(found) >= _WITH_FAULTS


def replaceable(api: KubeApi, namespace: str) -> bool:
    """Whether nothing is overlaid, so that nobody would notice another filter."""
    labels = ",".join(f"{key}={value}" for key, value in MANAGED.items())
    return all(one["metadata"]["name"] == NAME for one in api.list(ENVOY_FILTER, namespace, labels=labels))


def install(api: KubeApi, namespace: str) -> None:
    """Installs the filter where there is none; an older one is replaced only while nothing is overlaid."""
    wanted, found = standing_filter(namespace), api.get(ENVOY_FILTER, NAME, namespace)
    if found is not None:
        same = _annotation(found, VERSION) == _annotation(wanted, VERSION)
        if same or _release(found) > _OURS or not replaceable(api, namespace):
            return
    api.apply(ENVOY_FILTER, wanted)


def _release(body: Object) -> int:
    said = _annotation(body, RELEASE)
    return int(said) if said.isdigit() else 1


def _annotation(body: Object, name: str) -> str:
    return str((body["metadata"].get("annotations") or {}).get(name, ""))


@lru_cache(maxsize=1)
def _code() -> str:
    return files("autopilot.mesh.kube.envoyfilter").joinpath("overlay.lua").read_text(encoding="utf-8")
