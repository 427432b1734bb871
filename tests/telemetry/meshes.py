"""Series as Istio and Linkerd write them, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autopilot.telemetry.dialects.istio import BUCKET, REQUESTS

ROUTE_ENDED = "outbound_http_route_backend_response_statuses_total"
ROUTE_BEGUN = "outbound_http_route_backend_requests_total"
ROUTE_BUCKET = "outbound_http_route_backend_response_duration_seconds_bucket"

Series = tuple[dict[str, str], float]


def istio(
    arm: str,
    value: float,
    *,
    code: str | None = "200",
    reporter: str | None = "source",
    pod: str = "web-1",
    service: str = "reviews",
    namespace: str = "shop",
    name: str = REQUESTS,
    **labels: str,
) -> Series:
    """One of Istio's series of a version; labels that are None are left out."""
    found = {
        "__name__": name,
        "reporter": reporter,
        "source_workload": "web",
        "destination_workload": f"{service}-{arm}",
        "destination_workload_namespace": namespace,
        "destination_service_name": service,
        "destination_service_namespace": namespace,
        "destination_version": arm,
        "request_protocol": "http",
        "response_code": code,
        "response_flags": "-",
        "grpc_response_status": "",
        "pod": pod,
        "instance": f"{pod}:15020",
        "job": "envoy-stats",
    }
    return {name: text for name, text in (found | labels).items() if text is not None}, value


def istio_bucket(arm: str, le: str, value: float, **labels: Any) -> Series:
    return istio(arm, value, name=BUCKET, le=le, **labels)


def route(
    arm: str,
    value: float,
    *,
    status: str = "200",
    error: str = "",
    pod: str = "web-1",
    name: str = ROUTE_ENDED,
    **labels: str,
) -> Series:
    """One of Linkerd's series of a route's backend."""
    found = {
        "__name__": name,
        "parent_kind": "Service",
        "parent_name": "reviews",
        "parent_namespace": "shop",
        "route_kind": "HTTPRoute",
        "route_name": "reviews",
        "backend_kind": "Service",
        "backend_name": f"reviews-{arm}",
        "backend_namespace": "shop",
        "pod": pod,
        "instance": f"{pod}:4191",
        "job": "linkerd-proxy",
    }
    if name == ROUTE_ENDED:
        found |= {"http_status": status, "error": error}
    return found | labels, value


def endpoint(
    arm: str,
    value: float,
    *,
    classification: str | None = "success",
    pod: str = "web-1",
    name: str = "response_total",
    direction: str = "outbound",
    **labels: str,
) -> Series:
    """One of Linkerd's series of an endpoint."""
    found = {
        "__name__": name,
        "direction": direction,
        "authority": "reviews.shop.svc.cluster.local:80",
        "dst_deployment": f"reviews-{arm}",
        "dst_namespace": "shop",
        "dst_service": "reviews",
        "classification": classification if name == "response_total" else None,
        "pod": pod,
        "instance": f"{pod}:4191",
        "job": "linkerd-proxy",
    }
    return {name: text for name, text in (found | labels).items() if text is not None}, value


def matrix(series: Iterable[Series], *, at: float = 1000.0) -> list[dict[str, Any]]:
    """The answer to a range selector: two scrapes, of which the earlier has nothing."""
    return [{"metric": labels, "values": [[at - 15, "0"], [at, str(value)]]} for labels, value in series]


def exposition(series: Iterable[Series]) -> str:
    """What a proxy shows a Prometheus; labels that scraping adds are its own here."""
    return "".join(f"{labels['__name__']}{{{_written(labels)}}} {value}\n" for labels, value in series)


def _written(labels: Mapping[str, str]) -> str:
    kept = {name: text for name, text in labels.items() if name not in {"__name__", "instance", "job"}}
    return ",".join(f'{name}="{text}"' for name, text in sorted(kept.items()))
