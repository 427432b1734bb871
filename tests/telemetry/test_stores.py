"""Stores other than a plain Prometheus: half an answer is none, and a refusal says what to do.

What they answer is in `recorded/stores`.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from autopilot.telemetry.dialects.dialect import Dialect
from autopilot.telemetry.dialects.envoy import Envoy
from autopilot.telemetry.dialects.istio import Istio
from autopilot.telemetry.dialects.linkerd import Linkerd
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import Subject, TelemetryError
from autopilot.telemetry.prometheus.source import PrometheusSource
from autopilot.telemetry.ticks import Gap

RECORDED = Path(__file__).parent / "recorded" / "stores"
REVIEWS = Subject(mesh="local", namespace="shop", service="reviews", arms=("v1", "v2"))


def recorded(name: str, status: int = 200) -> web.Response:
    kind = "application/json" if name.endswith(".json") else "text/plain"
    return web.Response(text=(RECORDED / name).read_text(), status=status, content_type=kind)


@asynccontextmanager
async def store(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A store; yields its address and the requests it has met."""
    met: list[web.Request] = []

    async def query(request: web.Request) -> web.Response:
        met.append(request)
        return answer(request)

    application = web.Application()
    application.router.add_get("/{path:.*}", query)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", met
    finally:
        await runner.cleanup()


async def asked(name: str, status: int = 200, query: str = "sum(failures)") -> float | None:
    async with store(lambda _: recorded(name, status)) as (url, _):
        source = PrometheusSource(url)
        try:
            return await source.query(query)
        finally:
            await source.close()


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("thanos_partial.json", "receive series from Addr: thanos-store-1.monitoring:10901"),
        ("prometheus_remote_read.json", "remote_read: error sending request"),
        ("victoriametrics_partial.json", "isPartial: true"),
    ],
)
async def test_half_an_answer_is_none_and_its_warning_is_quoted(name: str, quoted: str) -> None:
    with pytest.raises(TelemetryError, match="answered with a warning, so the answer may lack data") as caught:
        await asked(name)
    assert quoted in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["prometheus_info.json", "prometheus_info_as_warning.json"])
async def test_what_prometheus_remarks_on_an_expression_takes_nothing_from_the_answer(name: str) -> None:
    assert await asked(name) == 0.25


async def test_a_watch_sees_a_gap_that_quotes_the_warning() -> None:
    async with (
        store(lambda _: recorded("thanos_partial.json")) as (url, met),
        Hub(PrometheusSource(url)) as hub,
        hub.subscribe(REVIEWS, canary="v2", stable="v1", tick=0.5) as feed,
    ):
        item = await anext(feed)
    assert isinstance(item, Gap)
    assert "thanos-store-1" in item.reason
    assert met[0].query["partial_response"] == "false"


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("thanos_abort.json", 422, r"could not evaluate .*thanos-store-1.*check the query, and the store's health"),
        ("mimir_limit.json", 422, "err-mimir-max-chunks-per-query"),
        ("mimir_no_tenant.txt", 401, r"answered 401 \(no org id\): it wants credentials or a tenant.*spec.prometheus"),
        ("mimir_no_tenant.txt", 429, r"limits queries: 429 .*analysis.tick"),
        ("mimir_no_tenant.txt", 404, "has no query API: 404 .*check that the address is a Prometheus' base URL"),
        ("mimir_no_tenant.txt", 503, "could not answer: 503 .*check the store"),
    ],
)
async def test_a_refusal_says_what_to_do(name: str, status: int, said: str) -> None:
    with pytest.raises(TelemetryError, match=said):
        await asked(name, status)


async def test_a_parameter_that_a_store_refuses_is_left_out_from_then_on() -> None:
    def google(request: web.Request) -> web.Response:
        if "partial_response" in request.query:
            return recorded("google_parameter.json", 400)
        return recorded("prometheus_info.json")

    async with store(google) as (url, met):
        source = PrometheusSource(url)
        assert await source.query("a") == 0.25
        assert await source.query("b") == 0.25
        await source.close()
    assert [request.query["query"] for request in met] == ["a", "a", "b"]
    assert "timeout" in met[-1].query


async def test_a_redirection_is_not_followed() -> None:
    there: list[web.Request] = []

    def login(request: web.Request) -> web.Response:
        if request.path == "/login":
            there.append(request)
        return web.Response(status=302, headers={"location": "/login"})

    async with store(login) as (url, _):
        source = PrometheusSource(url)
        with pytest.raises(TelemetryError, match="redirects to /login, which is not followed"):
            await source.query("up")
        await source.close()
    assert not there


