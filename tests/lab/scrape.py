"""The lab's Prometheus: it scrapes every sidecar's statistics, as a mesh's own would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

_KEPT = "istio_.*|envoy_cluster_upstream_rq.*|envoy_cluster_retry.*"


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
                "metric_relabel_configs": [{"source_labels": ["__name__"], "regex": _KEPT, "action": "keep"}],
            }
        ],
    }


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
