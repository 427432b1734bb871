"""What never changes during an operation: the filters of every listener, and two listeners inside each proxy.

They do nothing until a route leads to them or says otherwise.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

from autopilot.mesh.envoy.config.names import BLACKHOLE, FAULT_FILTER, LUA_FILTER, RESET

_TYPE = "type.googleapis.com/"
_HTTP = _TYPE + "envoy.extensions.filters.http."
_NETWORK = _TYPE + "envoy.extensions.filters.network."
_NEVER = "86400s"
"""Longer than any proxy waits for an answer."""
_ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": _HTTP + "router.v3.Router"}}


def steering_filters() -> list[dict[str, Any]]:
    """What chooses between base and overlay, what makes faults, and what sends on."""
    lua = {
        "name": LUA_FILTER,
        "typed_config": {"@type": _HTTP + "lua.v3.Lua", "default_source_code": {"inline_string": _filter_code()}},
    }
    fault = {"name": FAULT_FILTER, "typed_config": {"@type": _HTTP + "fault.v3.HTTPFault"}}
    return [lua, fault, _ROUTER]


def inner_listeners() -> list[dict[str, Any]]:
    """One that closes what is opened, and one that takes requests and never answers."""
    closing = {
        "name": "envoy.filters.network.direct_response",
        "typed_config": {"@type": _NETWORK + "direct_response.v3.Config"},
    }
    delay = {"fixed_delay": _NEVER, "percentage": {"numerator": 100, "denominator": "HUNDRED"}}
    silent = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": _NETWORK + "http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": BLACKHOLE,
            "stream_idle_timeout": "0s",
            "route_config": {
                "name": BLACKHOLE,
                "virtual_hosts": [
                    {
                        "name": BLACKHOLE,
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 503}}],
                    }
                ],
            },
            "http_filters": [
                {"name": FAULT_FILTER, "typed_config": {"@type": _HTTP + "fault.v3.HTTPFault", "delay": delay}},
                _ROUTER,
            ],
        },
    }
    return [_inner(RESET, closing), _inner(BLACKHOLE, silent)]


def _inner(name: str, filter_of: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "internal_listener": {}, "filter_chains": [{"filters": [filter_of]}]}


@lru_cache(maxsize=1)
def _filter_code() -> str:
    return files("autopilot.mesh.envoy.config").joinpath("filter.lua").read_text(encoding="utf-8")
