"""Bootstraps of the pods' Envoys: everything else they get from istiod."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ADMIN = 15000
_XDS = "xds-grpc"


def bootstrap(pod: str, namespace: str, address: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """What one sidecar starts with.

    Args:
        pod: name of the pod.
        namespace: its namespace.
        address: its address; admin listens at `address:15000`.
        labels: its labels.
    """
    source = {"resource_api_version": "V3", "ads": {}, "initial_fetch_timeout": "0s"}
    return {
        "node": {
            "id": f"sidecar~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local",
            "cluster": f"{labels.get('app', pod)}.{namespace}",
            "metadata": {
                "NAMESPACE": namespace,
                "NAME": pod,
                "LABELS": dict(labels),
                "CLUSTER_ID": "Kubernetes",
                "ISTIO_VERSION": "1.30.0",
                "INTERCEPTION_MODE": "NONE",
                "INSTANCE_IPS": address,
            },
        },
        "admin": {"address": _address(address, ADMIN)},
        "dynamic_resources": {
            "lds_config": source,
            "cds_config": source,
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": _XDS}}],
            },
        },
        "static_resources": {
            "clusters": [_cluster(_XDS, "127.0.0.1", 15010)],
        },
        # istiod's cluster names hold dots, at the first of which Envoy's own rule would cut them.
        "stats_config": {
            "stats_tags": [
                {"tag_name": "envoy.cluster_name", "regex": "^cluster[.](((?:out|in)bound[^;]*);[.])"},
            ]
        },
        "stats_flush_interval": "1s",
    }


def write(file: Path, content: Mapping[str, Any]) -> Path:
    """Writes a bootstrap."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return file


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _cluster(name: str, host: str, port: int) -> dict[str, Any]:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(host, port)}}]}],
        },
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
