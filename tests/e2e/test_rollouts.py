"""Promises of the README over real proxies and real traffic, judged by what clients met."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time

import pytest

from autopilot.evidence.tick_codec import unpack
from autopilot.local.record import Condition
from autopilot.operations.common import Command, Outcome, Phase
from autopilot.reports.canary import CanaryInput
from autopilot.spec.canary import CanarySpec
from starter.client.operations import progress
from starter.client.start import start_operation
from tests.e2e.conftest import Lab, parsed, quiet
from workflows.canary.workflow import CanaryWorkflow

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

SPEC = """\
apiVersion: meshautopilot.io/v1alpha1
kind: MeshCanary
metadata: {name: reviews, namespace: shop}
spec:
  target: {service: reviews}
  arms: {stable: v1, canary: v2}
  steps: [{weight: 20, hold: 60s, minRequests: 20}]
  analysis: {tick: 500ms, warmup: 0s, detectAbsolute: 50%}
"""


def rollout(name: str, *, hold: float, ttl: float = 120) -> CanaryInput:
    spec = {
        "target": {"service": "reviews"},
        "arms": {"stable": "v1", "canary": "v2"},
        "steps": [{"weight": 30, "hold": hold, "minRequests": 20}, {"weight": 100, "hold": 1, "minRequests": 20}],
        "analysis": {"tick": 0.5, "warmup": 0, "detectAbsolute": 0.5},
    }
    return CanaryInput(
        mesh="local", namespace="shop", name=name, spec=CanarySpec.model_validate(spec), ttl=ttl, heartbeat_timeout=5
    )


async def watched(lab: Lab, workflow_id: str) -> None:
    """Waits until the rollout's watch has said something."""
    async with asyncio.timeout(30):
        while await progress(lab.client, workflow_id) is None:
            await asyncio.sleep(0.05)


async def test_the_demo_promotes_the_good_and_rolls_back_the_bad(lab: Lab) -> None:
    played = await asyncio.to_thread(lab.cli, "demo", "canary-good", "canary-bad", "-o", "json")
    assert played.returncode == 0, played.stderr
    good, bad = parsed(played)["scenarios"]
    assert (good["name"], good["outcome"], good["client"]["failures"]) == ("canary-good", "Promoted", 0)
    assert (bad["name"], bad["outcome"]) == ("canary-bad", "RolledBack")
    assert 0 < bad["exposure"]["failures"] <= bad["exposure"]["requests"] < 300
    assert bad["client"]["failures"] <= bad["exposure"]["failures"] + 2  # nobody failed who was not on the canary
    async with lab.session.get(bad["ui"]) as page:
        assert page.status == 200
    for scenario in (good, bad):
        replayed = await asyncio.to_thread(lab.cli, "judge", "replay", scenario["workflow_id"], "-o", "json")
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        watches = parsed(replayed)["watches"]
        assert all(watch["ticks"] > 0 and watch["agrees"] for watch in watches)
    await quiet(lab)
    assert await lab.weights() == {"v1": 100, "v2": 0}


async def test_a_killed_worker_comes_back_and_finishes_the_same_rollout(lab: Lab) -> None:
    before = await lab.counts()
    handle = await start_operation(lab.client, rollout("killed-worker", hold=8))
    await watched(lab, handle.id)
    killed = lab.info.parts["worker"].pid
    assert killed
    os.kill(killed, signal.SIGKILL)
    assert await lab.weights() == {"v1": 70, "v2": 30}
    await lab.part("worker", Condition.READY, other_than=killed)
    assert await lab.weights() == {"v1": 70, "v2": 30}, "a restart of the worker must not move traffic"
    outcome = await asyncio.wait_for(handle.result(), 90)
    assert outcome.outcome is Outcome.PROMOTED
    assert (await handle.describe()).run_id == handle.result_run_id
    assert await lab.weights() == {"v1": 0, "v2": 100}
    assert (await lab.counts())["failures"] == before["failures"]


