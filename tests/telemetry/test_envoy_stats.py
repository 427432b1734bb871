"""What Envoy says, read from recorded answers of Envoy 1.40 and from one that runs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from autopilot.telemetry.dialects.envoy_names import cluster_pattern, views
from autopilot.telemetry.envoy.stats import EnvoyStats, parse_stats
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import Counters, Door, Observation, Subject, TelemetryError, TelemetrySource
from autopilot.telemetry.ticks import HubTick
from tests.telemetry.conftest import Lab, free_ports

RECORDED = Path(__file__).parent / "recorded"
REVIEWS = Subject(mesh="local", namespace="shop", service="reviews", arms=("v1", "v2"))
DEAD = Subject(mesh="local", namespace="shop", service="reviews", arms=("dead",))


def test_recorded_answer():
    """4 saved by a retry, 3 failed and retried twice, 1 reset and 1 hung, as Envoy counted them."""
    stats = parse_stats((RECORDED / "envoy_stats.json").read_text())
    assert set(stats) == {"outbound/shop/reviews/v1", "outbound/shop/reviews/dead"}
    v1 = stats["outbound/shop/reviews/v1"]
    assert v1.buckets[0] == (0.0005, 0)
    assert (0.005, 2) in v1.buckets
    assert v1.buckets[-1] == (3600, 7)
    attempt, user = views(v1.values, v1.buckets, 7)
    assert (attempt.requests, attempt.errors) == (21, 17)
    assert (user.requests, user.errors, user.timed) == (9, 5, 7)
    attempt, user = views(stats["outbound/shop/reviews/dead"].values, (), 0)
    assert (attempt.requests, attempt.errors, user.requests, user.errors) == (5, 5, 3, 3)


def test_a_retry_for_something_else_than_a_5xx_is_no_error():
    values = {"upstream_rq_completed": 5.0, "upstream_rq_retry": 3.0, "retry.upstream_rq_completed": 3.0}
    attempt, _ = views(values, (), 0)
    assert attempt == Counters(requests=8, errors=0, client_errors=0)


def test_many_subjects_do_not_make_an_endless_url():
    few = [Subject("m", "shop", f"service-{i}", ("v1",)) for i in range(3)]
    many = [Subject("m", "shop", f"service-{i}", ("v1",)) for i in range(500)]
    assert "service\\-2" in cluster_pattern(few)
    assert len(cluster_pattern(many)) < 100


async def observe(source: EnvoyStats, *subjects: Subject) -> list[Observation]:
    async with asyncio.timeout(10):
        return await source.observe(subjects)


async def test_real_envoy_counts_attempts_and_users_apart(envoy: Lab):
    source = EnvoyStats({"web": envoy.admin})
    assert isinstance(source, TelemetrySource)
    async with (
        Hub(source) as hub,
        hub.subscribe(REVIEWS, canary="v2", stable="v1", boundaries=(0.1,), tick=0.5) as feed,
    ):
        async with asyncio.timeout(10):
            await anext(feed)
            assert set(await envoy.get("/v1/flaky", 4)) == {200}
            assert set(await envoy.get("/v1/fail", 2)) == {500}
            assert set(await envoy.get("/v2/fail", 3)) == {500}
            assert set(await envoy.get("/v2/reset", 2)) == {503}
            assert set(await envoy.get("/v2/slow", 2)) == {200}
            assert set(await envoy.get("/v2/ok", 3)) == {200}
            found: list[HubTick] = []
            while sum(item.tick.canary.timed for item in found) < 8 or len(found) < 2:
                item = await anext(feed)
                assert isinstance(item, HubTick)
                found.append(item)
    canary, stable = [item.tick.canary for item in found], [item.tick.stable for item in found]
    # Each reset is one request that failed, though Envoy made up the 503 itself.
    assert (sum(arm.requests for arm in canary), sum(arm.errors for arm in canary)) == (10, 5)
    # Four saved at the second try, two that failed three times.
    assert (sum(arm.requests for arm in stable), sum(arm.errors for arm in stable)) == (8 + 6, 4 + 6)
    assert sum(item.users for item in found) == 10 + 6
    assert (sum(i.exposure.requests for i in found), sum(i.exposure.failures for i in found)) == (10, 5)
    # Histograms hold what was answered: eight of ten, of which two took longer.
    assert (sum(arm.timed for arm in canary), sum(arm.slow[0] for arm in canary)) == (8, 2)
    assert found[-1].boundaries == (0.1,)


async def test_real_envoy_refused_connections_count_once(envoy: Lab):
    source = EnvoyStats({"web": envoy.admin})
    before = (await observe(source, DEAD))[0].samples[0]
    await envoy.get("/dead", 3)
    await envoy.get("/again", 2)
    after = (await observe(source, DEAD))[0].samples[0]
    await source.close()
    assert after.user.requests - before.user.requests == 5
    assert after.user.errors - before.user.errors == 5
    assert after.attempt.requests - before.attempt.requests == 7
    assert after.attempt.errors - before.attempt.errors == 7
    assert after.series == "web|outbound/shop/reviews/dead"
    assert after.started == pytest.approx(before.started, abs=1.5)
    assert after.time > before.time


async def test_one_that_is_down_does_not_silence_the_others(envoy: Lab):
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    source = EnvoyStats({"web": envoy.admin, "gone": nobody})
    found = (await observe(source, REVIEWS))[0]
    await source.close()
    assert {sample.arm for sample in found.samples} == {"v1", "v2"}
    assert list(found.missing) == ["gone"]
    assert nobody in found.missing["gone"]


async def test_all_down_is_an_error_that_names_them():
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    source = EnvoyStats({"web": nobody})
    with pytest.raises(TelemetryError, match=f"web: {nobody} cannot be read"):
        await observe(source, REVIEWS)
    await source.close()
    with pytest.raises(TelemetryError, match="no Envoy with an admin address is known"):
        await observe(EnvoyStats({}), REVIEWS)


async def test_answers_that_are_late_or_strange_are_missing():
    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async def strange(_: web.Request) -> web.Response:
        return web.Response(text="<html>not Envoy</html>")

    async def other(_: web.Request) -> web.Response:
        return web.Response(text=json.dumps({"stats": [{"name": "cluster.other.upstream_rq_completed", "value": 1}]}))

    runners, addresses = [], []
    for handler in (hang, strange, other):
        application = web.Application()
        application.router.add_get("/{path:.*}", handler)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        addresses.append(f"127.0.0.1:{runner.addresses[0][1]}")
    source = EnvoyStats(dict(zip(("hangs", "strange", "other"), addresses, strict=True)), timeout=0.3)
    found = (await observe(source, REVIEWS))[0]
    await source.close()
    for runner in runners:
        await runner.cleanup()
    assert found.samples == ()
    assert "did not answer within 0.3 s" in found.missing["hangs"]
    assert "not in Envoy's format" in found.missing["strange"]
    assert "other" not in found.missing


@asynccontextmanager
async def admin(stats: dict[str, float]) -> AsyncIterator[str]:
    """An admin interface that gives these stats, as far as they match what is asked for."""

    async def answer(request: web.Request) -> web.Response:
        pattern = re.compile(request.query["filter"])
        found = [{"name": name, "value": value} for name, value in stats.items() if pattern.search(name)]
        return web.json_response({"stats": found})

    async def info(_: web.Request) -> web.Response:
        return web.json_response({"uptime_all_epochs": "100s"})

    application = web.Application()
    application.router.add_get("/stats", answer)
    application.router.add_get("/server_info", info)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


CALLS = {
    "cluster.outbound/shop/reviews/v2.upstream_rq_completed": 9,
    "cluster.outbound/shop/reviews/v2.upstream_rq_total": 10,
    "cluster.outbound/shop/reviews/v2.upstream_rq_cancelled": 5,
    "cluster.outbound/shop/reviews/v2~baseline.upstream_rq_total": 3,
    "cluster.outbound/shop/reviews/v1.upstream_rq_total": 90,
}
TAKES = {
    "cluster.inbound/in.upstream_rq_total": 40,
    "cluster.inbound/in.upstream_rq_pending_active": 2,
    "cluster.inbound/in.upstream_rq_completed": 7,
    "cluster.inbound/other.upstream_rq_total": 1000,
}
DOOR = Door(
    clusters=frozenset({"outbound/shop/reviews/v2", "outbound/shop/reviews/v2~baseline"}),
    sidecars=frozenset({("reviews-v2", "inbound/in")}),
)


async def test_both_ends_of_the_way_to_an_arm_are_counted():
    async with admin(CALLS) as caller, admin(TAKES) as sidecar:
        doors = {("shop/reviews", "v2"): DOOR}
        source = EnvoyStats({"web": caller}, doors=doors, sidecars={"reviews-v2": sidecar, "ratings": "127.0.0.1:1"})
        (observation,) = await source.observe([REVIEWS])
        await source.close()
    (found,) = observation.arrivals
    assert (found.arm, found.received, found.sent) == ("v2", {"reviews-v2": 42}, {"web": 13})
    assert set(found.started) == {"web", "reviews-v2"}
    assert 0 <= found.skew < 1
    assert [sample.series for sample in observation.samples] == ["web|outbound/shop/reviews/v2"]


async def test_an_arm_with_a_sidecar_or_a_caller_that_is_silent_is_not_compared():
    (port,) = free_ports(1)
    nobody = f"127.0.0.1:{port}"
    async with admin(CALLS) as caller, admin(TAKES) as sidecar:
        doors = {("shop/reviews", "v2"): DOOR}
        silent = EnvoyStats({"web": caller}, doors=doors, sidecars={"reviews-v2": nobody})
        (observation,) = await silent.observe([REVIEWS])
        assert (observation.arrivals, observation.missing) == ((), {})
        assert observation.samples
        await silent.close()
        lame = EnvoyStats({"web": caller, "api": nobody}, doors=doors, sidecars={"reviews-v2": sidecar})
        (observation,) = await lame.observe([REVIEWS])
        assert observation.arrivals == ()
        assert set(observation.missing) == {"api"}
        await lame.close()
