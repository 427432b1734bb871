"""What Istio's proxy says of itself at port 15090, made from what upstream Envoy counts.

Upstream Envoy has no statistics filter of Istio's, so its cluster counters are told again under Istio's names: what
reads the lab reads a real mesh. Envoy's own lines stay beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

PORT = 15090
QUERY = "/stats/prometheus?filter=^(cluster[.](outbound|inbound)|http[.].*[.]fault[.](delays|aborts)_injected)"
_LINE = re.compile(r"^(envoy_cluster_upstream_rq(?:_time_(?:bucket|sum|count))?)\{([^}]*)\} (\S+)$")
_FAULT = re.compile(r"^envoy_http_(?:.*_)?fault_(delays|aborts)_injected\{[^}]*\} (\S+)$")
_FLAGS = {"delays": ("DI", "200"), "aborts": ("FI", "500")}
"""What Istio's filter says of each kind, and with which answer it is told here."""
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_OUTBOUND = re.compile(r"^outbound\|\d*\|([^|]*)\|([^.|]+)\.([^.|]+)\.svc\.cluster\.local")
_NAMES = {
    "envoy_cluster_upstream_rq": "istio_requests_total",
    "envoy_cluster_upstream_rq_time_bucket": "istio_request_duration_milliseconds_bucket",
    "envoy_cluster_upstream_rq_time_sum": "istio_request_duration_milliseconds_sum",
    "envoy_cluster_upstream_rq_time_count": "istio_request_duration_milliseconds_count",
}


def told_again(text: str, pod: Mapping[str, str], namespace: str) -> str:
    """Envoy's statistics, and the same in Istio's terms.

    Args:
        text: as Envoy's admin interface gives it.
        pod: labels of the pod that the proxy stands before.
        namespace: of the pod.
    """
    own = "-".join(filter(None, (pod.get("app"), pod.get("version") if pod.get("app") != "web" else None)))
    lines = [*_translated(text, own, pod, namespace), *_injected(text, own, namespace)]
    return text + "\n".join(lines) + "\n"


def _injected(text: str, own: str, namespace: str) -> Iterator[str]:
    """Requests that met a fault, as Istio's filter flags them.

    Envoy counts them by listener, and a listener of the lab's leads to all services: they are told of the one that is
    called. (Istio's filter knows the service of each; the lab's scenes call one.)
    """
    called: dict[tuple[str, str], float] = {}
    met = dict.fromkeys(_FLAGS, 0.0)
    for line in text.splitlines():
        if fault := _FAULT.match(line):
            met[fault[1]] += float(fault[2])
        elif (found := _LINE.match(line)) and found[1] == "envoy_cluster_upstream_rq":
            cluster = dict(_LABEL.findall(found[2])).get("envoy_cluster_name", "")
            if outbound := _OUTBOUND.match(cluster):
                key = outbound[2], outbound[3]
                called[key] = called.get(key, 0.0) + float(found[3])
    if not called:
        return
    service, place = max(called, key=lambda key: called[key])
    for kind, (flag, code) in _FLAGS.items():
        told = {
            "reporter": "source",
            "source_workload": own,
            "source_workload_namespace": namespace,
            "destination_service_name": service,
            "destination_service_namespace": place,
            "request_protocol": "http",
            "response_flags": flag,
            "response_code": code,
        }
        labels = ",".join(f'{key}="{one}"' for key, one in told.items())
        yield f"istio_requests_total{{{labels}}} {met[kind]:g}"


def _translated(text: str, own: str, pod: Mapping[str, str], namespace: str) -> Iterator[str]:
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        name, inside, value = found.groups()
        labels = dict(_LABEL.findall(inside))
        sides = _sides(labels.get("envoy_cluster_name", ""), own, pod, namespace)
        if sides is None or (name == "envoy_cluster_upstream_rq" and "envoy_response_code" not in labels):
            continue
        told = {**sides, "request_protocol": "http", "response_flags": "-"}
        if "le" in labels:
            told["le"] = labels["le"]
        if name == "envoy_cluster_upstream_rq":
            told["response_code"] = labels["envoy_response_code"]
        yield f"{_NAMES[name]}{{{','.join(f'{key}={chr(34)}{one}{chr(34)}' for key, one in told.items())}}} {value}"


def _sides(cluster: str, own: str, pod: Mapping[str, str], namespace: str) -> dict[str, str] | None:
    """Who calls whom, as the proxy of this pod knows it; None for other clusters."""
    if outbound := _OUTBOUND.match(cluster):
        subset, service, place = outbound.groups()
        return {
            "reporter": "source",
            "source_workload": own,
            "source_workload_namespace": namespace,
            "destination_workload": f"{service}-{subset}" if subset else service,
            "destination_workload_namespace": place,
            "destination_service_name": service,
            "destination_service_namespace": place,
            "destination_version": subset or service.rpartition("-")[2],
        }
    if cluster.startswith("inbound|"):
        return {
            "reporter": "destination",
            "source_workload": "unknown",
            "source_workload_namespace": "unknown",
            "destination_workload": own,
            "destination_workload_namespace": namespace,
            "destination_service_name": pod.get("app", ""),
            "destination_service_namespace": namespace,
            "destination_version": pod.get("version", ""),
        }
    return None
