"""Asks proxies themselves which configuration they have: the data plane counts, not the file."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from autopilot.mesh.errors import MeshUnavailable

if TYPE_CHECKING:
    import aiohttp

_LIMIT = 2.0
"""Seconds for one answer."""


class AdminClient:
    """Reads the admin interface of any number of proxies; one connection pool, made when first used."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def route_versions(self, address: str) -> dict[str, str]:
        """Route table → version, as the proxy at `host:port` has them.

        Raises:
            MeshUnavailable: it did not answer.
        """
        text = await self._get(
            address, "/config_dump?resource=dynamic_route_configs&mask=version_info,route_config.name"
        )
        found = {}
        for entry in json.loads(text).get("configs", []):
            name = entry.get("route_config", {}).get("name")
            if name:
                found[name] = entry.get("version_info", "")
        return found

    async def cluster_names(self, address: str, pattern: str) -> set[str]:
        """Names of clusters that the proxy at `host:port` has in use, of those that match a pattern (RE2).

        Raises:
            MeshUnavailable: it did not answer.
        """
        query = f"resource=dynamic_active_clusters&mask=cluster.name&name_regex={quote(pattern)}"
        text = await self._get(address, f"/config_dump?{query}")
        return {str(entry.get("cluster", {}).get("name")) for entry in json.loads(text).get("configs", [])}

    async def skew(self, address: str) -> float:
        """At least so many seconds is the proxy's clock ahead of ours (negative: behind).

        The Date header tells whole seconds, and may be half a second old: what that explains is no skew.

        Raises:
            MeshUnavailable: it did not answer, or told no time.
        """
        before = time.time()
        response = await self._ask(address, "/ready")
        after = time.time()
        try:
            told = parsedate_to_datetime(response.headers["Date"]).timestamp()
        except (KeyError, ValueError) as error:
            raise MeshUnavailable(f"proxy admin at {address} reports no valid time") from error
        return max(0.0, told - after) + min(0.0, told + 1.5 - before)

    async def ready(self, address: str) -> bool:
        """Whether the proxy takes traffic."""
        try:
            return (await self._get(address, "/ready")).strip() == "LIVE"
        except MeshUnavailable:
            return False

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _get(self, address: str, path: str) -> str:
        response = await self._ask(address, path)
        text = await response.text()
        if response.status != 200:
            raise MeshUnavailable(f"proxy admin at {address} answered {response.status} to {path}: {text[:200]}")
        return text

    async def _ask(self, address: str, path: str) -> aiohttp.ClientResponse:
        """An answer, read to its end."""
        import aiohttp  # noqa: PLC0415 - slow to load, and a plan asks no proxy

        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_LIMIT))
        try:
            async with self._session.get(f"http://{address}{path}") as response:
                await response.read()
                return response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise MeshUnavailable(
                f"proxy admin at {address} did not answer ({error!r}); check that this Envoy runs"
            ) from error
