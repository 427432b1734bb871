"""Linkerd's metrics (names read off Linkerd 2.18's reference of its proxy, and off the proxy's source of 2024/25).

All is told by the caller's proxy, in two places, of which one is believed for an arm (see `told`):

* `route`, since Linkerd 2.16: `outbound_{http,grpc}_route_backend_response_statuses_total`, by the backend of an
  HTTPRoute or a GRPCRoute, or of the route that Linkerd makes up. It knows timeouts, resets and requests for which
  there was no endpoint (label `error`), and so comes first. gRPC that goes by no GRPCRoute is plain HTTP to it, and
  always well: for such a service put `endpoint` first.
* `endpoint`: `response_total{direction="outbound"}`, by the endpoint's workload. Linkerd classifies these itself, gRPC
  among them; what never reached an endpoint, or timed out at the route, is not in it.

An error is an `error`, a 5xx, or a listed gRPC status; at the endpoint, Linkerd's own `classification`. A client
error is a 4xx, or a gRPC status that stands for one.

**Both views are the attempt view.** Either place counts each attempt, for retries are made above it. What callers got
after retries is counted by route alone (`outbound_*_route_request_statuses_total` names no backend), so exposure here
counts a retried request as often as it was tried: too much rather than too little.

What began is counted too, so requests that hang are seen. Latency ends with the answer at a route, and with its first
byte at an endpoint.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from autopilot.spec.values.arms import name_of
from autopilot.telemetry.arms import Alternative, ArmSelector, Resolver, named, narrowed
from autopilot.telemetry.dialects import grpc, reporters
from autopilot.telemetry.dialects.dialect import Matrix, Reading
from autopilot.telemetry.model import SeriesSample, Subject

ROUTE, ENDPOINT = "route", "endpoint"
TELLERS = (ROUTE, ENDPOINT)

_ROUTES = tuple(f"outbound_{protocol}_route_backend" for protocol in ("http", "grpc"))
_ROUTE_BEGUN = frozenset(f"{route}_requests_total" for route in _ROUTES)
_ROUTE_ENDED = frozenset(f"{route}_response_statuses_total" for route in _ROUTES)
_ROUTE_BUCKET = frozenset(f"{route}_response_duration_seconds_bucket" for route in _ROUTES)
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_MILLISECONDS = (
    1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 1000.0, 2000.0, 3000.0,
    4000.0, 5000.0, 10000.0, 20000.0, 30000.0, 40000.0, 50000.0,
)  # fmt: skip
_BEGUN, _ENDED, _BUCKET = "request_total", "response_total", "response_latency_ms_bucket"

_OWN = (
    "direction", "authority", "tls", "no_tls_reason", "target_", "dst_", "server_id", "srv_",
    "parent_", "route_", "backend_",
)  # fmt: skip
_OUTCOME = frozenset({"status_code", "classification", "grpc_status_code", "http_status", "grpc_status", "error"})
_GRPC_CLIENT = frozenset({*map(str, grpc.CLIENT), *(grpc.NAMES[code] for code in grpc.CLIENT)})
"""By number at an endpoint, by name at a route."""
_UNSEEN = "traffic that other routes send, or no route"


def arms_by_name(subject: Subject) -> dict[str, ArmSelector]:
    """Arms that are called what they are: backend Services, and Deployments, `service-arm` or `arm`."""
    return {
        arm: ArmSelector.of(
            *({"backend_namespace": subject.namespace, "backend_name": name} for name in _called(subject, arm)),
            *({"dst_namespace": subject.namespace, "dst_deployment": name} for name in _called(subject, arm)),
        )
        for arm in subject.arms
    }


def _called(subject: Subject, arm: str) -> tuple[str, str]:
    return f"{subject.service}-{name_of(arm)}", name_of(arm)


class Linkerd:
    """The dialect.

    Args:
        arms: which series are whose: alternatives with a label `backend_…` speak of routes, all others of endpoints.
        tellers: which place is believed, the most trusted first.
        grpc_failures: gRPC statuses that are errors at a route; see `grpc` for why these.
    """

    def __init__(
        self,
        arms: Resolver = arms_by_name,
        *,
        tellers: Sequence[str] = TELLERS,
        grpc_failures: Collection[int] = grpc.FAILURES,
    ) -> None:
        self._grpc_failures = frozenset(grpc.NAMES[code] for code in grpc_failures)
        self._language = reporters.Language(
            tellers=tuple(tellers), meaning=self._meaning, own=_OWN, outcome=_OUTCOME, arms=arms, unseen=_UNSEEN
        )

    @property
    def histograms(self) -> Mapping[str, Sequence[float]]:
        """See `Dialect.histograms`."""
        routes = {name.removesuffix("_bucket"): _SECONDS for name in sorted(_ROUTE_BUCKET)}
        return {**routes, _BUCKET.removesuffix("_bucket"): _MILLISECONDS}

    def metrics(self, *, latency: bool = True) -> tuple[str, ...]:
        """See `Dialect.metrics`."""
        counts = (*sorted(_ROUTE_ENDED), _ENDED, *sorted(_ROUTE_BEGUN), _BEGUN)
        return (*counts, *sorted(_ROUTE_BUCKET), _BUCKET) if latency else counts

    def selector(
        self, subjects: Sequence[Subject], window: float, *, latency: bool = True, strict: bool = False, name: str = ""
    ) -> str:
        """See `Dialect.selector`; always the subjects' own arms alone, as far as their selectors say."""
        del strict
        selectors = [one for subject in subjects for one in self._language.arms(subject).values()]
        alternatives = [each for one in selectors for each in one.alternatives]
        routes = [each for each in alternatives if _of_route(each)]
        endpoints = [each for each in alternatives if not _of_route(each)]
        # One place has none of the other's labels: an absent label matches the empty alternative.
        either = {**narrowed(routes), **narrowed(endpoints), "direction": "outbound"}
        patterns = {label: f"{pattern}|" for label, pattern in sorted(either.items())}
        return reporters.written({"__name__": named(self.metrics(latency=latency)), **patterns}, window, name)

    def newest(self, result: Matrix, subjects: Sequence[Subject]) -> list[Reading]:
        """See `Dialect.newest`."""
        return reporters.newest(self._language, result, subjects)

    def history(self, result: Matrix, subject: Subject) -> dict[str, list[SeriesSample]]:
        """See `Dialect.history`."""
        return reporters.history(self._language, result, subject)

    def _meaning(self, labels: Mapping[str, str]) -> reporters.Meaning | None:
        name = labels["__name__"]
        teller = ROUTE if name.startswith(_ROUTES) else ENDPOINT
        if teller not in self._language.tellers or (teller == ENDPOINT and labels.get("direction") != "outbound"):
            return None
        if name in _ROUTE_BUCKET or name == _BUCKET:
            bound = float(labels["le"]) / (1.0 if teller == ROUTE else 1000.0)
            return None if math.isnan(bound) else reporters.Meaning(teller, bound=bound)
        if name in _ROUTE_BEGUN or name == _BEGUN:
            return reporters.Meaning(teller, begun=True)
        failed: bool | None = None
        spoken = status = ""
        if name in _ROUTE_ENDED:
            failed = self._failed_at_route(labels)
            spoken, status = labels.get("grpc_status", ""), labels.get("http_status", "")
        elif name == _ENDED:
            failed = {"success": False, "failure": True}.get(labels.get("classification", ""))
            spoken, status = labels.get("grpc_status_code", ""), labels.get("status_code", "")
        if failed is None:
            return None
        client = not failed and (status.startswith("4") or spoken in _GRPC_CLIENT)
        return reporters.Meaning(teller, failed=failed, client=client)

    def _failed_at_route(self, labels: Mapping[str, str]) -> bool | None:
        if labels.get("error"):
            return True
        if spoken := labels.get("grpc_status"):
            return spoken in self._grpc_failures
        status = labels.get("http_status")
        return status.startswith("5") if status else None


def _of_route(alternative: Alternative) -> bool:
    return any(name.startswith("backend_") for name, _ in alternative)
