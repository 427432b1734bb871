"""Numbers what an operation does, and can hold it at any of it: before, during and after activities and signals.

Holding stands for an instant, so nothing may age meanwhile: whoever is held keeps its lease renewed and its heartbeat
alive until it is let go or killed. (A lease that is condemned or being committed cannot be renewed, nor here.)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from temporalio import activity, workflow
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    HandleSignalInput,
    Interceptor,
    SignalExternalWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from autopilot.mesh.errors import MeshError
from autopilot.mesh.model import Lease
from autopilot.mesh_registry.meshes import Meshes
from autopilot.operations.task_queues import operation_queue
from tests.faults.events.late_attempts import LateAttempts
from tests.faults.events.switches import SLOTS_TAKEN
from tests.faults.world.control import Control

_LOOK = 0.02
"""Seconds between looks whether the one that is held may go on."""
_KEEP = 0.5
"""Seconds between signs of life of the one that is held."""
_GUARD = "guard/"
_LOOKS = ("operation.last_heartbeat", "mesh.held")
"""Activities that change nothing and come when they like: no points of a walk."""


def operation_of(workflow_id: str) -> tuple[str, str]:
    """The operation that a workflow belongs to, and what its points' names begin with."""
    if workflow_id.startswith(_GUARD):
        return "/".join(workflow_id.removeprefix(_GUARD).split("/")[:4]), "guard "
    return workflow_id, ""


class Points(Interceptor):
    """Given to the worker's client: every worker made with it takes part."""

    def __init__(self, control: Control, meshes: Meshes) -> None:
        self.control = control
        self.meshes = meshes
        self._numbers: dict[tuple[str, str], list[str]] = {}
        self.late = LateAttempts(control, meshes)

    def label(self, operation: str, name: str, key: str) -> str:
        """`name` with how many of that name the operation has had; the same `key` (a retry) has the same number."""
        keys = self._numbers.setdefault((operation, name), [])
        if key not in keys:
            keys.append(key)
        return f"{name} {keys.index(key) + 1}"

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Activity(next, self)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:  # noqa: A002
        points = self

        class Signals(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(_Sending(outbound, points))

            async def handle_signal(self, input: HandleSignalInput) -> None:  # noqa: A002
                operation, prefix = operation_of(workflow.info().workflow_id)
                points.stand_in_workflow(operation, f"before {prefix}hears {input.signal}")
                await super().handle_signal(input)
                points.stand_in_workflow(operation, f"after {prefix}hears {input.signal}")

        return Signals

    def stand_in_workflow(self, operation: str, label: str) -> None:
        """Blocks the thread of a workflow task; the worker must run without deadlock detection."""
        if workflow.unsafe.is_replaying():
            return
        with workflow.unsafe.sandbox_unrestricted():
            if self.control.passes(operation, label):
                while not self.control.may_go(operation):
                    time.sleep(_LOOK)


class _Sending(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, points: Points) -> None:  # noqa: A002
        super().__init__(next)
        self._points = points

    async def signal_external_workflow(self, input: SignalExternalWorkflowInput) -> None:  # noqa: A002
        operation, _ = operation_of(workflow.info().workflow_id)
        self._points.stand_in_workflow(operation, f"before sending {input.signal}")
        await super().signal_external_workflow(input)
        self._points.stand_in_workflow(operation, f"after sending {input.signal}")


class _Activity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, points: Points) -> None:  # noqa: A002
        super().__init__(next)
        self._points = points
        self._beats: _Beats | None = None
        self._name = self._operation = ""

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        self._beats = _Beats(outbound, self)
        super().init(self._beats)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        info = activity.info()
        if info.activity_type in _LOOKS:
            return await super().execute_activity(input)
        await self._wait_for_a_slot(info.task_queue)
        self._operation, prefix = operation_of(info.workflow_id or "")
        key = f"{info.workflow_run_id}/{info.activity_id}"
        self._name = self._points.label(self._operation, prefix + info.activity_type, key)
        lease = getattr(input.args[0], "lease", None) if input.args else None
        if self._passes("before"):
            await self._stand(lease)
        result = await super().execute_activity(input)
        if isinstance(result, Lease):
            lease = result
        held_during = self._beats is not None and self._beats.held
        if self._passes("after") or held_during:
            # It is done: a request to cancel comes too late.
            while not self._points.control.may_go(self._operation):
                with contextlib.suppress(asyncio.CancelledError):
                    await self._stand(lease)
        await self._points.late.after(self._operation, input.args[0] if input.args else None)
        return result

    async def _wait_for_a_slot(self, queue: str) -> None:
        """While the switch is on, every slot of the queues of short effects is taken."""
        control = self._points.control
        while control.is_on(SLOTS_TAKEN) and queue.startswith(operation_queue("")):
            if activity.info().heartbeat_timeout and self._beats is not None:
                self._beats.repeat()  # it has not begun: nobody takes it for dead
            await asyncio.sleep(5 * _LOOK)

    def during(self) -> bool:
        """The activity has begun to say how it goes; says whether it is to be held at its end."""
        return self._passes("during")

    def _passes(self, when: str) -> bool:
        return self._points.control.passes(self._operation, f"{when} {self._name}")

    async def _stand(self, lease: Lease | None) -> None:
        kept = 0.0
        while not self._points.control.may_go(self._operation):
            if time.monotonic() - kept > _KEEP:
                kept = time.monotonic()
                if activity.info().heartbeat_timeout and self._beats is not None:
                    self._beats.repeat()
                if lease is not None:
                    with contextlib.suppress(MeshError):
                        await self._points.meshes[lease.target.mesh].mesh.renew(lease)
            await asyncio.sleep(_LOOK)


class _Beats(ActivityOutboundInterceptor):
    """Sees the heartbeats: after the second one an activity is in the midst of what it does."""

    def __init__(self, next: ActivityOutboundInterceptor, owner: _Activity) -> None:  # noqa: A002
        super().__init__(next)
        self._owner = owner
        self._count = 0
        self._last: tuple[Any, ...] | None = None
        self.held = False

    def heartbeat(self, *details: Any) -> None:
        self._last = details
        super().heartbeat(*details)
        self._count += 1
        if self._count == 2:
            self.held = self._owner.during()

    def repeat(self) -> None:
        """Once more what was said last."""
        super().heartbeat(*(activity.info().heartbeat_details if self._last is None else self._last))
