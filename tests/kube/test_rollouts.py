"""Rollouts over a real API server, istiod and Envoys, judged by what clients met."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from autopilot.mesh.kube.api import KubeApi
from autopilot.report import Outcome
from starter.operations import start_canary
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


async def test_a_good_version_is_promoted_and_nobody_loses_a_request(stage: Stage) -> None:
    before = await stage.counts()
    report = await (await start_canary(stage.client, stage.rollout("good", STEPS))).result()
    assert (report.outcome, report.reason) == (Outcome.PROMOTED, report.reason)
    after = await stage.counts()
    assert after["failures"] == before["failures"]
    assert after["dropped"] == before["dropped"]
    assert stage.written() == ([0, 100], {})


async def test_a_bad_version_is_rolled_back_and_nothing_of_it_stays(stage: Stage) -> None:
    original = stage.written()
    await stage.behave("v2", errors=0.2)
    report = await (await start_canary(stage.client, stage.rollout("bad", STEPS))).result()
    assert report.outcome is Outcome.ROLLED_BACK
    assert stage.written() == original
    assert 0 < report.exposure.failures <= report.exposure.requests
    served = await stage.served("v2")
    await stage.flowing()
    assert await stage.served("v2") == served
