"""Prometheus' configuration and command line: it scrapes every proxy, the worker and the guard once a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from autopilot.local.ports import LOOPBACK

_KEPT = "envoy_cluster_upstream_rq.*|envoy_cluster_upstream_cx_active|envoy_cluster_retry.*|envoy_http_downstream_rq.*"
_DROPPED = "envoy_cluster_upstream_rq_per_cx.*"


@dataclass(frozen=True, slots=True)
class PrometheusCommand:
    """A Prometheus that can be run here."""

    binary: Path
    version: str
    origin: str
    """Where it came from, for people."""

    def command(self, *, config: Path, data: Path, port: int) -> list[str]:
        """The command that runs it."""
        return [
            str(self.binary),
            f"--config.file={config}",
            f"--storage.tsdb.path={data}",
            "--storage.tsdb.retention.time=6h",
            f"--web.listen-address={LOOPBACK}:{port}",
            "--log.level=warn",
        ]


def write_config(file: Path, *, proxies: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Writes the configuration.

    Args:
        file: where to.
        proxies: name of a proxy to its admin address.
        ours: name of a process of ours to the address of its metrics.
    """

    def targets(addresses: Mapping[str, str]) -> list[dict[str, object]]:
        return [{"targets": [address], "labels": {"instance": name}} for name, address in addresses.items()]

    jobs: list[dict[str, object]] = [
        {
            "job_name": "envoy",
            "metrics_path": "/stats/prometheus",
            "static_configs": targets(proxies),
            "metric_relabel_configs": [
                {"source_labels": ["__name__"], "regex": _KEPT, "action": "keep"},
                {"source_labels": ["__name__"], "regex": _DROPPED, "action": "drop"},
            ],
        }
    ]
    if ours:
        jobs.append({"job_name": "autopilot", "static_configs": targets(ours)})
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    with file.open("w", encoding="utf-8") as target:
        YAML().dump({"global": every, "scrape_configs": jobs}, target)
