"""One real Envoy before one small upstream, on free ports: tests must not take our word for what Envoy says."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from hypothesis import settings

from autopilot.local.envoy import command, find

# The suite shares its processors with others.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

TYPES = "type.googleapis.com/envoy.extensions.filters"


@dataclass(frozen=True, slots=True)
class Lab:
    """Where things listen."""

    admin: str
    listener: str
    process: asyncio.subprocess.Process

    async def get(self, path: str, times: int = 1) -> list[int]:
        """Statuses of so many requests, one after the other."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            found = []
            for _ in range(times):
                async with session.get(f"http://{self.listener}{path}") as response:
                    found.append(response.status)
            return found

    async def left(self, path: str, times: int, *, after: float) -> None:
        """So many requests at once, whose clients give up."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=after)) as session:

            async def give_up() -> None:
                with contextlib.suppress(TimeoutError):
                    async with session.get(f"http://{self.listener}{path}") as response:
                        await response.read()
                    pytest.fail(f"{path} was answered")

            await asyncio.gather(*(give_up() for _ in range(times)))

    async def metrics(self) -> str:
        """What a Prometheus would scrape."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.admin}/stats/prometheus") as response:
            return await response.text()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


async def _upstream(port: int) -> web.AppRunner:
    turn = itertools.count()

    async def answer(request: web.Request) -> web.Response:
        if "flaky" in request.path and next(turn) % 2 == 0:
            return web.Response(status=503)
        if "first" in request.path and request.headers["x-envoy-attempt-count"] == "1":
            return web.Response(status=503)
        if "hang" in request.path:
            await asyncio.sleep(60)
        if "fail" in request.path:
            return web.Response(status=500)
        if "reset" in request.path and request.transport is not None:
            request.transport.abort()
        if "slow" in request.path:
            await asyncio.sleep(0.15)
        return web.Response(text="ok")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


def _bootstrap(admin: int, listener: int, upstream: int, dead: int) -> dict[str, object]:
    def address(port: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    def cluster(arm: str, port: int) -> dict[str, object]:
        name = f"outbound/shop/reviews/{arm}"
        endpoint = {"endpoint": {"address": address(port)}}
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        }

    def route(prefix: str, arm: str, retries: int, timeout: str = "15s") -> dict[str, object]:
        retry = {"retry_on": "5xx,reset,connect-failure", "num_retries": retries}
        cluster = f"outbound/shop/reviews/{arm}"
        action = {"cluster": cluster, "timeout": timeout, **({"retry_policy": retry} if retries else {})}
        return {"match": {"prefix": prefix}, "route": action}

    routes = [
        *(route("/v1", "v1", 2), route("/v2", "v2", 0), route("/brief", "v2", 0, "6s")),
        *(route("/dead", "dead", 0), route("/again", "dead", 1)),
    ]
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": routes, "include_request_attempt_count": True}
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "admin": {"address": address(admin)},
        "stats_flush_interval": "0.1s",
        "static_resources": {
            "listeners": [{"name": "in", "address": address(listener), "filter_chains": [{"filters": filters}]}],
            "clusters": [cluster("v1", upstream), cluster("v2", upstream), cluster("dead", dead)],
        },
    }


@pytest.fixture(scope="session")
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A running Envoy: /v1 retries twice, /v2 and /brief (6 s) never, /dead and /again (one retry) lead nowhere."""
    admin, listener, upstream, dead = free_ports(4)
    folder = tmp_path_factory.mktemp("envoy")
    config = folder / "envoy.json"
    config.write_text(json.dumps(_bootstrap(admin, listener, upstream, dead)))
    runner = await _upstream(upstream)
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command(find(), config), stdout=log, stderr=log)
    try:
        await _ready(f"127.0.0.1:{admin}", process, folder / "log")
        yield Lab(admin=f"127.0.0.1:{admin}", listener=f"127.0.0.1:{listener}", process=process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()
        await runner.cleanup()


async def _ready(admin: str, process: asyncio.subprocess.Process, log: Path) -> None:
    """Fails at once where Envoy has given up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            while process.returncode is None:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with session.get(f"http://{admin}/ready") as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(0.05)
    said = await asyncio.to_thread(log.read_text)
    pytest.fail(f"Envoy (exit code {process.returncode}) never became ready at {admin}: {said}")
