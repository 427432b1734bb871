"""Experiments in a cluster from start to end: our workflow, istiod, real sidecars, a real Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from autopilot.mesh.kube.client.client import KubeApi
from autopilot.mesh.kube.client.resources import VIRTUAL_SERVICE
from autopilot.operations.common import Caller, Command, Outcome
from autopilot.operations.experiment_status import Verdict
from autopilot.reports.experiment import ExperimentInput, ExperimentReport
from autopilot.spec.chaos.experiment import ExperimentSpec
from starter.client import operations
from starter.client.start import start_operation
from tests.kube.stage import Stage, staged
from tests.lab.find import Cluster

pytestmark = [pytest.mark.timeout(150)]
ONE_IN_TEN = {"headers": {"end-user": {"regex": "user-.*7"}}}


@pytest.fixture
async def istio(
    request: pytest.FixtureRequest, lab: Cluster, api: KubeApi, dev_server: WorkflowEnvironment, tmp_path: Path
) -> AsyncIterator[Stage]:
    """`web` calls `reviews` under load; the parameter is the driver."""
    namespace, driver = request.getfixturevalue("namespace"), getattr(request, "param", "plain")
    async with staged(
        api, namespace, "istio", dev_server.client, tmp_path, kubeconfig=lab.kubeconfig, rate=100, driver=driver
    ) as made:
        await made.flowing()
        yield made


def experiment(on: Stage, name: str, fault: dict[str, Any], scope: dict[str, Any], **spec: Any) -> ExperimentInput:
    """A fault over reviews; that clients get answers is believed."""
    probe = {
        "name": "answers",
        "type": "mesh",
        "metric": "successRate",
        "window": 5,
        "least": 10,
        "missing": 60,
        "tolerance": {"min": 0},
    }
    written = {
        "target": {"service": "reviews"},
        "scope": scope,
        "hypothesis": {"probes": [probe]},
        "method": [{"faults": [{"fault": fault}], "hold": 8}],
        "safety": {"maxTraffic": 50, "maxFailures": 5000},
        "settle": 0.5,
        "deadline": 300,
        **spec,
    }
    return ExperimentInput(
        mesh="lab", namespace=on.scene.namespace, name=name, spec=ExperimentSpec.model_validate(written)
    )


async def run(on: Stage, wanted: ExperimentInput) -> ExperimentReport:
    return await asyncio.wait_for((await start_operation(on.client, wanted)).result(), 100)


def routes(on: Stage) -> tuple[Any, dict[str, str]]:
    """The user's rules, and the annotations of their VirtualService."""
    body = on.api.get(VIRTUAL_SERVICE, "reviews", on.scene.namespace)
    assert body is not None
    return body["spec"]["http"], body["metadata"].get("annotations") or {}


@pytest.mark.parametrize(
    ("istio", "tier", "fault"),
    [
        ("plain", "B", {"type": "delay", "delay": 0.3}),
        ("plain", "B", {"type": "abort", "status": 503}),
        ("envoyfilter", "A", {"type": "delay", "delay": 0.3}),
        ("envoyfilter", "A", {"type": "abort", "status": 503}),
    ],
    indirect=["istio"],
)
async def test_a_fault_for_some_users_is_met_seen_and_taken_back(
    istio: Stage, tier: str, fault: dict[str, Any]
) -> None:
    before = routes(istio)
    report = await run(istio, experiment(istio, f"some-{tier.lower()}-{fault['type']}", fault, ONE_IN_TEN))
    assert (report.verdict, report.outcome) == (Verdict.PASS, Outcome.PASSED), report.reason
    (effect,) = report.steps[0].effects
    assert effect.requests > 5
    assert effect.tier == tier
    assert effect.share is not None
    assert 3 < effect.share < 25
    assert routes(istio) == before
    await istio.flowing()


async def test_a_no_op_does_not_pass_in_a_cluster_either(istio: Stage) -> None:
    nobody = {"headers": {"end-user": {"exact": "nobody-is-called-so"}}}
    report = await run(istio, experiment(istio, "no-op", {"type": "abort"}, nobody))
    assert (report.verdict, report.outcome) == (Verdict.VOID, Outcome.VOID), report.reason


async def test_an_abort_gives_the_routes_back(istio: Stage) -> None:
    before = routes(istio)
    spec = {"method": [{"faults": [{"fault": {"type": "abort", "status": 503}}], "hold": 100}]}
    wanted = experiment(istio, "aborted", {"type": "abort"}, ONE_IN_TEN, **spec)
    handle = await start_operation(istio.client, wanted)
    await istio.until(lambda: routes(istio) != before)
    await operations.abort(istio.client, wanted.workflow_id, Command(caller=Caller(who="ann"), reason="enough"))
    assert routes(istio) == before
    assert (await handle.result()).outcome is Outcome.ABORTED


async def test_what_a_provider_cannot_say_is_refused_with_the_nearest(istio: Stage) -> None:
    report = await run(istio, experiment(istio, "unsayable", {"type": "bandwidth", "limit": 8}, {"percentage": 10}))
    assert (report.verdict, report.outcome) == (Verdict.VOID, Outcome.VOID)
    assert "nothing was written" in report.reason
    assert "delay" in report.reason
