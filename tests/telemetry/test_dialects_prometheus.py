"""Istio's and Linkerd's dialects before a real Prometheus: it takes the selector, and what it kept is read back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from autopilot.mesh.model import baseline_of
from autopilot.telemetry.dialects.dialect import Dialect
from autopilot.telemetry.dialects.istio import Istio
from autopilot.telemetry.dialects.linkerd import Linkerd
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import Observation, Subject
from autopilot.telemetry.prometheus.source import PrometheusSource
from tests.telemetry.fakes import REVIEWS
from tests.telemetry.meshes import (
    ROUTE_BEGUN,
    ROUTE_BUCKET,
    Series,
    endpoint,
    exposition,
    istio,
    istio_bucket,
    route,
)
from tests.telemetry.running import running

STRANGERS = [
    istio("v1", 77, namespace="bank"),
    endpoint("v1", 77, direction="inbound"),
    route("v1", 77, backend_name="x"),
]


def istio_series(failures: float) -> list[Series]:
    return [
        istio("v1", 50),
        istio("v1", 48, reporter="destination", pod="reviews-1"),
        istio_bucket("v1", "100", 45),
        istio_bucket("v1", "+Inf", 50),
        *([istio("v2", failures, code="503", response_flags="UF", destination_version="unknown")] if failures else ()),
    ]


def linkerd_series(failures: float) -> list[Series]:
    return [
        route("v1", 50),
        route("v1", 50, name=ROUTE_BEGUN),
        route("v1", 45, name=ROUTE_BUCKET, le="0.1"),
        route("v1", 50, name=ROUTE_BUCKET, le="+Inf"),
        endpoint("v1", 48),
        *([route("v2", failures, status="", error="FAIL_FAST")] if failures else ()),
    ]


@asynccontextmanager
async def exporter(shown: list[Series]) -> AsyncIterator[str]:
    """Shows whatever is in the list at the moment."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=exposition([*shown, *STRANGERS]))

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("dialect", "write", "teller"),
    [
        pytest.param(Istio(), istio_series, "source", id="istio"),
        pytest.param(Linkerd(), linkerd_series, "route", id="linkerd"),
    ],
)
async def test_read_back(dialect: Dialect, write: object, teller: str, tmp_path: Path):
    assert callable(write)
    shown: list[Series] = list(write(0))
    async with exporter(shown) as target, running(tmp_path, target, path="/metrics", job="mesh") as url:
        source = PrometheusSource(url, dialect=dialect)

        async def learnt() -> Observation:
            async with asyncio.timeout(20):
                while True:
                    (found,) = await source.observe([REVIEWS])
                    if found.samples and source.interval is not None:
                        return found
                    await asyncio.sleep(0.2)

        (sample,) = (await learnt()).samples
        assert (sample.arm, sample.told_by) == ("v1", teller)
        assert (sample.user.requests, sample.user.errors) == (50, 0)
        assert (sample.user.timed, sample.user.buckets) == (50, ((0.1, 45.0),))
        assert abs(sample.time - time.time()) < 10
        assert source.interval == pytest.approx(1, abs=0.2)
        assert source.window == 15

        async with (
            Hub(source) as hub,
            hub.subscribe(REVIEWS, canary="v2", stable="v1", boundaries=(0.1,), tick=0.5) as feed,
            asyncio.timeout(20),
        ):
            await anext(feed)
            shown[:] = write(7)  # series that were not there: the version's first requests, all failed
            while not (tick := getattr(await anext(feed), "tick", None)) or not tick.canary.requests:
                pass
            assert (tick.canary.requests, tick.canary.errors) == (7, 7)
            looks = await source.history(REVIEWS, 60)
            assert {(one.arm, one.user.requests) for one in looks[-1].samples} == {("v1", 50), ("v2", 7)}
            bare = await source.history(REVIEWS, 60, latency=False)
            assert not any(one.user.timed for look in bare for one in look.samples)


@pytest.mark.parametrize("dialect", [Istio(), Linkerd()])
async def test_names_of_all_kinds_and_many_subjects(dialect: Dialect, tmp_path: Path):
    odd = Subject("m", "a-b", "c--d", ("v1", baseline_of("v1"), "0.x|y", 'q"\\'))
    many = [odd, *(Subject("m", "n" * 63, f"s-{number}-{'x' * 50}", ("v1", "v2")) for number in range(100))]
    async with running(tmp_path, "127.0.0.1:1", path="/", job="none") as url:
        source = PrometheusSource(url, dialect=dialect)
        assert [found.samples for found in await source.observe(many)] == [()] * len(many)
        assert await source.history(odd, 1800) == []
        await source.close()
