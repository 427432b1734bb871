"""A real Prometheus where its binary is at hand: on PATH, or where `autopilot doctor` puts it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.telemetry.conftest import free_ports


def binary() -> str | None:
    """A Prometheus on PATH, or in the folder where the embedded stack keeps its tools."""
    if (found := shutil.which("prometheus")) is not None:
        return found
    kept = Path(__file__).parents[2] / ".autopilot"
    return next((str(path) for path in kept.glob("**/prometheus") if path.is_file()), None) if kept.exists() else None


@asynccontextmanager
async def running(
    folder: Path, target: str, *, path: str, job: str, arguments: Sequence[str] = ()
) -> AsyncIterator[str]:
    """Scrapes one target each second; yields its own address."""
    if (program := binary()) is None:
        pytest.skip("no prometheus binary on PATH or under .autopilot")
    port = free_ports(1)[0]
    scrape = {"job_name": job, "metrics_path": path, "static_configs": [{"targets": [target]}]}
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}
    (folder / "prometheus.json").write_text(json.dumps(config))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, f"--config.file={folder / 'prometheus.json'}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", *arguments, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        if not await _ready(f"http://127.0.0.1:{port}/-/ready", process):
            pytest.fail((folder / "log").read_text())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _ready(url: str, process: asyncio.subprocess.Process) -> bool:
    """Waits for it; false where it has ended."""
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return True
            except aiohttp.ClientConnectionError:
                if process.returncode is not None:
                    return False
            await asyncio.sleep(0.1)