async def test_with_everything_of_ours_killed_the_split_dies_at_its_deadline(lab: Lab) -> None:
    before = await lab.counts()
    handle = await start_operation(lab.client, rollout("all-killed", hold=100, ttl=8))
    await watched(lab, handle.id)
    for name in ("worker", "guard", "temporal"):
        await lab.command(name, "kill")
    (status,) = await lab.mesh.leases()
    assert status.deadline is not None
    assert time.time() < status.deadline <= time.time() + 8
    served = await lab.served("reviews-v2")
    await asyncio.sleep(min(1.0, status.deadline - time.time() - 0.5))
    assert await lab.served("reviews-v2") > served, "before the deadline the split stands"
    while time.time() < status.deadline + 0.3:
        await asyncio.sleep(0.05)
    served = await lab.served("reviews-v2")
    handled = (await lab.counts())["requests"]
    while (await lab.counts())["requests"] < handled + 100:
        await asyncio.sleep(0.05)
    assert await lab.served("reviews-v2") == served, "after the deadline nobody may meet the canary"
    assert (await lab.counts())["failures"] == before["failures"]

    for name in ("temporal", "worker", "guard"):
        await lab.command(name, "start")
    for name in ("temporal", "worker", "guard"):
        await lab.part(name, Condition.READY)
    # Somebody is back: the step it was on is laid again, under a higher number, and goes on being judged.
    async with asyncio.timeout(60):
        while [lease.lease.holder.fencing for lease in await lab.mesh.leases()] != [status.lease.holder.fencing + 1]:
            await asyncio.sleep(0.1)
        while await lab.weights() != {"v1": 70, "v2": 30}:
            await asyncio.sleep(0.1)
    back = lab.client.get_workflow_handle_for(CanaryWorkflow.run, handle.id)
    await back.execute_update("abort", Command(reason="seen enough"), result_type=str)
    assert (await back.result()).outcome is Outcome.ABORTED
    assert await lab.mesh.leases() == []
    assert await lab.weights() == {"v1": 100, "v2": 0}


async def test_a_held_target_is_refused_by_name_and_nothing_is_written(lab: Lab) -> None:
    first = await asyncio.to_thread(lab.cli, "apply", "-f", "-", stdin=SPEC)
    assert first.returncode == 0, first.stderr
    workflow_id = "canary/local/shop/reviews"
    await watched(lab, workflow_id)
    files = {path: path.read_bytes() for path in lab.info.mesh_file.parent.rglob("routes-*.json")}
    second = await asyncio.to_thread(lab.cli, "apply", "-f", "-", stdin=SPEC.replace("name: reviews,", "name: other,"))
    assert second.returncode == 1
    assert workflow_id in second.stderr
    same = await asyncio.to_thread(lab.cli, "apply", "-f", "-", stdin=SPEC)
    assert same.returncode == 1
    assert workflow_id in same.stderr
    assert {path: path.read_bytes() for path in files} == files
    aborted = await asyncio.to_thread(lab.cli, "abort", "reviews", "--reason", "enough")
    assert aborted.returncode == 0, aborted.stderr
    assert await lab.weights() == {"v1": 100, "v2": 0}
    status = await asyncio.to_thread(lab.cli, "status", "reviews", "--timeout", "10s")
    assert status.returncode == 4


async def test_our_own_metrics_are_scraped(lab: Lab) -> None:
    handle = await start_operation(lab.client, rollout("metrics", hold=2))
    await handle.result()
    if lab.info.prometheus is None:
        pytest.fail("there is no Prometheus; `make install` says why")
    queries = (
        'autopilot_operations_total{kind="MeshCanary",outcome="Promoted"}',
        "autopilot_guard_last_sweep_timestamp_seconds",
        "envoy_cluster_upstream_rq_completed",
    )
    async with asyncio.timeout(20):
        for query in queries:
            while True:
                async with lab.session.get(f"{lab.info.prometheus}/api/v1/query", params={"query": query}) as response:
                    if (await response.json())["data"]["result"]:
                        break
                await asyncio.sleep(0.2)


