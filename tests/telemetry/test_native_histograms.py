"""Native histograms are read where there are no classic ones, at the same bounds; as a real Prometheus answers too."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.dialects.istio import Istio
from autopilot.telemetry.dialects.linkerd import Linkerd
from autopilot.telemetry.prometheus.native_histograms import expanded
from autopilot.telemetry.prometheus.source import PrometheusSource
from autopilot.telemetry.ticks import HubTick
from tests.telemetry.running import running
from tests.telemetry.test_stores import REVIEWS, istio_series, recorded, store

DURATION = "istio_request_duration_milliseconds"


def sample(*buckets: tuple[int, str, str, str], count: str = "0") -> dict[str, Any]:
    return {"count": count, "sum": "1", "buckets": [list(each) for each in buckets]}


def at_bounds(histogram: dict[str, Any], *bounds: float) -> list[float]:
    entry = {"metric": {"__name__": "h", "pod": "a"}, "histograms": [[5, histogram]]}
    found = expanded([entry], {"h": bounds})
    assert [each["metric"]["le"] for each in found] == [*(f"{bound:g}" for bound in bounds), "+Inf"]
    assert {each["metric"]["__name__"] for each in found} == {"h_bucket"}
    return [float(each["values"][0][1]) for each in found]


def test_exact_where_a_bucket_ends_at_the_bound() -> None:
    """Classic buckets that were converted when they were scraped: empty ones are left out of the answer."""
    custom = sample((0, "-Inf", "5", "3"), (0, "25", "100", "4"), (0, "1000", "+Inf", "2"), count="9")
    assert at_bounds(custom, 5, 10, 25, 100, 500, 1000) == [3, 3, 3, 7, 7, 7, 9]


def test_within_a_bucket_requests_are_divided() -> None:
    # From 4 to 8: the middle by logarithm is 5.66; of a wide bucket from 10 to 110 it is 60.
    assert at_bounds(sample((0, "4", "8", "10"), count="10"), 4, 32**0.5, 8) == pytest.approx([0, 5, 10, 10])
    assert at_bounds(sample((0, "10", "110", "10"), count="10"), 10, 60, 110) == pytest.approx([0, 5, 10, 10])
    assert at_bounds(sample((3, "-0.001", "0.001", "7"), count="7"), 0.5) == [7, 7]
    assert at_bounds(sample((0, "100", "+Inf", "7"), count="7"), 100, 1e9) == [0, 0, 7]


def test_counts_never_fall_while_a_histogram_grows() -> None:
    less = sample((0, "4", "8", "10"), count="10")
    more = sample((0, "4", "8", "10"), (0, "8", "16", "1"), count="11")
    bounds = [1.0, 5.0, 7.0, 9.0, 20.0]
    assert all(a <= b for a, b in zip(at_bounds(less, *bounds), at_bounds(more, *bounds), strict=True))


@pytest.mark.parametrize("bad", [{"metric": {}}, {"metric": {"__name__": "h"}, "histograms": [[1, {}]]}, 3])
def test_what_is_no_histogram_is_an_error(bad: Any) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, IndexError)):
        expanded([bad], {"h": (1.0,)})


async def test_they_are_asked_for_where_there_are_no_classic_ones() -> None:
    def native(request: web.Request) -> web.Response:
        query = request.query["query"]
        if query.startswith(DURATION):
            return recorded("native_histogram.json")
        result = [] if query.startswith("istio_request_d") else istio_series("istio_requests_total")
        return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": result}})

    async with store(native) as (url, met):
        source = PrometheusSource(url, dialect=Istio())
        for _ in range(2):
            [seen] = await source.observe([REVIEWS])
        looks = await source.history(REVIEWS, 600)
        await source.close()
    (found,) = seen.samples
    within = dict(found.user.buckets)
    assert (found.time, found.user.requests, found.user.timed) == (100, 50, 50)
    assert (within[0.01], within[0.05], within[0.1], within[0.25], within[1.0]) == (1, 30, 40, 40, 50)
    assert 40 < within[0.5] < 50
    queries = [request.query["query"].partition("{")[0] for request in met]
    assert queries == ["", DURATION] * 3
    assert {request.query.get("time") for request in met if request.query["query"].startswith(DURATION)} == {"100.000"}
    assert [look.samples[0].user.timed for look in looks] == [30, 50]


async def test_a_mesh_without_any_histogram_is_not_asked_for_them_at_every_look() -> None:
    def none(request: web.Request) -> web.Response:
        result = istio_series("istio_requests_total") if "__name__" in request.query["query"] else []
        return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": result}})

    async with store(none) as (url, met):
        source = PrometheusSource(url, dialect=Istio())
        for _ in range(20):
            [seen] = await source.observe([REVIEWS])
        await source.close()
    assert seen.samples[0].user.requests == 50
    assert len(met) == 21


async def test_a_store_that_refuses_the_question_for_native_ones_still_counts_requests() -> None:
    def refusing(request: web.Request) -> web.Response:
        if request.query["query"].startswith(DURATION):
            return recorded("google_metric_name.json", 400)
        return web.json_response(
            {"status": "success", "data": {"resultType": "matrix", "result": istio_series("istio_requests_total")}}
        )

    async with store(refusing) as (url, _):
        source = PrometheusSource(url, dialect=Istio())
        [seen] = await source.observe([REVIEWS])
        await source.close()
    assert seen.samples[0].user.requests == 50


async def test_a_query_whose_result_is_a_histogram_says_what_to_take_of_it() -> None:
    body = {"resultType": "vector", "result": [{"metric": {}, "histogram": [1, sample(count="1")]}]}
    async with store(lambda _: web.json_response({"status": "success", "data": body})) as (url, _):
        source = PrometheusSource(url)
        with pytest.raises(Exception, match="a histogram; take histogram_quantile or histogram_count of it"):
            await source.query("h")
        await source.close()


def test_all_dialects_name_their_histograms() -> None:
    for dialect in (Istio(), Linkerd()):
        buckets = {name for name in dialect.metrics() if name.endswith("_bucket")}
        assert {f"{name}_bucket" for name in dialect.histograms} == buckets
        assert all(list(bounds) == sorted(bounds) for bounds in dialect.histograms.values())


# A real Prometheus, which takes native histograms in protocol buffers alone


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def part(field: int, value: bytes | str | float) -> bytes:
    """One field in the wire format of protocol buffers."""
    match value:
        case str():
            return part(field, value.encode())
        case bytes():
            return varint(field << 3 | 2) + varint(len(value)) + value
        case int():
            return varint(field << 3) + varint(value)
    return varint(field << 3 | 1) + struct.pack("<d", value)


def family(name: str, kind: int, labels: dict[str, str], metric: bytes) -> bytes:
    """A `MetricFamily` of one series, with its length before it."""
    pairs = b"".join(part(1, part(1, key) + part(2, value)) for key, value in labels.items())
    body = part(1, name) + part(2, "help") + part(3, kind) + part(4, pairs + metric)
    return varint(len(body)) + body


def exposition(fast: int, slow: int) -> bytes:
    """A counter of requests, and a histogram with schema 0: buckets (16, 32] and (256, 512]."""
    labels = {
        "reporter": "source", "destination_workload": "reviews-v1", "destination_service_namespace": "shop",
        "response_code": "200", "pod": "web-1",
    }  # fmt: skip
    spans = part(12, part(1, zigzag(5)) + part(2, 1)) + part(12, part(1, zigzag(3)) + part(2, 1))
    deltas = part(13, zigzag(fast)) + part(13, zigzag(slow - fast))
    histogram = part(1, fast + slow) + part(2, 100.0) + part(5, zigzag(0)) + part(6, 0.001) + part(7, 0)
    return family("istio_requests_total", 0, labels, part(3, part(1, float(fast + slow)))) + family(
        DURATION, 4, labels, part(7, histogram + spans + deltas)
    )


@asynccontextmanager
async def exposing() -> AsyncIterator[tuple[str, list[int]]]:
    """Something to scrape; yields its address, and its counts of fast and slow requests."""
    counts = [20, 5]

    async def metrics(_: web.Request) -> web.Response:
        kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
        return web.Response(body=exposition(*counts), headers={"content-type": kind})

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}", counts
    finally:
        await runner.cleanup()


async def test_a_real_prometheus_with_native_histograms(tmp_path: Path) -> None:
    async with (
        exposing() as (target, counts),
        running(
            tmp_path, target, path="/metrics", job="istio", arguments=("--enable-feature=native-histograms",)
        ) as url,
    ):
        source = PrometheusSource(url, dialect=Istio())
        differencer = Differencer("v2", "v1", (0.1,))
        async with asyncio.timeout(30):
            while not (seen := (await source.observe([REVIEWS]))[0]).samples or not seen.samples[0].user.timed:
                source._bare = 0
                await asyncio.sleep(0.2)
            assert (seen.samples[0].user.requests, dict(seen.samples[0].user.buckets)[0.1]) == (25, 20)
            differencer.fold(seen)
            counts[:] = [30, 25]
            while not isinstance(item := differencer.fold((await source.observe([REVIEWS]))[0]), HubTick) or (
                not item.tick.stable.requests
            ):
                await asyncio.sleep(0.2)
        await source.close()
    assert item.boundaries == (0.1,)
    assert (item.tick.stable.requests, item.tick.stable.timed, item.tick.stable.slow) == (30, 30, (20,))


def test_the_recorded_answer_is_what_a_range_selector_gives() -> None:
    path = Path(__file__).parent / "recorded" / "stores" / "native_histogram.json"
    (entry,) = json.loads(path.read_text())["data"]["result"]
    assert "values" not in entry