def test_the_recorded_answers_are_json() -> None:
    for path in RECORDED.glob("*.json"):
        json.loads(path.read_text())


# Stores that take no pattern for metric names


def exact(series: Callable[[str], list[dict[str, object]]]) -> Callable[[web.Request], web.Response]:
    """Google's rule: a metric's name must be there, and be no pattern."""

    def answer(request: web.Request) -> web.Response:
        query = request.query["query"]
        if "__name__" in query:
            return recorded("google_metric_name.json", 400)
        return web.json_response(
            {"status": "success", "data": {"resultType": "matrix", "result": series(query.partition("{")[0])}}
        )

    return answer


def istio_series(name: str) -> list[dict[str, object]]:
    labels = {
        "__name__": name, "reporter": "source", "pod": "web-1", "destination_workload": "reviews-v1",
        "destination_service_namespace": "shop",
    }  # fmt: skip
    if name == "istio_requests_total":
        return [{"metric": {**labels, "response_code": "200"}, "values": [[95, "40"], [100, "50"]]}]
    if name == "istio_request_duration_milliseconds_bucket":
        return [{"metric": {**labels, "response_code": "200", "le": "100"}, "values": [[95, "30"], [100, "45"]]}]
    return []


async def test_a_store_that_takes_no_pattern_for_names_is_asked_by_name_from_then_on() -> None:
    async with store(exact(istio_series)) as (url, met):
        source = PrometheusSource(url, dialect=Istio())
        for _ in range(2):
            [seen] = await source.observe([REVIEWS])
            (sample,) = seen.samples
            assert (sample.time, sample.user.requests, sample.user.buckets) == (100, 50, ((0.1, 45.0),))
        await source.history(REVIEWS, 600, latency=False)
        await source.close()
    names = [request.query["query"].partition("{")[0] for request in met]
    both = ["istio_requests_total", "istio_request_duration_milliseconds_bucket"]
    assert names == ["", *both, *both, "istio_requests_total"]


async def test_by_name_all_metrics_are_asked_as_of_one_moment() -> None:
    """A scrape between two of the queries would show failures without their requests."""
    async with store(exact(istio_series)) as (url, met):
        source = PrometheusSource(url, dialect=Istio(), by_name=True)
        await source.observe([REVIEWS])
        await source.close()
    assert [request.query.get("time") for request in met] == [None, "100.000"]


async def test_by_name_nothing_is_taken_for_newborn_because_others_reach_further_back() -> None:
    """The later answers are as of an earlier moment, so they begin earlier; the first has lost that scrape already."""

    def series(name: str) -> list[dict[str, object]]:
        (found,) = istio_series(name)
        if name.endswith("_bucket"):
            found["values"] = [[90, "25"], [95, "30"], [100, "45"]]
        else:
            # Another arm at the same proxy, of which there is no histogram.
            labels = {**found["metric"], "destination_workload": "reviews-v2"}  # type: ignore[dict-item]
            return [found, {"metric": labels, "values": [[95, "1000"], [100, "1001"]]}]
        return [found]

    async with store(exact(series)) as (url, _):
        source = PrometheusSource(url, dialect=Istio(), by_name=True)
        [seen] = await source.observe([REVIEWS])
        await source.close()
    assert {sample.arm: sample.started for sample in seen.samples} == {"v1": None, "v2": None}


@pytest.mark.parametrize("dialect", [Istio(), Linkerd(), Envoy()], ids=lambda each: type(each).__name__)
def test_by_name_the_same_series_are_asked_for(dialect: Dialect) -> None:
    union = dialect.selector([REVIEWS], 15, latency=True)
    names = re.findall(r'__name__=~"([^"]*)"', union)[0].split("|")
    assert sorted(dialect.metrics()) == sorted(names)
    for name in names:
        one = dialect.selector([REVIEWS], 15, name=name)
        assert one.startswith(f"{name}{{")
        assert "__name__" not in one
        assert one.partition("{")[2] == re.sub(r'__name__=~"[^"]*",', "", union).partition("{")[2]
    assert set(dialect.metrics(latency=False)) == {name for name in names if "bucket" not in name}


async def test_a_refusal_that_names_do_not_cure_is_told_as_it_was() -> None:
    def limited(request: web.Request) -> web.Response:
        return recorded("mimir_limit.json", 422)

    async with store(limited) as (url, met):
        source = PrometheusSource(url)
        with pytest.raises(TelemetryError, match=r"could not evaluate '\{__name__=~.*err-mimir-max-chunks"):
            await source.observe([REVIEWS])
        await source.close()
    assert len(met) == 2
