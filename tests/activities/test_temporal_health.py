"""Temporal that answers with an error, refuses, hangs, or has nobody to take a workflow's tasks: each is told apart."""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs
from temporalio import workflow
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities import workflow_checks
from activities.canary.analysis_run import AnalysisRun
from activities.server_answers import TemporalState, ask
from activities.temporal_health import TemporalHealth
from autopilot.mesh.leases.overrides import LeaseOrders
from autopilot.mesh.model import Lease, Target
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.observability.metrics import REGISTRY
from autopilot.telemetry.hub import Hub
from tests.activities.test_waiting import harm_after, watch_request
from tests.conftest import binary
from tests.telemetry.fakes import ScriptedSource


class Health:
    """A client whose server answers its health check as told."""

    def __init__(self, answer: bool | RPCStatusCode) -> None:
        self.answer = answer
        self.asked = 0

    @property
    def service_client(self) -> Health:
        return self

    async def check_health(self, **_: Any) -> bool:
        self.asked += 1
        if isinstance(self.answer, RPCStatusCode):
            raise RPCError("said no", self.answer, b"")
        return self.answer


class Renewed:
    """A mesh whose leases are renewed at once."""

    async def renew(self, lease: Lease) -> LeaseOrders:
        return LeaseOrders()

    async def ready(self, target: Target, arms: Sequence[str]) -> dict[str, int]:
        return {}


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (RPCStatusCode.UNIMPLEMENTED, "answers"),
        (RPCStatusCode.PERMISSION_DENIED, "answers"),
        (RPCStatusCode.UNAUTHENTICATED, "answers"),
        (RPCStatusCode.NOT_FOUND, "answers"),
        (RPCStatusCode.INVALID_ARGUMENT, "answers"),
        (RPCStatusCode.RESOURCE_EXHAUSTED, "answers"),
        (RPCStatusCode.UNAVAILABLE, "refused"),
        (RPCStatusCode.UNKNOWN, "refused"),
        (RPCStatusCode.INTERNAL, "refused"),
        (RPCStatusCode.DEADLINE_EXCEEDED, "hangs"),
        (RPCStatusCode.CANCELLED, "hangs"),
    ],
)
async def test_which_errors_are_answers(status: RPCStatusCode, state: TemporalState) -> None:
    answer = await ask(Health(status).check_health(), 1)
    assert (answer.state, answer.status) == (state, status)
    assert answer.error == f"{status.name}: said no"


async def test_a_call_that_does_not_end_is_given_up() -> None:
    async with asyncio.timeout(5):
        assert (await ask(asyncio.Event().wait(), 0.05)).state == "hangs"


@pytest.mark.parametrize(
    ("answer", "state", "silent"),
    [
        (True, "answers", False),
        (RPCStatusCode.UNIMPLEMENTED, "answers", False),
        (RPCStatusCode.PERMISSION_DENIED, "answers", False),
        (RPCStatusCode.UNAVAILABLE, "refused", True),
        (RPCStatusCode.DEADLINE_EXCEEDED, "hangs", True),
        (False, "refused", True),
    ],
)
async def test_a_server_that_answers_with_an_error_is_not_silent(
    answer: bool | RPCStatusCode, state: TemporalState, silent: bool
) -> None:
    now, server = 1000.0, Health(answer)
    health = TemporalHealth(lambda: now)
    now += 130
    with capture_logs() as logged:
        async with health.following(server, every=0.01), asyncio.timeout(5):  # type: ignore[arg-type]
            while server.asked < 3:
                await asyncio.sleep(0.01)
    assert [one.get("state") for one in logged] == ([state] if silent else []), "said once"
    assert health.state == state
    assert health.silent == (130 if silent else 0)
    assert REGISTRY.get_sample_value("autopilot_temporal_silent_seconds") == health.silent


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def dev_server_of_its_own(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that may be stopped and killed."""
    command = [binary("temporal"), "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Client, subprocess.Popen[bytes]]]:
    port = free_port()
    with dev_server_of_its_own(port) as process:
        async with asyncio.timeout(20):
            while True:
                try:
                    client = await Client.connect(f"127.0.0.1:{port}")
                    break
                except RuntimeError:
                    await asyncio.sleep(0.1)
        yield client, process


@pytest.mark.devserver
@pytest.mark.parametrize(("how", "state"), [(signal.SIGSTOP, "hangs"), (signal.SIGKILL, "refused")])
async def test_the_judge_goes_on_while_temporal_is_away(
    how: signal.Signals, state: TemporalState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow_checks, "_EVERY", 0.1)  # as if there were many watches
    beats: list[float] = []
    health = TemporalHealth()
    async with connected() as (client, process), Hub(ScriptedSource(harm_after(10_000))) as hub:
        attached = AttachedMesh(mesh=Renewed(), proxies=hub)  # type: ignore[arg-type]
        watching = AnalysisRun(watch_request(), attached, health, None)
        async with health.following(client, every=0.5), asyncio.timeout(40):
            running = asyncio.create_task(watching.run(lambda _: beats.append(time.monotonic())))
            while len(beats) < 3:
                await asyncio.sleep(0.05)
            process.send_signal(how)
            while health.state != state or len(beats) < 12:
                await asyncio.sleep(0.05)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    gaps = [after - before for before, after in itertools.pairwise(beats)]
    assert max(gaps) <= 0.5 + 1.5, "one tick, and the stall that is allowed"


@workflow.defn
class Waits:
    """Does nothing, until it is told to end."""

    def __init__(self) -> None:
        self.over = False

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.over)

    @workflow.signal
    def end(self) -> None:
        self.over = True


@pytest.mark.devserver
async def test_a_workflow_without_a_worker_is_told_from_one_that_runs_has_ended_or_never_was(
    dev_server: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow_checks, "_EVERY", 0.1)
    monkeypatch.setattr(workflow_checks, "_TAKEN", 0.5)
    client, queue, health = dev_server.client, str(uuid.uuid4()), TemporalHealth()

    async def becomes(workflow_id: str, state: workflow_checks.WorkflowState) -> None:
        async with asyncio.timeout(20):
            while health.workflow(workflow_id).state != state:
                await asyncio.sleep(0.05)

    async with health.following(client):
        worker = Worker(
            client,
            task_queue=queue,
            workflows=[Waits],
            workflow_runner=UnsandboxedWorkflowRunner(),
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
        )
        handle = await client.start_workflow(Waits.run, id=f"canary/{queue}", task_queue=queue)
        await becomes(handle.id, "notPolled")
        assert health.parked(handle.id) >= 0.5
        async with worker:
            await becomes(handle.id, "runs")
            assert health.parked(handle.id) == 0
        await handle.signal(Waits.end)
        await becomes(handle.id, "notPolled")
        await handle.terminate()  # Temporal still shows the task that waits
        await becomes(handle.id, "closed")
        await becomes("canary/never", "gone")
