"""Outcomes beside errors: client errors, and callers that left; from the words of a mesh to the verdict."""

from __future__ import annotations

from typing import Any

import pytest

from autopilot.evidence import canary
from autopilot.evidence.configuration import judge_from
from autopilot.evidence.model import Advance, Harm, StepRule, Verdict
from autopilot.spec.canary import Analysis
from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.dialects.dialect import Dialect
from autopilot.telemetry.dialects.envoy import Envoy
from autopilot.telemetry.dialects.envoy_names import views
from autopilot.telemetry.dialects.istio import Istio
from autopilot.telemetry.dialects.linkerd import Linkerd
from autopilot.telemetry.model import Counters, Observation
from autopilot.telemetry.ticks import HubTick
from tests.telemetry.fakes import REVIEWS
from tests.telemetry.meshes import Series, endpoint, istio, matrix, route


def counted(dialect: Dialect, series: list[Series]) -> Counters:
    """What one look says of v2."""
    (reading,) = dialect.newest(matrix(series), [REVIEWS])
    (sample,) = (sample for sample in reading.samples if sample.arm == "v2")
    return sample.attempt


GRPC = {"request_protocol": "grpc", "code": "200"}


@pytest.mark.parametrize(
    ("labels", "client", "errors", "aborts"),
    [
        ({"code": "200"}, 0, 0, 0),
        ({"code": "401"}, 1, 0, 0),
        ({"code": "404", "response_flags": "NR"}, 1, 0, 0),
        ({"code": "503", "response_flags": "UF"}, 0, 1, 0),
        ({"code": "0", "response_flags": "DC"}, 0, 1, 1),
        ({"code": "0", "response_flags": "UC,DC"}, 0, 1, 1),
        ({"code": "0", "response_flags": "UC"}, 0, 1, 0),
        ({"code": "200", "response_flags": "DC"}, 0, 0, 0),  # its answer had begun
        ({**GRPC, "grpc_response_status": "16"}, 1, 0, 0),
        ({**GRPC, "grpc_response_status": "1"}, 0, 0, 0),  # the caller cancelled it
        ({**GRPC, "grpc_response_status": "14"}, 0, 1, 0),
    ],
)
def test_outcomes_of_istio(labels: dict[str, str], client: int, errors: int, aborts: int) -> None:
    found = counted(Istio(), [istio("v2", 7, **labels)])
    assert (found.requests, found.client_errors, found.errors, found.aborts) == (7, 7 * client, 7 * errors, 7 * aborts)


@pytest.mark.parametrize(
    ("series", "client"),
    [
        (route("v2", 7, status="403"), 7),
        (route("v2", 7, status="", error="REQUEST_TIMEOUT"), 0),
        (route("v2", 7, status="200", grpc_status="NOT_FOUND"), 7),
        (endpoint("v2", 7, status_code="404"), 7),
        (endpoint("v2", 7, status_code="200", grpc_status_code="16"), 7),
        (endpoint("v2", 7, status_code="200"), 0),
    ],
)
def test_client_errors_of_linkerd(series: Series, client: int) -> None:
    assert counted(Linkerd(), [series]).client_errors == client


def test_client_errors_of_envoys_own_counters() -> None:
    """Retried ones count in the attempt view alone; a class that was never counted is nought."""
    values = {"upstream_rq_completed": 9.0, "upstream_rq_4xx": 4.0, "retry.upstream_rq_4xx": 2.0}
    attempt, user = views(values, (), 0.0)
    assert (attempt.client_errors, user.client_errors) == (6, 4)
    assert views({"upstream_rq_completed": 9.0}, (), 0.0)[0].client_errors == 0
    cluster = {"envoy_cluster_name": "outbound/shop/reviews/v2", "instance": "web:9901"}
    scraped = [
        ({"__name__": "envoy_cluster_upstream_rq_completed", **cluster}, 9.0),
        *(
            ({"__name__": "envoy_cluster_upstream_rq_xx", "envoy_response_code_class": found, **cluster}, value)
            for found, value in (("2", 3.0), ("4", 4.0), ("5", 2.0))
        ),
    ]
    found = counted(Envoy(), scraped)
    assert (found.requests, found.client_errors, found.errors) == (9, 4, 2)


def judged(*canary_ends: tuple[float, dict[str, str]], **analysis: Any) -> Verdict | None:
    """90 requests/s of v1 that go well, and so many of v2 with each of these ends, scraped by Istio's Prometheus."""
    asked = Analysis.model_validate({"warmup": 0, "metrics": [{"type": "errorRate"}], **analysis})
    judge, hub = judge_from(asked), Differencer("v2", "v1")
    state = canary.start(judge)
    for at in range(0, 400, 5):
        ends = [istio("v2", 100 + rate * at, **labels) for rate, labels in canary_ends]
        (reading,) = Istio().newest(matrix([istio("v1", 900 + 90 * at), *ends], at=1000.0 + at), [REVIEWS])
        item = hub.fold(Observation(subject=REVIEWS, time=1000.0 + at, samples=reading.samples))
        if not isinstance(item, HubTick):
            continue
        rule = StepRule(hold=60, min_requests=100, limit=600)
        state, verdict = canary.update(judge, rule, state, item.tick)
        if verdict is not None:
            return verdict
    return None


def test_a_version_that_lost_its_sign_in_is_no_good_version() -> None:
    verdict = judged((10, {"code": "401"}))
    assert isinstance(verdict, Harm)
    assert verdict.metric == "client-errors"
    assert isinstance(judged((10, {"code": "200"})), Advance)


def test_an_event_stream_that_browsers_close() -> None:
    closed = ((9, {"code": "200"}), (1, {"code": "0", "response_flags": "DC"}))
    verdict = judged(*closed)
    assert isinstance(verdict, Harm)
    assert "10 of 10 failures so far are callers that left (DC)" in verdict.reason
    assert isinstance(judged(*closed, errors={"callerAborts": "ignore"}), Advance)
