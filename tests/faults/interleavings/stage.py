"""Where interleavings are played: real workflows and activities over one service, a guard, and scripted watches.

A thread of its own runs all that is asynchronous, since hypothesis's machines are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from temporalio.client import Client, WorkflowFailureError
from temporalio.plugin import SimplePlugin
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner

from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.errors import MeshError
from autopilot.mesh.model import Receipt, Target
from autopilot.mesh_registry.meshes import AttachedMesh, Meshes
from autopilot.reports.canary import CanaryInput, CanaryReport
from autopilot.telemetry.hub import Hub
from starter.client.start import start_operation
from tests.faults.interleavings.scripted_watch import Quiet, Script, Scripted
from worker.main import working
from worker.plugin import AutopilotPlugin
from workflows.canary.workflow import CanaryWorkflow

_T = TypeVar("_T")
_LIMIT = 30.0


class Unproxied(EnvoyMesh):
    """A mesh of files that no proxy follows: what was written counts as taken."""

    async def verify(self, receipt: Receipt, *, timeout: float = 10.0) -> None:
        """Takes the file's word."""


class Stage:
    """One service of one mesh, and a worker that can be stopped and started."""

    def __init__(self, address: str, namespace: str, mesh_file: Path, reports: Path, *, proxies: bool) -> None:
        self.mesh_file = mesh_file
        self.reports = reports
        self.script = Script()
        self.mesh: EnvoyMesh = EnvoyMesh(mesh_file) if proxies else Unproxied(mesh_file)
        self.meshes = Meshes({self.mesh.name: AttachedMesh(mesh=self.mesh, proxies=Hub(Quiet()))})
        service = self.mesh.store.mesh.spec.services[0]
        self.target = Target(mesh=self.mesh.name, namespace=service.namespace, service=service.name)
        self.base = mesh_file.read_text(encoding="utf-8")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stage", daemon=True)
        self._thread.start()
        self._stack = contextlib.AsyncExitStack()
        self.client: Client = self.do(self._connect(address, namespace))
        self._sweeping = asyncio.run_coroutine_threadsafe(self._sweep(), self._loop)
        self.do(self._start_worker())

    def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs something asynchronous to its end."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, _LIMIT), self._loop).result()

    def close(self) -> None:
        """Ends everything."""
        self._sweeping.cancel()
        with contextlib.suppress(Exception):
            self.do(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def start(self, canary: CanaryInput) -> None:
        """Starts a rollout."""
        await start_operation(self.client, canary)

    async def restart_worker(self) -> None:
        """The worker is stopped and another started."""
        await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()
        await self._start_worker()

    def weights(self) -> dict[str, float]:
        """In force now, in percent."""
        return {arm.name: arm.weight for arm in self.do(self.mesh.observe(self.target)).arms}

    def base_weight(self) -> float:
        """Version 2's percent in `mesh.yaml`."""
        found = self.mesh.store.mesh.spec.service(self.target.ref)
        assert found is not None
        return found.weights.get("v2", 0.0)

    async def running(self, operation: str) -> bool:
        """Whether Temporal says that it is under way."""
        description = await self.client.get_workflow_handle(operation).describe()
        return description.status is not None and description.status.name == "RUNNING"

    async def outcome(self, operation: str) -> CanaryReport | None:
        """Its report; None where it was closed from outside."""
        try:
            return await self.client.get_workflow_handle_for(CanaryWorkflow.run, operation).result()
        except (WorkflowFailureError, RPCError):
            return None

    async def until_running_is(self, operation: str, wanted: bool, limit: float) -> bool:
        """Waits for it to end, or to be under way; says whether it did."""
        end = time.monotonic() + limit
        while await self.running(operation) is not wanted:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.02)
        return True

    async def unheld(self, limit: float) -> bool:
        """Waits until nobody holds a lease; says whether that came."""
        end = time.monotonic() + limit
        while await self.mesh.leases():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.02)
        return True

    async def restore(self) -> None:
        """The base as it was."""
        if self.mesh_file.read_text(encoding="utf-8") != self.base:
            with self.mesh.store.locked():
                temporary = self.mesh_file.with_suffix(".new")
                temporary.write_text(self.base, encoding="utf-8")
                temporary.replace(self.mesh_file)
            await self.mesh.sweep()

    async def _connect(self, address: str, namespace: str) -> Client:
        suite = SimplePlugin(
            "interleavings",
            interceptors=[Scripted(self.script, self.meshes)],
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        return await Client.connect(address, namespace=namespace, plugins=[AutopilotPlugin(), suite])

    async def _start_worker(self) -> None:
        await self._stack.enter_async_context(
            working(self.client, self.meshes, reports=self.reports, heartbeat_every=0.05)
        )

    async def _sweep(self) -> None:
        """What `autopilot guard` does."""
        while True:
            with contextlib.suppress(MeshError):
                await self.mesh.sweep()
            await asyncio.sleep(0.25)
