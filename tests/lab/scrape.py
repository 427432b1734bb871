"""The lab's Prometheus: it scrapes sidecars, and turns upstream Envoy's counters into Istio's standard metrics.

Upstream Envoy has no Istio statistics filter, so these rules make what that would have counted: what runs against the
lab runs against a real mesh.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

_OUTBOUND = r"outbound\|[0-9]*\|([^|]*)\|([^.|]+)\.([^.|]+)\.svc\.cluster\.local"
_INBOUND = r"inbound\|[0-9]*\|.*"
_NAMES = {
    "envoy_cluster_upstream_rq": "istio_requests_total",
    "envoy_cluster_upstream_rq_time_bucket": "istio_request_duration_milliseconds_bucket",
    "envoy_cluster_upstream_rq_time_sum": "istio_request_duration_milliseconds_sum",
    "envoy_cluster_upstream_rq_time_count": "istio_request_duration_milliseconds_count",
}


def configuration(targets: Path, every: float) -> dict[str, Any]:
    """The whole configuration.

    Args:
        targets: file that lists the sidecars (file_sd).
        every: seconds between scrapes.
    """
    return {
        "global": {"scrape_interval": f"{every:g}s", "scrape_timeout": f"{min(every, 5):g}s"},
        "scrape_configs": [
            {
                "job_name": "envoy-stats",
                "metrics_path": "/stats/prometheus",
                "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
                "metric_relabel_configs": [*_relabel()],
            }
        ],
    }


def _relabel() -> list[dict[str, Any]]:
    wanted = "|".join(_NAMES)
    cluster, name = ["envoy_cluster_name"], ["__name__", "envoy_cluster_name"]
    rules: list[dict[str, Any]] = [
        {
            "source_labels": name,
            "regex": f"(?:envoy_cluster_.*;(?:{_OUTBOUND}|{_INBOUND})|envoy_server_.*;)",
            "action": "keep",
        },
        {"source_labels": cluster, "regex": _OUTBOUND, "target_label": "reporter", "replacement": "source"},
        {"source_labels": cluster, "regex": _INBOUND, "target_label": "reporter", "replacement": "destination"},
    ]
    for label, group in (
        ("destination_version", "$1"),
        ("destination_service_name", "$2"),
        ("destination_service_namespace", "$3"),
    ):
        rules.append({"source_labels": cluster, "regex": _OUTBOUND, "target_label": label, "replacement": group})
    rules += [
        {
            "source_labels": ["destination_service_name", "destination_version"],
            "regex": "(.+);(.+)",
            "target_label": "destination_workload",
            "replacement": "$1-$2",
        },
        {
            "source_labels": ["destination_service_name", "destination_version"],
            "regex": "(.+);",
            "target_label": "destination_workload",
            "replacement": "$1",
        },
        {
            "source_labels": ["reporter", "pod_workload"],
            "regex": "destination;(.+)",
            "target_label": "destination_workload",
        },
        {
            "source_labels": ["reporter", "pod_workload"],
            "regex": "source;(.+)",
            "target_label": "source_workload",
        },
        {"source_labels": ["envoy_response_code"], "regex": "(.+)", "target_label": "response_code"},
        {"target_label": "request_protocol", "replacement": "http"},
    ]
    rules += [
        {"source_labels": ["__name__"], "regex": old, "target_label": "__name__", "replacement": new}
        for old, new in _NAMES.items()
    ]
    assert wanted
    return rules


def write(file: Path, targets: Path, every: float) -> None:
    """Writes the configuration, and an empty list of sidecars where there is none."""
    if not targets.exists():
        write_targets(targets, [])
    with file.open("w", encoding="utf-8") as stream:
        YAML().dump(configuration(targets, every), stream)


def write_targets(file: Path, sidecars: list[dict[str, Any]]) -> None:
    """Replaces the list of sidecars in one step."""
    half = file.with_suffix(".tmp")
    half.write_text(json.dumps(sidecars, indent=1), encoding="utf-8")
    half.replace(file)
