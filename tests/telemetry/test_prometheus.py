"""The Prometheus source: one raw query for all, honest about time, and errors that say what to do.

Against a real Prometheus where its binary is at hand (on PATH, or where `autopilot doctor` puts it), and always against
a stand-in that scrapes a real Envoy and answers selectors as Prometheus would.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.dialects.envoy import Envoy, parse_matrix, selector
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import HistorySource, Observation, QuerySource, Subject, TelemetryError, TelemetrySource
from autopilot.telemetry.prometheus.history import ticks
from autopilot.telemetry.prometheus.source import PrometheusSource
from autopilot.telemetry.ticks import HubTick
from tests.telemetry.conftest import Lab, free_ports
from tests.telemetry.running import running

REVIEWS = Subject(mesh="local", namespace="shop", service="reviews", arms=("v1", "v2"))
OTHER = Subject(mesh="local", namespace="shop-2", service="a.b", arms=("v1",))
LINE = re.compile(r"^(?P<name>\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)$")

Answer = Callable[[web.Request], Any]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[str, list[str]]]:
    """A server for `/api/v1/query`; yields its address and the queries it has met."""
    met: list[str] = []

    async def query(request: web.Request) -> web.Response:
        met.append(request.query["query"])
        found = answer(request)
        if asyncio.iscoroutine(found):
            found = await found
        if isinstance(found, web.Response):
            return found
        return web.json_response({"status": "success", "data": {"resultType": "?", "result": found}})

    application = web.Application()
    application.router.add_get("/api/v1/query", query)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", met
    finally:
        await runner.cleanup()


def matrix(exposition: str, query: str, at: float, instance: str) -> list[dict[str, Any]]:
    """What Prometheus would answer to a range selector, had it scraped this text at that time."""
    matchers = re.findall(r'(\w+)=~"((?:[^"\\]|\\.)*)"', query)
    found = []
    for line in exposition.splitlines():
        if (match := LINE.match(line)) is None:
            continue
        labels = dict(re.findall(r'(\w+)="([^"]*)"', match["labels"])) | {
            "__name__": match["name"],
            "instance": instance,
        }
        if all(re.fullmatch(json.loads(f'"{pattern}"'), labels.get(name, "")) for name, pattern in matchers):
            found.append({"metric": labels, "values": [[at - 5, "0"], [at, match["value"]]]})
    return found


def test_one_selector_for_all_subjects():
    text = selector([REVIEWS, OTHER], 14.2)
    assert text.endswith("}[15s]")
    assert 'envoy_cluster_name=~"outbound/(shop\\\\-2/a\\\\.b|shop/reviews)/[^/.]+"' in text
    assert 'envoy_response_code_class=~"4|5|"' in text


async def test_counters_are_those_envoy_gives_itself(envoy: Lab):
    """The same Envoy read both ways: directly, and as Prometheus scrapes it."""
    from autopilot.telemetry.envoy.stats import EnvoyStats  # noqa: PLC0415

    await envoy.get("/v1/flaky", 2)
    await envoy.get("/v1/fail", 1)
    await envoy.get("/v2/reset", 1)
    await asyncio.sleep(0.3)
    exposition = await envoy.metrics()
    assert "envoy_cluster_retry_upstream_rq_xx" in exposition
    direct = EnvoyStats({"web": envoy.admin})
    expected = {sample.arm: sample for sample in (await direct.observe([REVIEWS]))[0].samples}
    await direct.close()

    async with serving(lambda request: matrix(exposition, request.query["query"], 1000.5, "web:1")) as (url, met):
        source = PrometheusSource(url)
        assert isinstance(source, TelemetrySource)
        assert isinstance(source, QuerySource)
        found = await source.observe([REVIEWS, OTHER])
        await source.close()
    assert len(met) == 1
    assert [observation.subject for observation in found] == [REVIEWS, OTHER]
    assert found[1].samples == ()
    assert {sample.arm for sample in found[0].samples} == {"v1", "v2"}
    for sample in found[0].samples:
        assert sample.attempt == expected[sample.arm].attempt
        assert sample.user == expected[sample.arm].user
        assert (sample.begun, sample.active) == (expected[sample.arm].begun, expected[sample.arm].active)
        assert sample.begun
        assert (sample.time, sample.started) == (1000.5, None)
        assert sample.series == f"instance=web:1|outbound/shop/reviews/{sample.arm}"


def test_recorded_matrix_keeps_instances_apart():
    def entry(instance: str, name: str, value: str, at: float, **labels: str) -> dict[str, Any]:
        metric = {"__name__": name, "envoy_cluster_name": "outbound/shop/reviews/v1", "instance": instance, **labels}
        return {"metric": metric, "values": [[at - 1, "1"], [at, value]]}

    series = parse_matrix(
        [
            entry("a", "envoy_cluster_upstream_rq_completed", "10", 5.0),
            entry("a", "envoy_cluster_upstream_rq_xx", "4", 5.0, envoy_response_code_class="5"),
            entry("a", "envoy_cluster_upstream_rq_time_bucket", "9", 5.0, le="100"),
            entry("a", "envoy_cluster_upstream_rq_time_bucket", "10", 5.0, le="+Inf"),
            entry("b", "envoy_cluster_upstream_rq_completed", "20", 7.0),
        ]
    )
    assert set(series) == {("instance=a", "outbound/shop/reviews/v1"), ("instance=b", "outbound/shop/reviews/v1")}
    one = series["instance=a", "outbound/shop/reviews/v1"].sample("a", "c", "v1")
    assert (one.user.requests, one.user.errors, one.user.timed, one.user.buckets) == (10, 4, 10, ((0.1, 9.0),))
    assert one.time == 5


@pytest.mark.parametrize(
    ("result", "value"),
    [
        ([{"metric": {}, "value": [1, "0.25"]}], 0.25),
        ([1, "3"], 3.0),
        ([], None),
        ([{"metric": {}, "value": [1, "NaN"]}], None),
        ([{"metric": {}, "value": [1, "+Inf"]}], math.inf),
        ([{"metric": {}, "value": [1, "-Inf"]}], -math.inf),
        ([1, "+Inf"], math.inf),
    ],
)
async def test_query_gives_one_number_or_none(result: list[Any], value: float | None):
    async with serving(lambda _: result) as (url, met):
        source = PrometheusSource(url)
        assert await source.query("up") == value
        await source.close()
    assert met == ["up"]


async def test_several_series_ask_to_be_aggregated():
    result = [{"metric": {"a": str(i)}, "value": [1, "1"]} for i in range(2)]
    async with serving(lambda _: result) as (url, _):
        source = PrometheusSource(url)
        with pytest.raises(TelemetryError, match=r"one number for 'up' \(2 series\); aggregate it"):
            await source.query("up")
        await source.close()


async def test_errors_name_the_address_and_what_to_do():
    async def slow(_: web.Request) -> list[Any]:
        await asyncio.sleep(3)
        return []

    refused = web.json_response({"status": "error", "error": "parse error"}, status=400)
    cases: list[tuple[Answer, str]] = [
        (lambda _: refused, r"refused .*parse error.*check the query"),
        (lambda _: web.Response(text="<html>"), "gave no answer to a query; check that the address"),
        (lambda _: web.json_response({"unexpected": 1}), "gave no answer to a query"),
        (lambda _: {"a": 1}, "gave dict as a result; check that the address"),
        (lambda _: [{"metric": {}, "values": []}], "not in Prometheus' format"),
        (slow, "cannot be read: .*check that it runs"),
    ]
    for answer, pattern in cases:
        async with serving(answer) as (url, _):
            source = PrometheusSource(url, timeout=0.3)
            with pytest.raises(TelemetryError, match=pattern) as caught:
                await source.observe([REVIEWS])
            assert url.removeprefix("http://") in str(caught.value)
            await source.close()
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    source = PrometheusSource(nobody)
    with pytest.raises(TelemetryError, match="cannot be read"):
        await source.observe([REVIEWS])
    await source.close()


def test_the_client_is_not_loaded_before_it_is_needed():
    code = (
        "import sys, autopilot.telemetry.prometheus.source as p; p.PrometheusSource('http://x'); "
        "print('requests' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture
async def prometheus(envoy: Lab, tmp_path: Path) -> AsyncIterator[str]:
    """A real one that scrapes the real Envoy each second."""
    async with running(tmp_path, envoy.admin, path="/stats/prometheus", job="envoy") as url:
        yield url


async def test_a_real_prometheus(envoy: Lab, prometheus: str):
    source = PrometheusSource(prometheus)

    async def first() -> Observation:
        async with asyncio.timeout(15):
            while not (found := (await source.observe([REVIEWS]))[0]).samples:
                await asyncio.sleep(0.2)
            return found

    found = await first()
    assert {sample.arm for sample in found.samples} == {"v1", "v2"}
    assert all(abs(sample.time - time.time()) < 10 for sample in found.samples)
    async with (
        Hub(source) as hub,
        hub.subscribe(REVIEWS, canary="v2", stable="v1", boundaries=(0.1,), tick=0.5) as feed,
        asyncio.timeout(20),
    ):
        await anext(feed)
        await envoy.get("/v2/fail", 3)
        await envoy.get("/v1/flaky", 2)
        requests = errors = tries = 0.0
        gaps = 0
        while requests < 3 or tries < 4:
            item = await anext(feed)
            if isinstance(item, HubTick):
                requests += item.tick.canary.requests
                errors += item.tick.canary.errors
                tries += item.tick.stable.requests
            else:
                gaps += 1
        assert (requests, errors, tries) == (3, 3, 4)
        looks = await source.history(REVIEWS, 60)
        newest = max(sample.time for sample in (await source.observe([REVIEWS]))[0].samples)
        assert newest - 3 <= max(sample.time for look in looks for sample in look.samples) <= newest
        assert sum(tick.canary.errors for tick in ticks(Differencer("v2", "v1"), looks)) == 3
        total = await source.query('sum(envoy_cluster_upstream_rq_completed{envoy_cluster_name=~"outbound/.*"})')
        assert total is not None
        assert total >= 5
        assert await source.query("absent_metric") is None
        assert await source.query("0/0") is None
        assert await source.query("1/0") == math.inf
        with pytest.raises(TelemetryError, match="aggregate it"):
            await source.query("envoy_cluster_upstream_rq_completed")
        with pytest.raises(TelemetryError, match="check the query"):
            await source.query("sum(")


async def test_history_is_every_look_that_was_kept():
    """Two proxies, ten scrapes: one query for the arms alone, counters as they rose."""

    def entry(instance: str, name: str, rate: float, **labels: str) -> dict[str, Any]:
        metric = {"__name__": name, "envoy_cluster_name": "outbound/shop/reviews/v1", "instance": instance, **labels}
        shift = 0.25 if instance == "b" else 0.0
        return {"metric": metric, "values": [[at + shift, str(rate * at)] for at in range(10)]}

    result = [
        row
        for instance in ("a", "b")
        for row in (
            entry(instance, "envoy_cluster_upstream_rq_completed", 10),
            entry(instance, "envoy_cluster_upstream_rq_xx", 1, envoy_response_code_class="5"),
            entry(instance, "envoy_cluster_upstream_rq_time_bucket", 8, le="100"),
            entry(instance, "envoy_cluster_upstream_rq_time_bucket", 10, le="+Inf"),
        )
    ]
    result.append({**entry("a", "envoy_cluster_upstream_rq_completed", 5)})
    result[-1]["metric"]["envoy_cluster_name"] = "outbound/shop/reviews/other"
    async with serving(lambda _: result) as (url, met):
        source = PrometheusSource(url)
        assert isinstance(source, HistorySource)
        looks = await source.history(REVIEWS, 1800)
        await source.history(REVIEWS, 600, latency=False)
        await source.close()
    assert [len(look.samples) for look in looks] == [2] * 10
    last = {sample.series: sample for sample in looks[-1].samples}
    assert set(last) == {"instance=a|outbound/shop/reviews/v1", "instance=b|outbound/shop/reviews/v1"}
    one = last["instance=b|outbound/shop/reviews/v1"]
    assert (one.time, one.user.requests, one.user.errors, one.user.buckets) == (9.25, 90, 9, ((0.1, 72.0),))
    assert met[0].endswith("}[1800s]")
    assert 'envoy_cluster_name=~"outbound/shop/reviews/(v1|v2)"' in met[0]
    assert "bucket" in met[0]
    assert "bucket" not in met[1]


async def test_history_that_is_no_matrix_is_an_error_of_its_own():
    async with serving(lambda _: [{"metric": {}, "values": [[1, "x"]]}]) as (url, _):
        source = PrometheusSource(url)
        with pytest.raises(TelemetryError, match="not in Prometheus' format"):
            await source.history(REVIEWS, 60)
        await source.close()


async def test_clusters_are_called_what_whoever_drives_the_mesh_says():
    """Wire Envoy on Kubernetes: Istio's own names for clusters, for instance."""

    def cluster(subject: Subject, arm: str) -> str:
        return f"outbound|80|{arm}|{subject.service}.{subject.namespace}.svc.cluster.local"

    dialect = Envoy(cluster)
    query = dialect.selector([REVIEWS, OTHER], 15)
    pattern = re.search(r'envoy_cluster_name=~"([^"]*)"', query)
    assert pattern is not None
    for subject in (REVIEWS, OTHER):
        for arm in subject.arms:
            assert re.fullmatch(pattern[1].replace("\\\\", "\\"), cluster(subject, arm))
    result = [
        {
            "metric": {
                "__name__": "envoy_cluster_upstream_rq_completed",
                "envoy_cluster_name": cluster(REVIEWS, arm),
                "instance": "a",
            },
            "values": [[5, "7"]],
        }
        for arm in ("v2", "v3")
    ]
    first, second = dialect.newest(result, [REVIEWS, OTHER])
    assert [(sample.arm, sample.user.requests) for sample in first.samples] == [("v2", 7)]
    assert second.samples == ()
    assert [key.rpartition(".shop")[0] for key in dialect.history(result, REVIEWS)] == [
        "instance=a|outbound|80|v2|reviews"
    ]
