"""An Envoy between the worker and Temporal: it can answer every call with an error, as a server in trouble does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp

from autopilot.local import envoy
from autopilot.local.ports import LOOPBACK
from autopilot.local.processes import environment
from tests.faults.world.part import Part

RESOURCE_EXHAUSTED = 8
"""A gRPC status that a server gives which is there, and has too much to do."""
_PERCENT = "door.percent"


class Door:
    """Lets everything pass until it is told otherwise."""

    def __init__(self, folder: Path, server: str, port: int, admin: int, session: aiohttp.ClientSession) -> None:
        self.address = f"{LOOPBACK}:{port}"
        self._admin = f"http://{LOOPBACK}:{admin}"
        self._session = session
        bootstrap = folder / "door.json"
        bootstrap.write_text(json.dumps(_bootstrap(server, port, admin)), encoding="utf-8")
        command = envoy.command(envoy.find(), bootstrap)
        self.part = Part("door", command, folder=folder, env=environment({}), ready=self._ready)

    async def answer_errors(self, *, on: bool) -> None:
        """From now on every new call is answered with an error, or passes again."""
        async with self._session.post(f"{self._admin}/runtime_modify?{_PERCENT}={100 if on else 0}") as answer:
            assert answer.status == 200, await answer.text()

    async def _ready(self) -> bool:
        try:
            async with self._session.get(f"{self._admin}/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


def _bootstrap(server: str, port: int, admin: int) -> dict[str, Any]:
    types = "type.googleapis.com/envoy.extensions"
    fault = {
        "@type": f"{types}.filters.http.fault.v3.HTTPFault",
        "abort": {"grpc_status": RESOURCE_EXHAUSTED, "percentage": {"numerator": 0}},
        "abort_percent_runtime": _PERCENT,
    }
    router = {"@type": f"{types}.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "door",
        "stream_idle_timeout": "0s",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "temporal", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.fault", "typed_config": fault},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }
    host, _, server_port = server.rpartition(":")
    speaks_http2 = {
        "@type": f"{types}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    cluster = {
        "name": "temporal",
        "connect_timeout": "1s",
        "type": "STATIC",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": speaks_http2},
        "load_assignment": {
            "cluster_name": "temporal",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(host, int(server_port))}}]}],
        },
    }
    listener = {
        "name": "door",
        "address": _address(LOOPBACK, port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {
        "admin": {"address": _address(LOOPBACK, admin)},
        "layered_runtime": {"layers": [{"name": "switches", "admin_layer": {}}]},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
