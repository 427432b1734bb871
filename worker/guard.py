"""The guard process: restores what no operation renews. It needs only the mesh; several may run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp  # noqa: F401 - loaded at the start, so that a restore waits for no import
import structlog

from activities.auditing import stream
from activities.metrics import GUARD_SWEEP, RESTORE_SECONDS, serve, show_leases
from autopilot.mesh.errors import MeshError
from autopilot.mesh.port import Mesh
from autopilot.mesh.providers import open_meshes
from worker.signals import stop_signal

_log = structlog.get_logger()


async def run(mesh_files: Sequence[Path], metrics: str | None = None, *, every: float = 0.5) -> None:
    """Sweeps every mesh each `every` seconds until SIGTERM or SIGINT.

    Raises:
        MeshError: a mesh file describes no mesh.
    """
    meshes = open_meshes(mesh_files, stream())
    if metrics:
        serve(metrics)
    stop = stop_signal()
    _log.info("guard ready", meshes=sorted(meshes))
    try:
        while not stop.is_set():
            for name, mesh in meshes.items():
                await sweep(name, mesh)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every)
    finally:
        for mesh in meshes.values():
            await mesh.close()


async def sweep(name: str, mesh: Mesh) -> list[str]:
    """One round over one mesh; what went wrong is logged, and tried again in the next round."""
    started = time.monotonic()
    try:
        done = await mesh.sweep()
        show_leases(await mesh.leases())
    except MeshError as error:
        _log.warning("sweep failed", mesh=name, error=str(error))
        return []
    GUARD_SWEEP.labels(name).set(time.time())
    for sentence in done:
        _log.warning("restored", mesh=name, what=sentence)
    if done:
        RESTORE_SECONDS.labels("guard").observe(time.monotonic() - started)
    return done
