"""The applications of all pods, in one process: which pod is meant shows in the address a connection was made to.

Run as `python -m tests.lab.pods`. Each pod plays the sample shop (`autopilot.local.shop`); `POST /_shop` at its own
address changes how it behaves. Beside it, at port 15090, stand the statistics of the pod's proxy. A cluster gives the
address of a pod that is gone to the next one: `POST /_pod {"name": "shop.reviews-v2-1"}` says who has it from now on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

from autopilot.local.shop import KEEP_ALIVE, Shop
from tests.lab import sidecars, statistics

PORT = 18081
"""Where applications listen, behind the sidecars' ports."""
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - every pod's address, all of them in the lab's own namespace


class Pods:
    """Every pod's application and statistics, made when they are first asked for."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._shops: dict[str, Shop] = {}
        self._nodes: dict[str, dict[str, Any]] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Hands the request to the pod it was sent to."""
        address = _address(request)
        shop = self._shops.setdefault(address, Shop("pod", address))
        if request.path == "/_pod":
            return await self._begin(request, address)
        if request.path == "/_shop":
            return await (shop.change(request) if request.method == "POST" else shop.show(request))
        return await shop.answer(request)

    async def _begin(self, request: web.Request, address: str) -> web.Response:
        """A pod has got this address: nothing that its last owner was told or said holds any more."""
        self._shops[address] = Shop((await request.json())["name"], address)
        self._nodes.pop(address, None)
        return web.Response()

    async def statistics(self, request: web.Request) -> web.Response:
        """What Istio's proxy would say at this pod."""
        address = _address(request)
        admin = f"http://{address}:{sidecars.ADMIN}"
        try:
            if address not in self._nodes:
                async with self._session.get(f"{admin}/server_info") as response:
                    self._nodes[address] = (await response.json(content_type=None))["node"]["metadata"]
            async with self._session.get(admin + statistics.QUERY) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._nodes.pop(address, None)
            return web.Response(status=503, text=f"its proxy does not answer: {error}")
        node = self._nodes[address]
        return web.Response(text=statistics.told_again(text, node["LABELS"], node["NAMESPACE"]))


def _address(request: web.Request) -> str:
    if request.transport is None:
        raise web.HTTPServiceUnavailable
    return str(request.transport.get_extra_info("sockname")[0])


async def _serve(port: int, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=KEEP_ALIVE)
    await runner.setup()
    await web.TCPSite(runner, _EVERYWHERE, port, backlog=1024).start()


async def main() -> None:
    """Serves until SIGTERM."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        pods = Pods(session)
        await _serve(statistics.PORT, pods.statistics)
        await _serve(PORT, pods.answer)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
