"""What may happen to those who look after a rollout: nothing snaps back too soon, nothing comes late."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable

import pytest

from autopilot.local.layout import Layout
from autopilot.local.processes import environment
from autopilot.local.record import Condition
from autopilot.mesh.audit import verify
from autopilot.mesh.errors import LeasePending
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.model import Aspect, Lease
from autopilot.operations.common import Command, Outcome
from starter.client.operations import progress
from starter.client.start import start_operation
from tests.e2e.conftest import REVIEWS, Lab, parsed
from tests.e2e.test_rollouts import rollout, watched
from workflows.canary.workflow import CanaryWorkflow

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]
SPLIT = {"v1": 70, "v2": 30}
BASE = {"v1": 100, "v2": 0}


async def until(condition: Callable[[], object], what: str, limit: float = 40) -> None:
    """Waits for a condition, which may be a coroutine function's."""
    last: object = None
    try:
        async with asyncio.timeout(limit):
            while True:
                last = condition()
                if asyncio.iscoroutine(last):
                    last = await last
                if last:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"waited {limit:g} s for {what}, at last: {last}")


async def weights_stay(lab: Lab, seconds: float) -> None:
    """For so long every look must find the split."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert await lab.weights() == SPLIT
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def second_worker(lab: Lab) -> AsyncIterator[subprocess.Popen[bytes]]:
    """One more worker on the same mesh and the same Temporal, as another node would run it."""
    info = lab.info
    settings = environment(
        {
            "AUTOPILOT_HOME": str(lab.state),
            "TEMPORAL_ADDRESS": str(info.temporal),
            "TEMPORAL_CONFIG_FILE": str(Layout(lab.state).temporal / "client.toml"),
        }
    )
    start = "from autopilot._bootstrap import main; main()"
    command = [sys.executable, "-c", start, "worker", "--mesh", str(info.mesh_file), "--heartbeat", "500ms"]
    with (lab.info.logs / "second-worker.log").open("w") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            command, env=settings, stdout=log, stderr=log
        )
    try:
        await until(lambda: "worker ready" in (lab.info.logs / "second-worker.log").read_text(), "a second worker")
        yield process
    finally:
        process.kill()
        process.wait()


async def abort(lab: Lab, workflow_id: str) -> None:
    handle = lab.client.get_workflow_handle_for(CanaryWorkflow.run, workflow_id)
    await handle.execute_update("abort", Command(reason="seen enough"), result_type=str)
    assert (await handle.result()).outcome is Outcome.ABORTED
    assert await lab.weights() == BASE
    assert await lab.mesh.leases() == []


async def held(lab: Lab) -> Lease:
    (status,) = await lab.mesh.leases()
    return status.lease


async def test_without_temporal_for_longer_than_a_lease_lives_no_weight_moves(lab: Lab) -> None:
    before = await lab.counts()
    handle = await start_operation(lab.client, rollout("no-temporal", hold=100, ttl=6))
    await watched(lab, handle.id)
    lease = await held(lab)
    await lab.command("temporal", "kill")
    await weights_stay(lab, 10)
    await lab.command("temporal", "start")
    await lab.part("temporal", Condition.READY)
    await until(lambda: progress(lab.client, handle.id), "the watch to report again")
    await weights_stay(lab, 2)
    assert await held(lab) == lease, "nothing was lost"
    assert (await lab.counts())["failures"] == before["failures"]
    await abort(lab, handle.id)


async def test_temporal_gone_for_longer_than_its_grace_lets_the_mesh_heal(lab: Lab) -> None:
    spec = rollout("temporal-gone", hold=100, ttl=4).model_copy(update={"temporal_grace": 3.0})
    handle = await start_operation(lab.client, spec)
    await watched(lab, handle.id)
    await lab.command("temporal", "kill")

    async def healed() -> bool:
        return await lab.weights() == BASE

    await until(healed, "the mesh to heal, though the worker lives", limit=3 + 4 + 5)
    await lab.command("temporal", "start")
    await lab.part("temporal", Condition.READY)

    async def back() -> bool:
        return await lab.weights() == SPLIT

    await until(back, "the step to be laid again")
    await abort(lab, handle.id)


async def test_workers_restarted_one_after_the_other_move_no_weight(lab: Lab) -> None:
    before = await lab.counts()
    handle = await start_operation(lab.client, rollout("rolling", hold=100, ttl=30))
    await watched(lab, handle.id)
    lease = await held(lab)
    async with second_worker(lab) as second:
        first = lab.info.parts["worker"].pid
        assert first is not None
        os.kill(first, signal.SIGTERM)
        await weights_stay(lab, 1)
        await lab.part("worker", Condition.READY, other_than=first)
        await weights_stay(lab, 1)
        second.send_signal(signal.SIGTERM)
        await weights_stay(lab, 2)
    await until(lambda: progress(lab.client, handle.id), "a watch on the worker that is left")
    assert await held(lab) == lease
    assert (await lab.counts())["failures"] == before["failures"]
    await abort(lab, handle.id)


async def test_a_worker_that_wakes_after_its_lease_went_changes_nothing(lab: Lab) -> None:
    handle = await start_operation(lab.client, rollout("zombie", hold=100, ttl=4))
    await watched(lab, handle.id)
    old = await held(lab)
    zombie = lab.info.parts["worker"].pid
    assert zombie is not None
    os.kill(zombie, signal.SIGSTOP)
    try:
        async with second_worker(lab):

            async def taken_again() -> bool:
                holders = [status.lease.holder.fencing for status in await lab.mesh.leases()]
                return holders == [old.holder.fencing + 1] and await lab.weights() == SPLIT

            await until(taken_again, "the other worker to lay the step again")
            os.kill(zombie, signal.SIGCONT)
            await weights_stay(lab, 3)
            assert (await held(lab)).holder.fencing == old.holder.fencing + 1
            await abort(lab, handle.id)
    finally:
        os.kill(zombie, signal.SIGCONT)
    assert verify(await lab.mesh.audit()) == []


async def test_the_stop_button_works_with_temporal_down_and_holds_what_runs(lab: Lab) -> None:
    handle = await start_operation(lab.client, rollout("halted", hold=8, ttl=30))
    await watched(lab, handle.id)
    await lab.command("temporal", "kill")
    pressed = await asyncio.to_thread(lab.cli, "halt", "--reason", "database on fire", "--who", "ann", "-o", "json")
    assert pressed.returncode == 0, pressed.stderr
    assert parsed(pressed)["operations"] == [{"mesh": "local", "operation": handle.id, "state": "held where it is"}]
    await lab.command("temporal", "start")
    await lab.part("temporal", Condition.READY)

    async def says_so() -> bool:
        status = await asyncio.to_thread(lab.cli, "get", "halted", "-o", "json")
        return status.returncode == 0 and parsed(status).get("phase") == "Halted"

    await until(says_so, "the rollout to say that it is halted")
    await weights_stay(lab, 4)
    refused = await asyncio.to_thread(lab.cli, "apply", "-f", "examples/canary.yaml")
    assert refused.returncode == 1
    assert "database on fire" in refused.stderr
    assert (await asyncio.to_thread(lab.cli, "unhalt", "--reason", "out")).returncode == 0
    report = await asyncio.wait_for(handle.result(), 60)
    assert report.outcome is Outcome.PROMOTED
    assert any("database on fire" in event.text for event in report.timeline)


async def test_a_person_takes_the_target_and_the_rollout_says_by_whom(lab: Lab) -> None:
    handle = await start_operation(lab.client, rollout("lifted", hold=100, ttl=30))
    await watched(lab, handle.id)
    lifted = await asyncio.to_thread(lab.cli, "leases", "--lift", "lifted", "--reason", "looks odd", "--who", "ann")
    assert lifted.returncode == 0, lifted.stderr
    assert "the proxies say so" in lifted.stdout
    assert await lab.weights() == BASE
    report = await asyncio.wait_for(handle.result(), 30)
    assert report.outcome is Outcome.TAKEN_OVER
    assert "ann" in report.reason
    status = await asyncio.to_thread(lab.cli, "status", "lifted")
    assert status.returncode == 4
    refused = await asyncio.to_thread(lab.cli, "apply", "-f", "examples/canary.yaml")
    assert refused.returncode == 1
    assert "hand-back shop/reviews" in refused.stderr
    assert (await asyncio.to_thread(lab.cli, "leases", "--hand-back", "shop/reviews")).returncode == 0
    verified = await asyncio.to_thread(lab.cli, "audit", "verify", "-o", "json")
    assert verified.returncode == 0, verified.stdout
    assert parsed(verified)["remembered"] >= 2


async def test_a_rollout_gives_way_to_security_and_says_to_whom(lab: Lab) -> None:
    handle = await start_operation(lab.client, rollout("preempted", hold=100, ttl=30))
    await watched(lab, handle.id)
    asked = time.monotonic()
    while True:
        try:
            lease = await lab.mesh.acquire(
                REVIEWS, [Aspect.TRAFFIC], operation="security/stand-in", token="t", ttl=30, by=Actor(who="a test")
            )
            break
        except LeasePending:
            assert time.monotonic() - asked < 20, "it should give way at its next renewal"
            await asyncio.sleep(0.1)
    report = await asyncio.wait_for(handle.result(), 20)
    assert report.outcome is Outcome.TAKEN_OVER
    assert "security/stand-in" in report.reason
    assert await lab.weights() == BASE
    await lab.mesh.lift(lease)


async def test_who_queues_starts_when_the_target_is_free(lab: Lab) -> None:
    first = await start_operation(lab.client, rollout("first", hold=3, ttl=30))
    await watched(lab, first.id)
    second = await start_operation(lab.client, rollout("second", hold=1, ttl=30).model_copy(update={"queue": True}))
    assert (await asyncio.wait_for(first.result(), 60)).outcome is Outcome.PROMOTED
    report = await asyncio.wait_for(second.result(), 60)
    assert report.started < (await first.result()).ended < report.steps[0].started
