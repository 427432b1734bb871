from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from autopilot.local.shop import Behaviour, Shop

Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def serving(shop: Shop) -> AsyncIterator[tuple[str, Client]]:
    async with TestClient(TestServer(shop.application())) as client:
        yield str(client.make_url("")).rstrip("/"), client


async def test_the_chain_answers_and_headers_travel() -> None:
    ratings = Shop("ratings", "v1")
    async with serving(ratings) as (below, direct):
        async with serving(Shop("reviews", "v2", calls=below, host="ratings.shop")) as (_, client):
            response = await client.get("/x?y=1", headers={"x-request-id": "7", "end-user": "jane"})
            assert response.status == 200
            assert await response.json() == {
                "service": "reviews",
                "version": "v2",
                "calls": {"service": "ratings", "version": "v1"},
            }
        assert (await (await direct.get("/_shop")).json())["requests"] == 1


async def test_failures_come_at_the_rate_that_was_set() -> None:
    async with serving(Shop("web", "v1", dice=random.Random(1))) as (_, client):
        response = await client.post("/_shop", json={"errors": 0.2})
        assert (await response.json())["errors"] == 0.2
        statuses = [(await client.get("/")).status for _ in range(300)]
        assert set(statuses) == {200, 500}
        assert 30 < statuses.count(500) < 95
        await client.post("/_shop", json={"errors": 0})
        assert (await client.get("/")).status == 200


async def test_a_failure_below_is_a_bad_gateway_and_a_refusal_stays_one() -> None:
    ratings = Shop("ratings", "v1", behaviour=Behaviour(errors=1.0))
    async with serving(ratings) as (below, _), serving(Shop("reviews", "v1", calls=below)) as (_, client):
        response = await client.get("/")
        assert response.status == 502
        assert "ratings v1 failed" in (await response.json())["calls"]
    async with serving(Shop("reviews", "v1", calls="http://127.0.0.1:1")) as (_, client):
        assert (await client.get("/")).status == 502


async def test_hanging_requests_are_let_go_when_hanging_ends() -> None:
    async with serving(Shop("web", "v1")) as (_, client):
        await client.post("/_shop", json={"hang": True})
        hung = asyncio.ensure_future(client.get("/"))
        assert not (await asyncio.wait({hung}, timeout=0.2))[0]
        await client.post("/_shop", json={"hang": False})
        assert (await asyncio.wait_for(hung, 2)).status == 200


async def test_first_tries_fail_and_retries_do_not() -> None:
    async with serving(Shop("reviews", "v2", behaviour=Behaviour(first_tries=1.0))) as (_, client):
        tries = [(await client.get("/", headers={"x-envoy-attempt-count": str(number)})).status for number in (1, 2, 3)]
        assert tries == [500, 200, 200]
        assert (await client.get("/")).status == 500, "without a mesh that retries, every try is a first one"


async def test_delay_is_waited_for() -> None:
    async with serving(Shop("web", "v1", behaviour=Behaviour(delay=0.2))) as (_, client):
        began = asyncio.get_running_loop().time()
        await client.get("/")
        assert asyncio.get_running_loop().time() - began >= 0.19


@pytest.mark.parametrize(
    "body", [{"errors": 2}, {"errors": "x"}, {"errors": True}, {"wait": 1}, {"hang": 1}, {"first_tries": 2}, [1]]
)
async def test_a_wrong_setting_is_refused_and_changes_nothing(body: object) -> None:
    shop = Shop("web", "v1")
    async with serving(shop) as (_, client):
        response = await client.post("/_shop", json=body)
        assert response.status == 400
        assert (await response.json())["error"]
    assert shop.behaviour == Behaviour()
