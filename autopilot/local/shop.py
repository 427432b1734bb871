"""The sample shop: one small HTTP service that plays `web`, `reviews` or `ratings`, and fails on request.

Run as `python -m autopilot.local.shop --service reviews --version v2 --port 18080 --calls http://127.0.0.1:18081 --host
ratings.shop`. What it does is set while it runs: `POST /_shop {"errors": 0.2, "delay": 0.05, "hang": false}` on its own
port, the sidecar left aside; `{"first_tries": 1}` fails what its mesh then retries.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field, replace

import aiohttp
from aiohttp import web

from autopilot.local.ports import LOOPBACK

PASSED_ON = (
    "x-request-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "traceparent",
    "tracestate",
    "baggage",
    "end-user",
    "cookie",
)
"""Headers a service hands to the one it calls: what ties a request's hops together, and who asks."""

TRY = "x-envoy-attempt-count"
"""The mesh tells which try of a request this is, where it retries any: 1 is the first."""

# Longer than a mesh waits (15 s by default): were the caller to give up first, a hang would be its secret.
CALL_TIMEOUT = 30.0
# Longer than Envoy keeps an idle connection (1 h): whoever closes first must be the one that also sends requests.
KEEP_ALIVE = 2 * 3600.0


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the service answers: a share of failures (of all tries or of first ones), seconds of delay, or not at all."""

    errors: float = 0.0
    first_tries: float = 0.0
    delay: float = 0.0
    hang: bool = False

    @classmethod
    def read(cls, body: object, before: Behaviour) -> Behaviour:
        """The behaviour before, with what the body names changed.

        Raises:
            TypeError: no object, or `hang` is no boolean.
            ValueError: an unknown field, or a number out of bounds.
        """
        if not isinstance(body, dict):
            raise TypeError('send an object, for instance {"errors": 0.2}')
        if unknown := sorted(set(body) - {"errors", "first_tries", "delay", "hang"}):
            raise ValueError(f"{', '.join(map(str, unknown))}: unknown; known: errors, first_tries, delay and hang")
        for name, highest in (("errors", 1.0), ("first_tries", 1.0), ("delay", 60.0)):
            value = body.get(name, 0.0)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
                raise ValueError(f"{name}: must be a number from 0 to {highest:g}")
        if not isinstance(body.get("hang", False), bool):
            raise TypeError("hang: must be true or false")
        return replace(before, **body)


@dataclass(slots=True)
class Shop:
    """One instance of one service."""

    service: str
    version: str
    calls: str | None = None
    host: str | None = None
    behaviour: Behaviour = Behaviour()
    requests: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    session: aiohttp.ClientSession | None = None
    dice: random.Random = field(default_factory=random.Random)

    def application(self) -> web.Application:
        """The HTTP application."""
        application = web.Application()
        application.router.add_get("/_shop", self.show)
        application.router.add_post("/_shop", self.change)
        application.router.add_route("*", "/{path:.*}", self.answer)
        application.cleanup_ctx.append(self._client)
        return application

    async def _client(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT)
        ) as self.session:
            yield

    async def show(self, _: web.Request) -> web.Response:
        """`GET /_shop`: who this is and how it behaves."""
        return web.json_response(
            {
                "service": self.service,
                "version": self.version,
                "requests": self.requests,
                **asdict(self.behaviour),
            }
        )

    async def change(self, request: web.Request) -> web.Response:
        """`POST /_shop`: behaves differently from now on; requests that hang are let go when hanging ends."""
        try:
            self.behaviour = Behaviour.read(await request.json(), self.behaviour)
        except (TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        self.changed.set()
        self.changed = asyncio.Event()
        return await self.show(request)

    async def answer(self, request: web.Request) -> web.Response:
        """Any other request: says which services and versions took part, or fails as told."""
        self.requests += 1
        while self.behaviour.hang:
            await self.changed.wait()
        if self.behaviour.delay:
            await asyncio.sleep(self.behaviour.delay)
        failing = self.behaviour.errors
        if request.headers.get(TRY, "1") == "1":
            failing = max(failing, self.behaviour.first_tries)
        if failing and self.dice.random() < failing:
            return self._reply(500, error=f"{self.service} {self.version} failed")
        if self.calls is None:
            return self._reply(200)
        return await self._call(request)

    async def _call(self, request: web.Request) -> web.Response:
        if self.session is None:
            return self._reply(503, error="starting")
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        if self.host:
            headers["Host"] = self.host
        try:
            async with self.session.get(f"{self.calls}{request.path_qs}", headers=headers) as response:
                below = await response.json(content_type=None) if response.status < 500 else await response.text()
                status = response.status
        except TimeoutError:
            return self._reply(504, error=f"{self.host or self.calls} did not answer within {CALL_TIMEOUT:g} s")
        except (aiohttp.ClientError, ValueError) as error:
            return self._reply(502, error=f"{self.host or self.calls}: {error}")
        # A refusal (403, 429) is the caller's to see; a failure below is a bad gateway here.
        return self._reply(502 if status >= 500 else status, calls=below)

    def _reply(self, status: int, **more: object) -> web.Response:
        return web.json_response({"service": self.service, "version": self.version, **more}, status=status)


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m autopilot.local.shop", description=__doc__)
    parser.add_argument("--service", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--calls", help="the address of the service it calls, e.g. its sidecar's")
    parser.add_argument("--host", help="Host header of these calls")
    parser.add_argument("--seed", type=int, help="seed of its random failures, to make them repeatable")
    given = parser.parse_args()
    dice = random.Random(given.seed)  # noqa: S311  (chance, not a secret)

    async def build() -> web.Application:
        return Shop(given.service, given.version, given.calls, given.host, dice=dice).application()

    web.run_app(
        build(),
        host=LOOPBACK,
        port=given.port,
        access_log=None,
        print=None,
        shutdown_timeout=2.0,
        keepalive_timeout=KEEP_ALIVE,
    )


if __name__ == "__main__":
    main()
