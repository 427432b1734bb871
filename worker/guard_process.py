"""The guard process: restores what no operation renews. It needs only the mesh; several may run.

Each mesh has a task of its own, so that a slow one delays no other. Whatever goes wrong in a round is logged, and the
next round comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp  # noqa: F401 - loaded at the start, so that a restore waits for no import
import structlog

from autopilot.mesh.errors import MeshError
from autopilot.mesh.leases.unreadable import Unreadable
from autopilot.mesh.port import Mesh
from autopilot.mesh.providers import open_meshes
from autopilot.observability.audit_stream import stream
from autopilot.observability.metrics import GUARD_SWEEP, RESTORE_SECONDS, UNREADABLE, serve, show_leases
from worker.shutdown import stop_signal

_log = structlog.get_logger()
_LAST_ROUND = 5.0
"""Seconds that rounds under way have when the process is asked to end."""


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
    tending = [asyncio.create_task(tend(name, mesh, stop, every=every)) for name, mesh in meshes.items()]
    try:
        await stop.wait()
        await asyncio.wait(tending, timeout=_LAST_ROUND)
    finally:
        for task in tending:
            task.cancel()
        await asyncio.gather(*tending, return_exceptions=True)
        for name, mesh in meshes.items():
            try:
                await mesh.close()
            except Exception:  # noqa: BLE001 - the other meshes are still to be closed
                _log.exception("mesh not closed", mesh=name)


async def tend(name: str, mesh: Mesh, stop: asyncio.Event, *, every: float) -> None:
    """Sweeps one mesh until `stop`, `every` seconds after each round."""
    known: list[Unreadable] = []
    while not stop.is_set():
        await sweep(name, mesh)
        known = await look_for_unreadable(name, mesh, known)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every)


async def sweep(name: str, mesh: Mesh) -> list[str]:
    """One round over one mesh; what went wrong is logged, and tried again in the next round."""
    started = time.monotonic()
    done: list[str] = []
    try:
        done = await mesh.sweep()
        GUARD_SWEEP.labels(name).set(time.time())
        show_leases(name, await mesh.leases())
    except MeshError as error:
        _log.warning("sweep failed", mesh=name, error=str(error))
    except Exception:  # noqa: BLE001 - a fault of ours: this mesh's next round and the other meshes need this process
        _log.exception("sweep failed", mesh=name)
    for sentence in done:
        _log.warning("restored", mesh=name, what=sentence)
    if done:
        RESTORE_SECONDS.labels("guard").observe(time.monotonic() - started)
    return done


async def look_for_unreadable(name: str, mesh: Mesh, known: Sequence[Unreadable] = ()) -> list[Unreadable]:
    """Exports how many records cannot be read, and logs those that were not known before; returns all of them."""
    try:
        found = await mesh.unreadable()
    except MeshError as error:
        _log.warning("records that cannot be read could not be listed", mesh=name, error=str(error))
        return list(known)
    except Exception:  # noqa: BLE001 - a fault of ours must not end the guard
        _log.exception("records that cannot be read could not be listed", mesh=name)
        return list(known)
    UNREADABLE.labels(name).set(len(found))
    for one in found:
        if one not in known:
            _log.warning("record cannot be read", mesh=name, where=one.where, why=one.why, effect=one.effect)
    return found
