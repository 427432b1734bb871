"""An open-loop load generator: requests leave on schedule, however slowly the mesh answers.

A closed loop would send fewer requests to a mesh that is slow and so hide the very harm a rollout does. Latency counts
from the instant a request was due. Run as `python -m autopilot.local.load --url http://127.0.0.1:8080 --rate 100 --port
18090`; `GET /counts` on that port tells what clients saw, `POST /rate {"rate": 50}` changes the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import math
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from autopilot.local.ports import LOOPBACK

Arrivals = Literal["poisson", "uniform"]
HIGHEST_RATE = 5000.0
_SHORTEST = 0.0001
_GROWTH = 1.05


class NotLoopback(ValueError):
    """The load generator was pointed at another machine."""


def check_loopback(url: str) -> str:
    """The URL, if it leads to this machine.

    Raises:
        NotLoopback: it does not, or it is no HTTP URL.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if parts.scheme != "http" or not local:
        raise NotLoopback(f"{url}: load is only sent to this machine; write http://127.0.0.1:PORT")
    return url


@dataclass(slots=True)
class Latencies:
    """A histogram whose buckets grow by 5 %, so that a quantile is right to 5 % at any scale."""

    buckets: Counter[int] = field(default_factory=Counter)
    count: int = 0

    def add(self, seconds: float) -> None:
        """Counts one latency."""
        self.buckets[math.ceil(math.log(max(seconds, _SHORTEST) / _SHORTEST, _GROWTH))] += 1
        self.count += 1

    def quantile(self, share: float) -> float | None:
        """The latency in seconds that this share of requests did not exceed; None before the first request."""
        left = share * self.count
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0 and self.count:
                return float(_SHORTEST * _GROWTH**bucket)
        return None


@dataclass(slots=True)
class Load:
    """Sends requests on schedule and counts their results since its start."""

    url: str
    rate: float
    arrivals: Arrivals = "poisson"
    timeout: float = 10.0
    outstanding_limit: int = 1000
    seed: int = 1
    host: str = ""
    """The Host header, where it is not the URL's."""
    sent: int = 0
    requests: int = 0
    failures: int = 0
    dropped: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    latencies: Latencies = field(default_factory=Latencies)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)
    _rate_changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Sends until it is cancelled."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=self.timeout)
        ) as session:
            try:
                await self._send_on_schedule(session)
            finally:
                await self.close()

    async def _send_on_schedule(self, session: aiohttp.ClientSession) -> None:
        dice = random.Random(self.seed)  # noqa: S311  (arrival times, not a secret)
        due = time.monotonic()
        while True:
            self._rate_changed.clear()
            if self.rate <= 0:
                await self._rate_changed.wait()
                due = time.monotonic()
                continue
            due += dice.expovariate(self.rate) if self.arrivals == "poisson" else 1 / self.rate
            # A turn of the loop even when late, so that answers are taken in between.
            if await self._pause(max(0.0, due - time.monotonic())):
                due = time.monotonic()
                continue
            self._send(session, due)

    async def _pause(self, seconds: float) -> bool:
        """Waits until the next request is due; True where the rate was changed meanwhile."""
        if seconds < 1.0:
            await asyncio.sleep(seconds)
            return False
        try:
            await asyncio.wait_for(self._rate_changed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _send(self, session: aiohttp.ClientSession, due: float) -> None:
        if len(self._under_way) >= self.outstanding_limit:
            self.dropped += 1
            return
        self.sent += 1
        task = asyncio.create_task(self._request(session, due, user=self.sent % 1000))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _request(self, session: aiohttp.ClientSession, due: float, *, user: int) -> None:
        try:
            headers = {"end-user": f"user-{user}", **({"Host": self.host} if self.host else {})}
            async with session.get(self.url, headers=headers) as response:
                await response.read()
                outcome, failed = str(response.status), response.status >= 500
        except TimeoutError:
            outcome, failed = "timeout", True
        except aiohttp.ClientError:
            outcome, failed = "connection", True
        self.requests += 1
        self.failures += failed
        self.statuses[outcome] += 1
        self.latencies.add(time.monotonic() - due)

    def counts(self) -> dict[str, object]:
        """Results for clients since the start; `dropped` requests were not sent and are in no other number."""

        def milliseconds(share: float) -> float | None:
            seconds = self.latencies.quantile(share)
            return None if seconds is None else round(seconds * 1000, 3)

        return {
            "requests": self.requests,
            "failures": self.failures,
            "dropped": self.dropped,
            "outstanding": len(self._under_way),
            "latency_ms": {"p50": milliseconds(0.5), "p99": milliseconds(0.99)},
            "statuses": dict(sorted(self.statuses.items())),
            "rate": self.rate,
            "url": self.url,
        }

    async def close(self) -> None:
        """Cancels requests in flight."""
        for task in list(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def application(self) -> web.Application:
        """The control interface."""

        async def show(_: web.Request) -> web.Response:
            return web.json_response(self.counts())

        async def change(request: web.Request) -> web.Response:
            try:
                rate = _rate((await request.json())["rate"])
            except (ValueError, KeyError, TypeError) as error:
                message = f'send {{"rate": N}}, requests a second from 0 to {HIGHEST_RATE:g} ({error})'
                return web.json_response({"error": message}, status=400)
            self.rate = rate
            self._rate_changed.set()
            return web.json_response(self.counts())

        async def sending(_: web.Application) -> AsyncIterator[None]:
            task = asyncio.create_task(self.run())
            task.add_done_callback(_end_with)
            yield
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        application = web.Application()
        application.router.add_get("/counts", show)
        application.router.add_post("/rate", change)
        application.cleanup_ctx.append(sending)
        return application


def _rate(value: object) -> float:
    rate = float(str(value))
    if not 0 <= rate <= HIGHEST_RATE:
        raise ValueError(f"{value} is out of bounds")
    return rate


def _end_with(task: asyncio.Task[None]) -> None:
    """Ends the process when sending fails, so that a broken generator does not look healthy."""
    if not task.cancelled() and (error := task.exception()):
        task.get_loop().call_exception_handler({"message": "the load generator failed", "exception": error})
        signal.raise_signal(signal.SIGTERM)


def main() -> None:
    """Sends until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m autopilot.local.load", description=__doc__)
    parser.add_argument("--url", type=check_loopback, required=True)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--port", type=int, required=True, help="port of the control interface")
    parser.add_argument("--arrivals", choices=("poisson", "uniform"), default="poisson")
    parser.add_argument("--timeout", type=float, default=10.0, help="time-out of a request in seconds")
    parser.add_argument("--outstanding", type=int, default=1000, help="maximum requests in flight; more are dropped")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--host", default="", help="the Host header, if it differs from the URL's")
    given = parser.parse_args()

    async def build() -> web.Application:
        return Load(
            url=given.url,
            rate=given.rate,
            arrivals=given.arrivals,
            timeout=given.timeout,
            outstanding_limit=given.outstanding,
            seed=given.seed,
            host=given.host,
        ).application()

    web.run_app(build(), host=LOOPBACK, port=given.port, access_log=None, print=None, shutdown_timeout=1.0)


if __name__ == "__main__":
    main()
