"""The applications of all pods, in one process: which pod is meant shows in the address a connection was made to.

Run as `python -m tests.lab.pods --kubeconfig FILE`. Pods come and go with their Deployments; each plays the sample shop
(`autopilot.local.shop`) under the name and version of its labels. `POST /_shop` at a pod's own address changes how it
behaves.
"""

from __future__ import annotations

import argparse

from aiohttp import web

from autopilot.local.shop import KEEP_ALIVE, Shop

PORT = 18081
"""Where applications listen, behind the sidecars' ports."""


class Pods:
    """Every pod's application, made when it is first asked."""

    def __init__(self) -> None:
        self._shops: dict[str, Shop] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Hands the request to the pod it was sent to."""
        if request.transport is None:
            raise web.HTTPServiceUnavailable
        address = request.transport.get_extra_info("sockname")[0]
        shop = self._shops.setdefault(address, Shop("pod", address))
        if request.path == "/_shop":
            return await (shop.change(request) if request.method == "POST" else shop.show(request))
        return await shop.answer(request)


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.pods", description=__doc__)
    parser.parse_args()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", Pods().answer)
    web.run_app(
        application,
        host="0.0.0.0",  # noqa: S104 - every pod's address, all of them in the lab's own namespace
        port=PORT,
        access_log=None,
        print=None,
        keepalive_timeout=KEEP_ALIVE,
    )


if __name__ == "__main__":
    main()
