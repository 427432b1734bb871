"""A few dozen generated meshes, taken by a real Envoy: what is let through is not only well formed, it starts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from autopilot.local import envoy
from autopilot.mesh.envoy.config.bootstrap import bootstrap
from autopilot.mesh.envoy.config.render import ProxyFiles, render
from autopilot.spec.mesh import MeshSpec, Proxy
from tests.fuzz.strategies import meshes, overlays, paths, spares

pytestmark = pytest.mark.e2e
MESHES = 30


def generated() -> list[tuple[MeshSpec, dict[str, ProxyFiles]]]:
    """Meshes with what lies over them, rendered; the same ones at every run."""
    found: list[tuple[MeshSpec, dict[str, ProxyFiles]]] = []

    @given(st.data())
    @settings(
        max_examples=MESHES,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def collect(data: st.DataObject) -> None:
        spec = data.draw(meshes())
        laid = data.draw(overlays(spec))
        found.append((spec, render(spec, laid, paths(spec), spares(laid))))

    collect()
    return found


def static(name: str, spec: MeshSpec, proxy: Proxy, files: ProxyFiles) -> dict[str, Any]:
    """One bootstrap that holds everything: `--mode validate` follows no files."""
    whole = bootstrap(name, spec, proxy, clusters="/unused", listeners="/unused")
    del whole["dynamic_resources"]
    listeners = _plain(files.listeners)
    for listener in listeners:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        if rds := manager.pop("rds", None):
            (manager["route_config"],) = _plain(files.routes[rds["route_config_name"]])
    whole["static_resources"] = {"clusters": _plain(files.clusters), "listeners": listeners}
    return whole


def _plain(content: str) -> list[dict[str, Any]]:
    resources: list[dict[str, Any]] = json.loads(content)["resources"]
    for resource in resources:
        del resource["@type"]
    return resources


def write(configuration: dict[str, Any], path: Path) -> Path:
    """As Envoy is to read it."""
    path.write_text(json.dumps(configuration), encoding="utf-8")
    return path


async def refused(path: Path) -> str:
    """What Envoy has against it; empty where it takes it."""
    process = await asyncio.create_subprocess_exec(
        str(envoy.find()), "--mode", "validate", "--log-level", "error", "-c", str(path),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return said.decode() if process.returncode else ""


async def test_an_envoy_takes_whatever_is_let_through(tmp_path: Path) -> None:
    """One proxy a mesh, put together from all proxies there are, so that one Envoy sees as much as it can."""
    wanted = [static("m", spec, proxy, files[proxy.name]) for spec, files in generated() for proxy in spec.proxies[:1]]
    assert len(wanted) >= MESHES // 2
    limit = asyncio.Semaphore(2)

    async def checked(number: int, configuration: dict[str, Any]) -> str:
        async with limit:
            return await refused(write(configuration, tmp_path / f"{number}.json"))

    answers = await asyncio.gather(*(checked(number, each) for number, each in enumerate(wanted)))
    assert not [answer for answer in answers if answer]
    # The check can fail.
    wanted[0]["static_resources"]["clusters"].append({"name": "x", "connect_timeout": "1e+06s"})
    assert "1e+06s" in await refused(write(wanted[0], tmp_path / "wrong.json"))
