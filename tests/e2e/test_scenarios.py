"""Versions that fail where counters hide it, over real proxies and real traffic: found, and taken back."""

from __future__ import annotations

import asyncio

import pytest

from autopilot.local import topology
from autopilot.mesh.envoy.mesh_file import read_mesh, set_weights
from autopilot.mesh.envoy.prepare import prepare
from autopilot.operations.common import Outcome
from autopilot.reports.canary import CanaryInput
from autopilot.spec.canary import CanarySpec
from starter.client.start import start_operation
from tests.e2e.conftest import Lab, parsed, quiet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]


async def test_a_version_that_never_answers_is_taken_back(lab: Lab) -> None:
    played = await asyncio.to_thread(lab.cli, "demo", "canary-hang", "-o", "json")
    assert played.returncode == 0, played.stderr
    (result,) = parsed(played)["scenarios"]
    assert result["outcome"] == "RolledBack"
    assert result["seconds"] < 15
    # Nobody has seen a failure when it is found: those who wait are counted all the same, and are who fails later.
    assert 0 < result["exposure"]["failures"] <= result["exposure"]["requests"] < 100
    assert abs(result["client"]["failures"] - result["exposure"]["failures"]) <= 3
    await quiet(lab)
    assert await lab.weights() == {"v1": 100, "v2": 0}


async def test_failures_that_retries_hide_are_found_before_any_user_meets_one(lab: Lab) -> None:
    played = await asyncio.to_thread(lab.cli, "demo", "canary-behind-retries", "-o", "json")
    assert played.returncode == 0, played.stderr
    (result,) = parsed(played)["scenarios"]
    assert result["outcome"] == "RolledBack"
    assert result["seconds"] < 15
    assert result["exposure"]["requests"] > 0
    assert (result["exposure"]["failures"], result["client"]["failures"]) == (0, 0)
    assert await lab.weights() == {"v1": 100, "v2": 0}
    service = read_mesh(lab.info.mesh_file).spec.service("shop/reviews")
    assert service is not None
    assert service.retries == 0, "the scenario's retries end with it"


async def test_first_tries_that_fail_at_the_same_time_are_all_tried_again(lab: Lab) -> None:
    """As after a stall of the machine. Envoy's own limit is three retries at a time: the rest would fail."""
    file = lab.info.mesh_file
    mesh = read_mesh(file).spec
    (caller,) = (one for proxy in mesh.proxies if proxy.name == "web-v1" for one in proxy.outbound)
    await lab.behave("reviews-v2", first_tries=1.0)
    topology.set_retries(file, "shop/reviews", 2)
    set_weights(file, "shop/reviews", {"v1": 0, "v2": 100})
    prepare(file)
    try:
        served = await lab.served("reviews-v2")
        async with asyncio.timeout(20):
            while await lab.served("reviews-v2") == served:
                await asyncio.sleep(0.05)

        async def status() -> int:
            async with lab.session.get(f"http://{caller.address}/") as response:
                return response.status

        assert await asyncio.gather(*(status() for _ in range(60))) == [200] * 60
    finally:
        topology.set_retries(file, "shop/reviews", 0)
        await lab.behave("reviews-v2", first_tries=0.0)
        lab.reset()


async def test_a_hang_is_seen_through_prometheus_too(lab: Lab) -> None:
    await lab.behave("reviews-v2", hang=True)
    spec = {
        "target": {"service": "reviews"},
        "arms": {"stable": "v1", "canary": "v2"},
        "steps": [{"weight": 20, "hold": 30, "minRequests": 20}],
        "analysis": {"tick": 1, "warmup": 0, "detectAbsolute": 0.5, "source": "prometheus"},
    }
    rollout = CanaryInput(
        mesh="local", namespace="shop", name="prometheus-hang", spec=CanarySpec.model_validate(spec),
        heartbeat_timeout=5,
    )  # fmt: skip
    report = await asyncio.wait_for((await start_operation(lab.client, rollout)).result(), 60)
    assert (report.outcome, max(report.evidence, key=lambda one: one.harm - one.harm_needed).metric) == (
        Outcome.ROLLED_BACK,
        "latency",
    )
    assert report.reason.startswith("latency")
    assert report.ended - report.started < 14, "before any timeout of a proxy's has told"
    assert report.exposure.failures > 0
    await lab.behave("reviews-v2", hang=False)
    await quiet(lab)


async def test_with_everything_dead_the_traffic_heals_and_the_rollout_comes_back(lab: Lab) -> None:
    played = await asyncio.to_thread(lab.cli, "demo", "crash", "-o", "json")
    assert played.returncode == 0, played.stderr
    (result,) = parsed(played)["scenarios"]
    assert result["outcome"] == "Promoted"
    assert 0 < result["strike"]["healed"] <= result["strike"]["deadline"] + 1
    assert result["client"]["failures"] == 0
    assert await lab.weights() == {"v1": 0, "v2": 100}
