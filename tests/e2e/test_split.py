"""Requests that go around the proxies which share traffic out: seen at the other end, and named."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from autopilot.mesh.envoy.mesh_file import read_mesh
from autopilot.operations.common import Outcome
from autopilot.reports.canary import CanaryInput
from autopilot.spec.canary import CanarySpec
from starter.client.start import start_operation
from tests.e2e.conftest import Lab
from tests.e2e.test_rollouts import watched

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@contextlib.asynccontextmanager
async def calling(lab: Lab, url: str, rate: float) -> AsyncIterator[None]:
    """A client that knows an address of its own."""

    async def one() -> None:
        async with lab.session.get(url) as response:
            await response.read()

    async def forever() -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(one())
                await asyncio.sleep(1 / rate)

    client = asyncio.create_task(forever())
    try:
        yield
    finally:
        client.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await client


def direct(lab: Lab, proxy: str) -> str:
    """Where a sidecar takes requests for its application."""
    (found,) = (one for one in read_mesh(lab.info.mesh_file).spec.proxies if one.name == proxy)
    return f"http://{found.inbound[0].address}/"


async def test_a_client_that_calls_the_canary_directly_is_named_within_half_a_minute(lab: Lab) -> None:
    spec = {
        "target": {"service": "reviews"},
        "arms": {"stable": "v1", "canary": "v2"},
        "steps": [{"weight": 10, "hold": 60}],
        "onInconclusive": "rollback",
    }
    asked = CanaryInput(mesh="local", namespace="shop", name="bypassed", spec=CanarySpec.model_validate(spec))
    handle = await start_operation(lab.client, asked)
    await watched(lab, handle.id)
    await asyncio.sleep(8)  # nothing is found while nothing passes by
    assert not (await handle.describe()).close_time
    async with calling(lab, direct(lab, "reviews-v2"), 30):
        began = time.monotonic()
        report = await asyncio.wait_for(handle.result(), 60)
        took = time.monotonic() - began
    assert report.outcome is Outcome.INCONCLUSIVE
    assert report.reason.startswith("v2 is given ")
    assert report.reason.endswith(" requests/s that passed no proxy of this mesh")
    assert 20 <= float(report.reason.split()[3]) <= 35
    assert took < 30
    told = "learned from " if lab.info.prometheus else "nothing was learned from the time before the rollout: "
    assert [event.text for event in report.timeline if event.text.startswith(told)]
    assert bool(report.learned) == bool(lab.info.prometheus)
    assert await lab.weights() == {"v1": 100, "v2": 0}
