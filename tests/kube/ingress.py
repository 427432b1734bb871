"""An Envoy that istiod takes for an ingress gateway: requests from outside come in through it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from autopilot.local import envoy
from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.client.resources import Resource
from tests.lab import scene, sidecars

GATEWAY = Resource("networking.istio.io", "v1", "gateways", "Gateway")
_PORT = 8081
_NUMBERS = itertools.count(1)


@asynccontextmanager
async def gateway(api: KubeApi, namespace: str, host: str, folder: Path) -> AsyncIterator[scene.Scene]:
    """A Gateway called `shop` for one host of the outside, and the Envoy that serves it."""
    address = f"127.3.{next(_NUMBERS)}.1"
    made = sidecars.bootstrap("gateway", namespace, address, {"istio": namespace})
    made["node"]["id"] = f"router~{address}~gateway.{namespace}~{namespace}.svc.cluster.local"
    file = sidecars.write(folder / "gateway.json", made)
    # All Envoys of the lab share one network: a gateway takes requests at its own address alone.
    server = {"port": {"number": _PORT, "name": "http", "protocol": "HTTP"}, "hosts": [host], "bind": address}
    body = {
        "apiVersion": GATEWAY.api_version,
        "kind": GATEWAY.kind,
        "metadata": {"name": "shop", "namespace": namespace},
        "spec": {"selector": {"istio": namespace}, "servers": [server]},
    }
    api.create(GATEWAY, body)
    words = envoy.command(envoy.find(), file)
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield scene.Scene(namespace, f"http://{address}:{_PORT}")
    finally:
        process.kill()
        await process.wait()
