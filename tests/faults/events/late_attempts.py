"""Attempts that wake up late: whatever an operation wrote is tried once more when it has gone on since.

So does an attempt whose process was stopped, or whose machine was paused, until its successor has long done its work:
Temporal has forgotten it, and nobody reads its answer. Here the same call is made again, as it was made then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from temporalio import activity

from activities.contracts.operation import AcquireRequest, ApplyRequest, EndRequest
from autopilot.mesh.errors import MeshError
from autopilot.mesh.port import Mesh
from autopilot.mesh_registry.meshes import Meshes
from tests.faults.world.control import Control

LATE_ATTEMPTS = "late-attempts"
"""The switch."""

Call = Callable[[], Awaitable[object]]
_ENDS = ("mesh.commit", "mesh.lift")


class LateAttempts:
    """Remembers every operation's writes, and makes them again after each of its activities while the switch is on."""

    def __init__(self, control: Control, meshes: Meshes) -> None:
        self._control = control
        self._meshes = meshes
        self._made: dict[str, list[tuple[str, str, Call]]] = {}
        """Operation → (run, name, call), in the order in which they were made."""
        self._ended: set[str] = set()

    async def after(self, operation: str, request: object) -> None:
        """An activity of the operation has ended that was given this."""
        info = activity.info()
        run, made = info.workflow_run_id or "", self._made.setdefault(operation, [])
        if (call := self._call(info.activity_type, request, info.scheduled_time.timestamp())) is not None:
            made.append((run, info.activity_type, call))
        if info.activity_type == "mesh.acquire":
            self._ended.discard(operation)  # a later run, or a lease that is taken again
        elif info.activity_type in _ENDS:
            self._ended.add(operation)
        ended = operation in self._ended
        if self._control.is_on(LATE_ATTEMPTS):
            latest = None if ended else next((one for one in reversed(made) if one[1] == "mesh.apply"), None)
            last_run = next((one[0] for one in reversed(made) if one[1] == "mesh.acquire"), "")
            for earlier in list(made):
                # The latest write may be made again, and the latest run finds what it took.
                if earlier is not latest and not (earlier[1] == "mesh.acquire" and earlier[0] == last_run):
                    await self._try(operation, earlier[1], earlier[2])

    async def _try(self, operation: str, name: str, call: Call) -> None:
        try:
            await call()
        except MeshError:
            return  # refused, as it must be
        self._control.landed(operation, name)

    def _call(self, name: str, request: Any, asked: float) -> Call | None:
        if name == "mesh.acquire" and isinstance(request, AcquireRequest):
            mesh = self._mesh(request.target.mesh)
            return lambda: mesh.acquire(
                request.target,
                request.aspects,
                operation=request.operation,
                token=request.token,
                ttl=request.ttl,
                planned_end=request.planned_end,
                asked=asked,
            )
        if name == "mesh.apply" and isinstance(request, ApplyRequest):
            mesh = self._mesh(request.lease.target.mesh)
            return lambda: mesh.apply(request.lease, request.changes, request.by)
        if name == "mesh.commit" and isinstance(request, EndRequest):
            mesh = self._mesh(request.lease.target.mesh)
            return lambda: _unless_done(mesh.commit(request.lease, request.by))
        return None

    def _mesh(self, name: str) -> Mesh:
        return self._meshes[name].mesh


class _Nothing(MeshError):
    """The commit had been made before: it did nothing."""


async def _unless_done(commit: Awaitable[object]) -> None:
    if await commit is None:
        raise _Nothing
