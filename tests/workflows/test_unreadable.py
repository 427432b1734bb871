"""Beside a record of the next release, a rollout that did harm is restored by its own clean-up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.prepare import prepare
from autopilot.operations.common import Outcome
from tests.faults.events import next_release
from tests.mesh.conftest import MESH, REVIEWS, published
from tests.workflows.conftest import Lab, canary, effects_on, watches_on
from tests.workflows.fakes import HARM, Hold
from tests.workflows.test_order import Real

pytestmark = [pytest.mark.devserver, pytest.mark.timeout(120)]


async def test_the_workflow_itself_restores(dev_server: WorkflowEnvironment, tmp_path: Path) -> None:
    mesh_file = tmp_path / "mesh.yaml"
    mesh_file.write_text(MESH, encoding="utf-8")
    prepare(mesh_file)
    mesh = EnvoyMesh(mesh_file)
    base = published(mesh.ledger)
    go = asyncio.Event()
    world = Real(script=[Hold(until=go, then=HARM)], ledger=mesh.ledger, tries=1)
    async with effects_on(dev_server.client, world) as queue, watches_on(dev_server.client, world.watch):
        lab = Lab(dev_server.client, queue, world)
        handle = await lab.start(canary())
        async with asyncio.timeout(60):
            await world.watching.wait()
        assert mesh.ledger.weights(REVIEWS)["v2"] > 0
        written = next_release.write(mesh_file, "ratings")
        go.set()
        report = await asyncio.wait_for(handle.result(), 60)
    assert report.outcome is Outcome.ROLLED_BACK
    assert published(mesh.ledger) == base
    assert mesh.ledger.leases() == []
    assert await mesh.sweep() == []
    assert written.changed() == []
    await mesh.close()
