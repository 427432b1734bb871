"""What the data plane itself says: the proxies' own dump of their routes, against the base and nothing else."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from autopilot.local.ports import LOOPBACK
from autopilot.mesh.envoy.config.names import DEADLINES, LUA_FILTER
from autopilot.mesh.envoy.config.render import version
from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.model import Target
from autopilot.mesh.overlay_header import OVERLAY_HEADER
from tests.faults.world.shape import MeshPlace


@dataclass(frozen=True, slots=True)
class Routes:
    """One service at one proxy."""

    weights: tuple[float, float]
    """v1's and v2's percent on the route that nobody's header chooses."""
    overlays: int
    """Routes that an overlay left there, and deadlines in the base's metadata."""


class DataPlane:
    """One mesh, looked at from outside."""

    def __init__(self, place: MeshPlace, session: aiohttp.ClientSession) -> None:
        self.place = place
        self.mesh = EnvoyMesh(place.file)
        self._session = session

    async def ready(self) -> bool:
        """Whether the proxy takes traffic."""
        try:
            return (await self._get("/ready")).strip() == "LIVE"
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def routes(self) -> dict[str, Routes]:
        """Service → what the proxy has for it."""
        found = {}
        for table in await self._tables():
            for host in table["route_config"]["virtual_hosts"]:
                found[f"{self.place.name}/{host['name']}"] = _routes(host)
        return found

    async def not_base(self) -> set[str]:
        """The services whose table at the proxy is not the very one rendered from `mesh.yaml` with no overlay."""
        files = self.mesh.store.rendered(time.time(), [])
        wanted = {name: version(table) for name, table in files["caller"].routes.items()}
        have = {table["route_config"]["name"]: table.get("version_info") for table in await self._tables()}
        proxy = self.mesh.store.proxy("caller")
        return {
            f"{self.place.name}/{ref}"
            for outbound in proxy.outbound
            if have.get(outbound.name) != wanted[outbound.name]
            for ref in outbound.services
        }

    async def is_base(self) -> bool:
        """Whether the proxy has its base and nothing else."""
        return not await self.not_base()

    def base_weight(self, target: Target) -> float:
        """Version 2's percent in `mesh.yaml`."""
        service = self.mesh.store.mesh.spec.service(target.ref)
        assert service is not None
        return service.weights.get("v2", 0.0)

    async def _tables(self) -> list[dict[str, Any]]:
        dump = json.loads(await self._get("/config_dump?resource=dynamic_route_configs"))
        return list(dump.get("configs", ()))

    async def _get(self, path: str) -> str:
        address = f"http://{LOOPBACK}:{self.place.admin}{path}"
        async with self._session.get(address, timeout=aiohttp.ClientTimeout(total=5)) as answer:
            return await answer.text()


def _routes(host: dict[str, Any]) -> Routes:
    without = [route for route in host["routes"] if not _chosen_by_header(route)]
    clusters = without[0]["route"]["weighted_clusters"]["clusters"]
    by_arm = {item["name"].rpartition("/")[2]: float(item.get("weight", 0)) for item in clusters}
    total = sum(by_arm.values())
    deadlines = 0
    for route in host["routes"]:
        metadata = route.get("metadata", {}).get("filter_metadata", {}).get(LUA_FILTER, {})
        deadlines += len(metadata.get(DEADLINES, ()))
    chosen = len(host["routes"]) - len(without)
    return Routes(
        weights=(100 * by_arm.get("v1", 0.0) / total, 100 * by_arm.get("v2", 0.0) / total), overlays=chosen + deadlines
    )


def _chosen_by_header(route: dict[str, Any]) -> bool:
    headers = route["match"].get("headers", ())
    return any(header["name"] == OVERLAY_HEADER and not header.get("invert_match") for header in headers)
