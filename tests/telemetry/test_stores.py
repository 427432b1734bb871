"""Stores other than a plain Prometheus: half an answer is none, and a refusal says what to do.

What they answer is in `recorded/stores`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from autopilot.telemetry.difference import Gap
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import Subject, TelemetryError
from autopilot.telemetry.prometheus import PrometheusSource

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
    async with store(lambda _: recorded("thanos_partial.json")) as (url, met):
        async with (
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
