"""The arms' own proxies, read as a scrape would: what they say, what they do not, and when they are not asked."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
from aiohttp import web

from autopilot.telemetry.dialects.istio import Istio
from autopilot.telemetry.envoy import pod_stats
from autopilot.telemetry.envoy.pod_stats import PodStats, matrix_of
from autopilot.telemetry.model import Subject, TelemetryError

SUBJECT = Subject(mesh="lab", namespace="shop", service="reviews", arms=("v1", "v2"))
LABELS = (
    'reporter="destination",destination_workload="reviews-v2",destination_workload_namespace="shop",'
    'destination_service_name="reviews",destination_service_namespace="shop",request_protocol="http"'
)
SCRAPE = f"""\
# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{{envoy_cluster_name="x"}} NaN nonsense that nobody reads
# TYPE istio_requests_total counter
istio_requests_total{{{LABELS},response_code="200"}} 90
istio_requests_total{{{LABELS},response_code="500"}} 10
istio_request_duration_milliseconds_bucket{{{LABELS},response_code="200",le="100"}} 80
istio_request_duration_milliseconds_bucket{{{LABELS},response_code="200",le="+Inf"}} 100
"""


@pytest.fixture
async def pod(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=SCRAPE)

    application = web.Application()
    application.router.add_get(pod_stats.PATH, answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setattr(pod_stats, "PORT", runner.addresses[0][1])
    yield
    await runner.cleanup()


class Endpoints:
    """Where pods are, and whether anybody knows."""

    def __init__(self, **arms: Sequence[str]) -> None:
        self.arms: Mapping[str, Sequence[str]] = arms
        self.asked = 0
        self.fails = False

    async def __call__(self, _: Subject) -> Mapping[str, Sequence[str]]:
        self.asked += 1
        if self.fails:
            raise TelemetryError("the API server does not answer")
        return self.arms


async def test_what_the_pods_say_is_counted_and_who_is_silent_is_missing(pod: None) -> None:
    source = PodStats(Endpoints(v1=["127.0.0.2:8080"], v2=["127.0.0.1:8080"]), Istio())
    (seen,) = await source.observe([SUBJECT])
    (sample,) = seen.samples
    assert (sample.arm, sample.attempt.requests, sample.attempt.errors) == ("v2", 100, 10)
    assert sample.attempt.buckets[0] == (0.1, 80)
    assert "127.0.0.2" in seen.missing
    await source.close()


async def test_an_api_server_that_is_away_silences_no_pod(pod: None) -> None:
    now = [time.time()]
    endpoints = Endpoints(v2=["127.0.0.1:8080"])
    source = PodStats(endpoints, Istio(), clock=lambda: now[0])
    await source.observe([SUBJECT])
    await source.observe([SUBJECT])
    assert endpoints.asked == 1  # addresses are remembered for some seconds
    endpoints.fails, now[0] = True, now[0] + 60
    (seen,) = await source.observe([SUBJECT])
    assert len(seen.samples) == 1
    await source.close()


@pytest.mark.parametrize(
    ("endpoints", "said"),
    [(Endpoints(v1=[], v2=[]), "no pod of shop/reviews"), (Endpoints(v2=["10.0.0.1", "10.0.0.2"]), "maxProxies is 1")],
)
async def test_one_service_without_pods_or_with_too_many_is_silent_alone(endpoints: Endpoints, said: str) -> None:
    source = PodStats(endpoints, Istio(), most=1)
    (seen,) = await source.observe([SUBJECT])
    assert seen.samples == ()
    assert said in seen.missing["pods"]


def test_what_is_no_exposition_is_said() -> None:
    with pytest.raises(TelemetryError, match=r"10\.0\.0\.1 cannot be read"):
        matrix_of('istio_requests_total{a="b} x', "10.0.0.1", 1.0)
