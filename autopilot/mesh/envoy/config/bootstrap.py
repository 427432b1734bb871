"""What a proxy is started with: its admin address, and the files it follows from then on."""

from __future__ import annotations

from typing import Any

from autopilot.mesh.envoy.config.render import socket_address
from autopilot.spec.mesh import MeshSpec, Proxy

_LARGEST_REGEX = 20_000
"""Of RE2's instructions: a header's value of a thousand characters, and what stands around it."""
_INTERNAL = "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"


def bootstrap(mesh_name: str, spec: MeshSpec, proxy: Proxy, *, clusters: str, listeners: str) -> dict[str, Any]:
    """Envoy's bootstrap for one proxy; `clusters` and `listeners` are absolute paths of resource files."""
    return {
        "node": {"id": proxy.name, "cluster": mesh_name},
        "admin": {"address": socket_address(proxy.admin)},
        # Histograms are merged at every flush: a judge can see latency no sooner.
        "stats_flush_interval": f"{spec.stats_flush_interval:g}s",
        # A cookie's value is matched by a regular expression, and Envoy refuses those beyond a size.
        "layered_runtime": {
            "layers": [{"name": "autopilot", "static_layer": {"re2.max_program_size.error_level": _LARGEST_REGEX}}]
        },
        # Reset and blackhole are listeners inside the proxy.
        "bootstrap_extensions": [{"name": "envoy.bootstrap.internal_listener", "typed_config": {"@type": _INTERNAL}}],
        "dynamic_resources": {"cds_config": _file(clusters), "lds_config": _file(listeners)},
    }


def _file(path: str) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}
