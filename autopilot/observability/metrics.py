"""Autopilot's own metrics for Prometheus, in worker and guard."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from autopilot.mesh.model import LeaseStatus
from autopilot.spec.values.addresses import split_address

REGISTRY = CollectorRegistry(auto_describe=True)

OPERATIONS = Counter("autopilot_operations_total", "Operations ended", ["kind", "outcome"], registry=REGISTRY)
CANARY_WEIGHT = Gauge(
    "autopilot_canary_weight",
    "Weight of an arm in percent, as set and as measured from requests",
    ["namespace", "name", "arm", "source"],
    registry=REGISTRY,
)
LEASE_EXPIRY = Gauge(
    "autopilot_lease_expiry_timestamp_seconds",
    "Time at which a lease expires unless it is renewed",
    ["mesh", "namespace", "service", "holder"],
    registry=REGISTRY,
)
RESTORE_SECONDS = Histogram(
    "autopilot_restore_duration_seconds",
    "Seconds from the order to restore until the proxies report the base configuration",
    ["net"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
TELEMETRY_AGE = Gauge(
    "autopilot_telemetry_age_seconds",
    "Age of the latest comparable tick of a watched target",
    ["namespace", "name"],
    registry=REGISTRY,
)
UNREADABLE = Gauge(
    "autopilot_unreadable_records",
    "Records of a mesh that this version cannot read: of another version, or damaged",
    ["mesh"],
    registry=REGISTRY,
)
GUARD_SWEEP = Gauge(
    "autopilot_guard_last_sweep_timestamp_seconds",
    "Time of a guard's last sweep of a mesh",
    ["mesh"],
    registry=REGISTRY,
)
TEMPORAL_SILENT = Gauge(
    "autopilot_temporal_silent_seconds",
    "Seconds since Temporal last answered this worker, also with an error",
    registry=REGISTRY,
)
JUDGE_STALL = Histogram(
    "autopilot_judge_stall_seconds",
    "Seconds by which a round of a judge was later than its tick, and from a verdict until it was told",
    ["kind"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
JUDGE_WORST_STALL = Gauge(
    "autopilot_judge_worst_stall_seconds",
    "Longest stall of this process's judges since it started",
    ["kind"],
    registry=REGISTRY,
)
_SHOWN: dict[str, set[tuple[str, str, str, str]]] = {}
"""Mesh → the labels of its leases that are exported."""


def serve(address: str) -> None:
    """Serves the metrics at `host:port`.

    Raises:
        OSError: the address is taken.
    """
    host, port = split_address(address)
    start_http_server(port, addr=host, registry=REGISTRY)


def show_leases(mesh: str, statuses: Iterable[LeaseStatus]) -> None:
    """Exports when each lease of a mesh ends; those that are gone are no longer exported, other meshes' still are."""
    shown = set()
    for status in statuses:
        target = status.lease.target
        labels = (mesh, target.namespace, target.service, status.lease.holder.operation)
        LEASE_EXPIRY.labels(*labels).set(status.renewed + status.lease.ttl)
        shown.add(labels)
    for labels in _SHOWN.get(mesh, set()) - shown:
        LEASE_EXPIRY.remove(*labels)
    _SHOWN[mesh] = shown


def forget_canary(namespace: str, name: str) -> None:
    """Stops exporting a rollout that has ended, so that no stale weight is taken for a live one."""
    CANARY_WEIGHT.remove_by_labels({"namespace": namespace, "name": name})
    TELEMETRY_AGE.remove_by_labels({"namespace": namespace, "name": name})