def through_prometheus(name: str, **analysis: object) -> CanaryInput:
    written = rollout(name, hold=3).spec.model_dump(by_alias=True)
    written["analysis"] = {"tick": 1, "warmup": 0, "detectAbsolute": 0.5, "source": "prometheus", **analysis}
    spec = CanarySpec.model_validate(written)
    return CanaryInput(mesh="local", namespace="shop", name=name, spec=spec, heartbeat_timeout=5)


async def test_prometheus_judges_as_the_proxies_do(lab: Lab) -> None:
    await lab.behave("reviews-v2", errors=0.5)
    bad = await (await start_operation(lab.client, through_prometheus("prometheus-bad"))).result()
    assert (bad.outcome, bad.evidence[0].metric) == (Outcome.ROLLED_BACK, "errors")
    await lab.behave("reviews-v2", errors=0.0)
    good = await (await start_operation(lab.client, through_prometheus("prometheus-good"))).result()
    assert good.outcome is Outcome.PROMOTED
    assert good.exposure.requests > 40


async def test_a_threshold_of_the_users_own_is_harm(lab: Lab) -> None:
    query = (
        'sum(envoy_cluster_upstream_rq_completed{envoy_cluster_name="outbound/{{namespace}}/{{service}}/{{stable}}"})'
    )
    metric = {"type": "promql", "name": "ours", "query": query, "max": 0, "interval": "500ms", "failures": 2}
    report = await (await start_operation(lab.client, through_prometheus("threshold", metrics=[metric]))).result()
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.reason.startswith("ours: ")
    assert await lab.weights() == {"v1": 100, "v2": 0}


async def test_a_baseline_arm_gets_the_canarys_share_and_guards_the_verdict(lab: Lab) -> None:
    written = rollout("baseline", hold=5).spec.model_dump(by_alias=True)
    written["steps"] = [{"weight": 20, "hold": 5, "minRequests": 20}, {"weight": 100, "hold": 1, "minRequests": 20}]
    written["analysis"] |= {"baseline": "virtual"}

    def asked(name: str) -> CanaryInput:
        spec = CanarySpec.model_validate(written)
        return CanaryInput(mesh="local", namespace="shop", name=name, spec=spec, heartbeat_timeout=5)

    good = await (await start_operation(lab.client, asked("baseline-good"))).result()
    assert good.outcome is Outcome.PROMOTED
    ticks = [tick for watch in good.steps[0].watches for tick in unpack(watch.ticks)]
    beside = sum(tick.baseline.requests for tick in ticks if tick.baseline is not None)
    canary = sum(tick.canary.requests for tick in ticks)
    assert 0.5 < beside / canary < 2
    assert await lab.weights() == {"v1": 0, "v2": 100}
    lab.reset()
    await lab.behave("reviews-v2", errors=0.8)
    bad = await (await start_operation(lab.client, asked("baseline-bad"))).result()
    assert bad.outcome is Outcome.ROLLED_BACK
    assert await lab.weights() == {"v1": 100, "v2": 0}


async def test_traffic_that_goes_elsewhere_than_it_was_sent_is_named(lab: Lab) -> None:
    """A proxy that follows other weights than those set: no verdict may rest on such a comparison."""
    await lab.command("guard", "stop")  # it would mend the file at once
    try:
        handle = await start_operation(lab.client, rollout("misdirected", hold=100))
        await watched(lab, handle.id)
        table = lab.info.mesh_file.parent / "proxies" / "web-v1" / "routes-reviews.json"
        changed = re.sub(r'"weight": (3000|7000)', r'"weight": 5000', table.read_text())
        replacement = table.with_name("edited")
        replacement.write_text(changed)
        replacement.rename(table)
        async with asyncio.timeout(35):
            while (status := await handle.query(CanaryWorkflow.status)).phase is not Phase.UNDECIDED:
                await asyncio.sleep(0.2)
        assert any("where 30 % is set" in event.text for event in status.timeline)
        await handle.execute_update("abort", Command(), result_type=str)
    finally:
        await lab.command("guard", "start")
    assert await lab.weights() == {"v1": 100, "v2": 0}
