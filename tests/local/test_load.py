from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from autopilot.local.load import Latencies, Load, NotLoopback, check_loopback

Client = TestClient[web.Request, web.Application]
Handler = Callable[[web.Request], object]


async def wait_for(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def generating(handler: Handler, **settings: object) -> AsyncIterator[tuple[Load, Client]]:
    served = web.Application()
    served.router.add_get("/", handler)  # type: ignore[arg-type]
    async with TestServer(served) as target:
        load = Load(url=str(target.make_url("/")), **settings)  # type: ignore[arg-type]
        async with TestClient(TestServer(load.application())) as client:
            yield load, client


async def fine(_: web.Request) -> web.Response:
    return web.Response()


@pytest.mark.parametrize(
    "url", ["http://example.org/", "http://10.0.0.1/", "https://127.0.0.1/", "127.0.0.1", "http://"]
)
def test_load_goes_nowhere_else(url: str) -> None:
    with pytest.raises(NotLoopback):
        check_loopback(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:80/", "http://localhost:1", "http://[::1]:80/"])
def test_load_goes_to_this_machine(url: str) -> None:
    assert check_loopback(url) == url


@pytest.mark.parametrize("arrivals", ["poisson", "uniform"])
async def test_requests_leave_at_the_rate(arrivals: str) -> None:
    began = asyncio.get_running_loop().time()
    async with generating(fine, rate=400, arrivals=arrivals) as (load, client):
        await wait_for(lambda: load.requests >= 400)
        took = asyncio.get_running_loop().time() - began
        counts = await (await client.get("/counts")).json()
    assert 0.7 < took < 4
    assert counts["failures"] == counts["dropped"] == 0
    assert counts["statuses"] == {"200": counts["requests"]}
    assert 0 < counts["latency_ms"]["p50"] <= counts["latency_ms"]["p99"]


async def test_the_schedule_does_not_wait_for_answers() -> None:
    async def never(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with generating(never, rate=200, timeout=0.3, outstanding_limit=30) as (load, _):
        await wait_for(lambda: load.dropped > 20 and load.failures >= 30)
        assert 0 < len(load._under_way) <= 30
        assert load.statuses == {"timeout": load.failures}
        assert load.requests == load.failures


async def test_failures_are_server_errors_and_lost_connections_not_refusals() -> None:
    statuses = iter([200, 404, 429, 500, 503])

    async def varied(request: web.Request) -> web.Response:
        status = next(statuses, None)
        if status is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(status=status)

    async with generating(varied, rate=50, arrivals="uniform") as (load, _):
        await wait_for(lambda: load.statuses["connection"] >= 1)
        assert load.failures == 2 + load.statuses["connection"]
        assert {"200", "404", "429", "500", "503"} <= set(load.statuses)


async def test_the_rate_changes_at_once_even_from_a_slow_one() -> None:
    async with generating(fine, rate=0.01) as (load, client):
        assert load.requests == 0
        await client.post("/rate", json={"rate": 200})
        await wait_for(lambda: load.requests >= 20)
        await client.post("/rate", json={"rate": 0})
        await wait_for(lambda: not load.counts()["outstanding"])
        sent = load.sent
        await asyncio.sleep(0.1)
        assert load.sent <= sent + 1
        refused: tuple[object, ...] = ({"rate": -1}, {"rate": "fast"}, {}, [], {"rate": 1e9})
        for wrong in refused:
            assert (await client.post("/rate", json=wrong)).status == 400
        assert load.rate == 0


def test_quantiles_are_right_to_five_percent() -> None:
    latencies = Latencies()
    assert latencies.quantile(0.5) is None
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    assert latencies.quantile(0.5) == pytest.approx(0.5, rel=0.06)
    assert latencies.quantile(0.99) == pytest.approx(0.99, rel=0.06)
