"""Rollouts over a real API server, istiod and Envoys, judged by what clients met."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import scipy.stats
from temporalio.testing import WorkflowEnvironment

from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.model import Aspect, SplitTraffic
from autopilot.operations.common import Outcome
from starter.client.start import start_operation
from tests.kube.stage import Stage, staged
from tests.lab.find import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture(params=["istio", "gateway_api"])
async def stage(
    request: pytest.FixtureRequest, lab: Cluster, api: KubeApi, dev_server: WorkflowEnvironment, tmp_path: Path
) -> AsyncIterator[Stage]:
    namespace = request.getfixturevalue("namespace")
    async with staged(
        api, namespace, request.param, dev_server.client, tmp_path, kubeconfig=lab.kubeconfig, rate=200
    ) as made:
        yield made


STEPS = [
    {"weight": 20, "hold": 5, "minRequests": 50},
    {"weight": 50, "hold": 5, "minRequests": 50},
    {"weight": 100, "hold": 3, "minRequests": 50},
]


def plausible(hits: int, total: int, share: float) -> bool:
    """Whether so many of so many lie within the binomial's two-sided 99.9 % interval."""
    low, high = scipy.stats.binom.interval(0.999, total, share)
    return bool(low <= hits <= high)


async def test_a_good_version_is_promoted_and_nobody_loses_a_request(stage: Stage) -> None:
    before = await stage.counts()
    report = await (await start_operation(stage.client, stage.rollout("good", STEPS))).result()
    assert report.outcome is Outcome.PROMOTED, report.reason
    after = await stage.counts()
    assert after["failures"] == before["failures"]
    assert after["dropped"] == before["dropped"]
    assert stage.written() == ([0, 100], {})


async def test_a_bad_version_is_rolled_back_and_nothing_of_it_stays(stage: Stage) -> None:
    original, before = stage.written(), await stage.counts()
    await stage.behave("v2", errors=0.2)
    report = await (await start_operation(stage.client, stage.rollout("bad", STEPS))).result()
    assert report.outcome is Outcome.ROLLED_BACK
    assert stage.written() == original
    assert 0 < report.exposure.failures <= report.exposure.requests
    served = await stage.served("v2")
    await stage.flowing()
    assert await stage.served("v2") == served
    # The version itself answers 500 and nothing else: no request was lost on the way there and back.
    after = await stage.counts()
    lost = {key: count - before["statuses"].get(key, 0) for key, count in after["statuses"].items()}
    assert {key for key, count in lost.items() if count} <= {"200", "500"}
    assert after["dropped"] == before["dropped"]


@pytest.mark.parametrize("weight", [1, 12.5, 50, 99])
async def test_the_proxies_share_out_what_was_set(stage: Stage, weight: float) -> None:
    mesh = stage.meshes["lab"].mesh
    stable, canary = stage.arms
    lease = await mesh.acquire(stage.target, [Aspect.TRAFFIC], operation="canary/lab/test/split", token="run", ttl=60)
    receipt = await mesh.apply(lease, [SplitTraffic(weights={stable: 100 - weight, canary: weight})])
    await mesh.verify(receipt)
    await stage.settled(canary, weight)
    before = [await stage.served(version) for version in ("v1", "v2")]
    await asyncio.sleep(6)  # what is measured is time's: 1,200 requests
    v1, v2 = [await stage.served(version) - had for version, had in zip(("v1", "v2"), before, strict=True)]
    assert v1 + v2 > 600
    assert plausible(v2, v1 + v2, weight / 100), (v1, v2)
    await mesh.lift(lease)


async def test_a_person_who_sets_the_weights_in_mid_rollout_has_them(stage: Stage) -> None:
    before, _ = stage.written()
    handle = await start_operation(
        stage.client, stage.rollout("taken", [{"weight": 20, "hold": 60, "minRequests": 50}])
    )
    await stage.until(lambda: sum(stage.written()[0][1:]) == 20)
    stage.edit_weight(1, 35)
    report = await asyncio.wait_for(handle.result(), 60)
    assert report.outcome is Outcome.TAKEN_OVER, report.reason
    assert "changed the weights" in report.reason
    assert stage.written() == ([80, 35], {})
    assert any("somebody else set" in entry.text for entry in report.timeline)
    stage.edit_weight(0, before[0])
    stage.edit_weight(1, before[1])
