"""Who restores when somebody dies, with real processes and real traffic; `make bench-deaths` measures how soon."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from autopilot.mesh.kube.client.client import KubeApi
from autopilot.operations.common import Outcome
from autopilot.reports.canary import CanaryInput
from starter.client.start import start_operation
from tests.kube.stage import Stage, staged
from tests.lab.find import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

TTL = 8.0
LIMIT = 60.0
"""Seconds that anything here is waited for."""


@pytest.fixture(params=["istio", "gateway_api"])
async def stage(
    request: pytest.FixtureRequest, lab: Cluster, api: KubeApi, dev_server: WorkflowEnvironment, tmp_path: Path
) -> AsyncIterator[Stage]:
    namespace = request.getfixturevalue("namespace")
    async with staged(
        api,
        namespace,
        request.param,
        dev_server.client,
        tmp_path,
        kubeconfig=lab.kubeconfig,
        rate=50,
        worker=request.node.get_closest_marker("no_worker") is None,
    ) as made:
        yield made


def held(stage: Stage, name: str, hold: float) -> CanaryInput:
    """A rollout that stays at 20 % for a while."""
    asked = stage.rollout(name, [{"weight": 20, "hold": hold, "minRequests": 20}, {"weight": 100, "hold": 1}])
    return asked.model_copy(update={"ttl": TTL, "heartbeat_timeout": 2.0})


async def shifted(stage: Stage) -> None:
    """Waits until the canary gets its share."""
    await stage.until(lambda: stage.written()[0][1] == 20, 60)


async def at_base(stage: Stage) -> None:
    """Waits until the route is what it was, with no mark on it, and nobody meets the canary any more."""
    await stage.until(lambda: stage.written() == ([100, 0], {}), LIMIT)
    await stage.flowing()
    served = await stage.served("v2")
    await stage.flowing()
    assert await stage.served("v2") == served


async def test_a_terminated_rollout_is_restored_by_its_guard_workflow(stage: Stage) -> None:
    handle = await start_operation(stage.client, held(stage, "terminated", 60))
    await shifted(stage)
    await handle.terminate("a test")
    await at_base(stage)


@pytest.mark.no_worker
async def test_with_worker_and_rollout_gone_any_guard_restores(stage: Stage, tmp_path: Path) -> None:
    worker, guard = stage.process("worker", tmp_path), stage.process("guard", tmp_path)
    try:
        await start_operation(stage.client, held(stage, "orphaned", 60))
        await shifted(stage)
        worker.send(signal.SIGKILL)
        await worker.wait()
        await at_base(stage)
    finally:
        await asyncio.gather(worker.stop(1), guard.stop(1))


@pytest.mark.no_worker
async def test_another_worker_goes_on_where_one_was_killed(stage: Stage, tmp_path: Path) -> None:
    first = stage.process("worker", tmp_path)
    second = None
    try:
        before = await stage.counts()
        handle = await start_operation(stage.client, held(stage, "continued", 12).model_copy(update={"ttl": 60.0}))
        await shifted(stage)
        first.send(signal.SIGKILL)
        await first.wait()
        second = stage.process("worker", tmp_path)
        report = await asyncio.wait_for(handle.result(), 120)
        assert report.outcome is Outcome.PROMOTED, report.reason
        assert stage.written() == ([0, 100], {})
        assert (await stage.counts())["failures"] == before["failures"]
    finally:
        await asyncio.gather(*(one.stop(1) for one in (first, second) if one is not None))
