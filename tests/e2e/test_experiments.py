"""What people complain of in other tools, as experiments over real proxies and real traffic: a test a complaint."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from autopilot.local import stack
from autopilot.mesh.errors import LeaseHeld, LeasePending
from autopilot.mesh.leases.overrides import Actor, Halt
from autopilot.mesh.model import Aspect, Target
from autopilot.operations.common import Caller, Command, Outcome
from autopilot.operations.experiment_status import Verdict
from autopilot.reports.canary import CanaryInput
from autopilot.reports.experiment import ExperimentInput, ExperimentReport
from autopilot.spec.canary import CanarySpec
from autopilot.spec.chaos.experiment import ExperimentSpec
from starter.client import operations
from starter.client.start import start_operation
from tests.e2e.conftest import TOOLS, Lab, parsed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
RATINGS = Target(mesh="local", namespace="shop", service="ratings")
EVERYBODY = {"percentage": 30}


@pytest.fixture(scope="module")
def stack_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A stack of this module's own: its failures are many, and rollouts elsewhere learn from those of before."""
    state = tmp_path_factory.mktemp("disturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOPILOT_TOOLS", str(TOOLS))
        started = stack.start(state)
        try:
            yield state
        finally:
            started.stop()


def experiment(name: str, fault: dict[str, Any], scope: dict[str, Any] | None = None, **spec: Any) -> ExperimentInput:
    """A fault over ratings, by default for 30 % of the requests, while web is believed to answer."""
    probe = {
        "name": "web",
        "type": "mesh",
        "service": "web",
        "metric": "successRate",
        "window": 2,
        "least": 10,
        "missing": 20,
        "tolerance": {"min": 0},
    }
    written = {
        "target": {"service": "ratings"},
        "scope": scope or EVERYBODY,
        "hypothesis": {"probes": [probe]},
        "method": [{"faults": [{"fault": fault}], "hold": 3}],
        "safety": {"maxTraffic": 50, "maxFailures": 5000},
        "settle": 0.5,
        "deadline": 300,
        **spec,
    }
    return ExperimentInput(mesh="local", namespace="shop", name=name, spec=ExperimentSpec.model_validate(written))


async def run(lab: Lab, wanted: ExperimentInput, limit: float = 60) -> ExperimentReport:
    return await asyncio.wait_for((await start_operation(lab.client, wanted)).result(), limit)


async def at_rest(lab: Lab) -> None:
    """Nothing is held, and web answers everybody again."""
    assert not [status for status in await lab.mesh.leases() if status.lease.target == RATINGS]
    before = await lab.counts()
    async with asyncio.timeout(10):
        while (await lab.counts())["requests"] < before["requests"] + 100:
            await asyncio.sleep(0.1)
    after = await lab.counts()
    assert after["failures"] == before["failures"]


async def holding(lab: Lab, wanted: ExperimentInput) -> None:
    """Waits until its fault is met."""
    async with asyncio.timeout(20):
        while True:
            seen = await operations.progress(lab.client, wanted.workflow_id)
            if seen is not None and any(effect.requests for effect in getattr(seen, "effects", ())):
                return
            await asyncio.sleep(0.05)


def slow_guard(**more: Any) -> dict[str, Any]:
    """An abort condition: web answers in time."""
    return {
        "name": "web-in-time",
        "type": "mesh",
        "service": "web",
        "metric": "slowShare",
        "slowerThan": 0.25,
        "window": 1,
        "least": 10,
        "missing": 50,
        "tolerance": {"max": 0.05},
        **more,
    }


# The verdict


async def test_a_fault_that_is_met_and_borne_passes(lab: Lab) -> None:
    report = await run(lab, experiment("borne", {"type": "delay", "delay": 0.05}))
    assert (report.verdict, report.outcome) == (Verdict.PASS, Outcome.PASSED), report.reason
    (step,) = report.steps
    (effect,) = step.effects
    assert effect.requests > 20
    assert effect.share is not None
    assert 15 < effect.share < 45
    assert effect.tier == "A"
    assert report.restored
    assert [record.phase for record in report.probes] == ["before", "after"]
    await at_rest(lab)


async def test_a_no_op_does_not_pass(lab: Lab) -> None:
    """litmus-go#622, litmus#3954: success with no effect."""
    nobody = {"headers": {"end-user": {"exact": "nobody-is-called-so"}}}
    report = await run(lab, experiment("no-op", {"type": "abort"}, nobody))
    assert (report.verdict, report.outcome) == (Verdict.VOID, Outcome.VOID)
    assert "was not seen to take effect" in report.reason


async def test_a_hypothesis_that_fails_while_it_lasts_is_refuted(lab: Lab) -> None:
    """chaos-mesh#3160: no verdict on the system at all."""
    wanted = experiment("refuted", {"type": "abort", "status": 500})
    during = wanted.spec.hypothesis.probes[0].model_copy(
        update={
            "name": "strict",
            "mode": "continuous",
            "tolerance": wanted.spec.hypothesis.probes[0].tolerance.model_copy(update={"min": 0.9}),
        }
    )
    spec = wanted.spec.model_copy(
        update={"hypothesis": wanted.spec.hypothesis.model_copy(update={"probes": (during,)})}
    )
    report = await run(lab, wanted.model_copy(update={"spec": spec}))
    assert (report.verdict, report.outcome) == (Verdict.FAIL, Outcome.REFUTED), report.reason
    assert report.exposure.failures > 0
    assert report.restored
    await at_rest(lab)


async def test_what_fails_already_is_not_disturbed(lab: Lab) -> None:
    """chaos-mesh#179: no protection when already degraded."""
    wanted = experiment("degraded", {"type": "abort"})
    await lab.behave("ratings-v1", errors=1.0)
    await lab.behave("ratings-v1-b", errors=1.0)
    strict = wanted.spec.hypothesis.probes[0].model_copy(
        update={"tolerance": wanted.spec.hypothesis.probes[0].tolerance.model_copy(update={"min": 0.9})}
    )
    spec = wanted.spec.model_copy(
        update={"hypothesis": wanted.spec.hypothesis.model_copy(update={"probes": (strict,)})}
    )
    try:
        report = await run(lab, wanted.model_copy(update={"spec": spec}))
    finally:
        await lab.behave("ratings-v1", errors=0)
        await lab.behave("ratings-v1-b", errors=0)
    assert (report.verdict, report.outcome) == (Verdict.VOID, Outcome.VOID)
    assert "not started and nothing was written" in report.reason
    assert not report.steps


# Ending it


async def test_an_abort_condition_aborts_and_traffic_is_healed_within_two_seconds(lab: Lab) -> None:
    """litmus#4991: the abort condition does not stop."""
    wanted = experiment(
        "guarded",
        {"type": "delay", "delay": 0.4},
        method=[{"faults": [{"fault": {"type": "delay", "delay": 0.4}}], "hold": 60}],
        abort=[slow_guard()],
        tick=0.25,
    )
    report = await run(lab, wanted)
    assert (report.verdict, report.outcome) == (Verdict.ABORTED, Outcome.ABORTED), report.reason
    guard = next(record for record in report.probes if record.guard)
    assert guard.verdict == "fail"
    first = min(look.time for look in guard.samples if look.ok is False)
    healed = next(event.time for event in report.timeline if "the base configuration is restored" in event.text)
    assert healed - first <= 2, f"healed {healed - first:.2f} s after the first look that failed"
    await at_rest(lab)


async def test_the_stop_button_heals_a_running_experiment_within_two_seconds(lab: Lab) -> None:
    wanted = experiment(
        "halted",
        {"type": "delay", "delay": 0.2},
        method=[{"faults": [{"fault": {"type": "delay", "delay": 0.2}}], "hold": 60}],
    )
    handle = await start_operation(lab.client, wanted)
    await holding(lab, wanted)
    began = time.monotonic()
    ended = await lab.mesh.halt(Halt(kind="chaos", actor=Actor(who="test", why="enough"), since=time.time()))
    for _, receipt in ended:
        await lab.mesh.verify(receipt)
    seconds = time.monotonic() - began
    try:
        report = await asyncio.wait_for(handle.result(), 30)
    finally:
        await lab.mesh.unhalt("chaos", "", Actor(who="test"))
    assert [holder.operation for holder, _ in ended] == [wanted.workflow_id]
    assert seconds <= 2
    assert (report.outcome, report.verdict) == (Outcome.TAKEN_OVER, Verdict.ABORTED)
    await at_rest(lab)


async def test_a_cap_on_failures_ends_it(lab: Lab) -> None:
    wanted = experiment(
        "capped",
        {"type": "abort", "status": 500},
        method=[{"faults": [{"fault": {"type": "abort", "status": 500}}], "hold": 60}],
        safety={"maxTraffic": 50, "maxFailures": 20, "service": "web"},
    )
    report = await run(lab, wanted)
    assert (report.verdict, report.outcome) == (Verdict.ABORTED, Outcome.ABORTED), report.reason
    assert "20 are allowed" in report.reason
    assert 20 < report.exposure.failures < 150


async def test_a_cap_on_traffic_is_measured_where_nobody_can_know_it_before(lab: Lab) -> None:
    """Headers narrow a scope to nobody knows how many: here to all of them."""
    wanted = experiment(
        "too-many",
        {"type": "delay", "delay": 0.01},
        {"headers": {"end-user": {"prefix": "user-"}}},
        method=[{"faults": [{"fault": {"type": "delay", "delay": 0.01}}], "hold": 60}],
        safety={"maxTraffic": 20},
    )
    report = await run(lab, wanted)
    assert report.outcome is Outcome.ABORTED
    assert "20 % are allowed" in report.reason
    assert report.ended - report.started < 30


async def test_an_abort_is_restored_before_it_is_answered(lab: Lab) -> None:
    """chaostoolkit#195: no rollback when it matters most."""
    wanted = experiment(
        "aborted",
        {"type": "abort", "status": 500},
        method=[{"faults": [{"fault": {"type": "abort", "status": 500}}], "hold": 60}],
    )
    handle = await start_operation(lab.client, wanted)
    await holding(lab, wanted)
    await operations.abort(lab.client, wanted.workflow_id, Command(caller=Caller(who="ann"), reason="enough"))
    await at_rest(lab)
    report = await handle.result()
    assert (report.outcome, report.reason) == (Outcome.ABORTED, "enough")


async def test_a_paused_experiment_holds_and_is_still_guarded(lab: Lab) -> None:
    """chaos-mesh#4911 and kin: what is paused must neither end nor run wild."""
    wanted = experiment(
        "paused",
        {"type": "delay", "delay": 0.05},
        method=[{"faults": [{"fault": {"type": "delay", "delay": 0.05}}], "hold": 2}],
    )
    handle = await start_operation(lab.client, wanted)
    await holding(lab, wanted)
    await operations.pause(lab.client, wanted.workflow_id, Command(caller=Caller(who="ann")))
    async with asyncio.timeout(20):
        while (await operations.status(lab.client, wanted.workflow_id)).phase.value != "Paused":
            await asyncio.sleep(0.05)
    await operations.resume(lab.client, wanted.workflow_id, Command(caller=Caller(who="ann")))
    report = await asyncio.wait_for(handle.result(), 30)
    assert (report.verdict, report.outcome) == (Verdict.PASS, Outcome.PASSED), report.reason


# Who may have a target


async def test_a_rollout_does_not_erase_a_fault_for_it_is_refused_and_the_reverse(lab: Lab) -> None:
    """flagger#703: the rollout controller erases the fault."""
    reviews = {
        "target": {"service": "reviews"},
        "method": [{"faults": [{"fault": {"type": "delay", "delay": 0.02}}], "hold": 60}],
    }
    chaos = experiment("rival", {"type": "delay", "delay": 0.02}, **reviews)
    spec = {
        "target": {"service": "reviews"},
        "arms": {"stable": "v1", "canary": "v2"},
        "steps": [{"weight": 10, "hold": 60}],
    }
    canary = CanaryInput(
        mesh="local", namespace="shop", name="rival", spec=CanarySpec.model_validate(spec), heartbeat_timeout=5
    )
    running = await start_operation(lab.client, chaos)
    await holding(lab, chaos)
    # A rollout goes before an experiment: it asks it to give way, and gets the target once that has restored.
    rollout = await start_operation(lab.client, canary)
    report = await asyncio.wait_for(running.result(), 30)
    assert report.outcome is Outcome.TAKEN_OVER
    assert canary.workflow_id in report.reason
    async with asyncio.timeout(20):
        while await operations.progress(lab.client, canary.workflow_id) is None:
            await asyncio.sleep(0.05)
    refused = await run(lab, chaos)
    assert refused.outcome is Outcome.FAILED
    assert canary.workflow_id in refused.reason
    assert not refused.steps
    await operations.abort(lab.client, canary.workflow_id, Command(caller=Caller(who="ann"), reason="done"))
    await rollout.result()
    lab.reset()


async def test_security_goes_before_an_experiment(lab: Lab) -> None:
    """A stand-in operation of that kind: asked to give way, the experiment restores and hands over."""
    wanted = experiment(
        "yields",
        {"type": "delay", "delay": 0.05},
        method=[{"faults": [{"fault": {"type": "delay", "delay": 0.05}}], "hold": 60}],
    )
    handle = await start_operation(lab.client, wanted)
    await holding(lab, wanted)
    lease = None
    async with asyncio.timeout(20):
        while lease is None:
            try:
                lease = await lab.mesh.acquire(
                    RATINGS, [Aspect.FAULTS], operation="security/quarantine/x", token="t", ttl=30
                )
            except LeasePending:
                await asyncio.sleep(0.1)
    report = await asyncio.wait_for(handle.result(), 30)
    assert report.outcome is Outcome.TAKEN_OVER
    with pytest.raises(LeaseHeld, match="security/quarantine/x"):
        await lab.mesh.acquire(RATINGS, [Aspect.FAULTS], operation="chaos/local/shop/late", token="t", ttl=30)
    await lab.mesh.lift(lease)


async def test_experiments_at_a_time_are_limited(lab: Lab) -> None:
    first = experiment(
        "one",
        {"type": "delay", "delay": 0.02},
        method=[{"faults": [{"fault": {"type": "delay", "delay": 0.02}}], "hold": 60}],
    )
    second = experiment("two", {"type": "delay", "delay": 0.02}, target={"service": "reviews"})
    handle = await start_operation(lab.client, first)
    await holding(lab, first)
    report = await run(lab, second)
    assert (report.verdict, report.outcome) == (Verdict.VOID, Outcome.VOID)
    assert first.workflow_id in report.reason
    await operations.abort(lab.client, first.workflow_id, Command(caller=Caller(who="ann"), reason="done"))
    await handle.result()


# The demo


@pytest.mark.parametrize(("scenario", "outcome"), [("chaos", "Aborted"), ("chaos-killed", "Inconclusive")])
async def test_the_scenarios_of_the_demo(lab: Lab, scenario: str, outcome: str) -> None:
    played = await asyncio.to_thread(lab.cli, "demo", scenario, "-o", "json")
    assert played.returncode == 0, played.stderr
    (result,) = parsed(played)["scenarios"]
    assert result["outcome"] == outcome
    assert result["client"]["failures"] == 0
    if scenario == "chaos-killed":
        assert result["strike"]["healed"] <= result["strike"]["deadline"] + 1
        assert result["exposure"]["requests"] > 0  # what was counted before everything died is not forgotten
    await at_rest(lab)


# Secrets


async def test_a_secret_that_a_server_repeats_is_nowhere(lab: Lab, tmp_path: Path) -> None:
    """The probe sends it at each look; history, heartbeats, report, audit records, logs and messages have its name."""
    secret = "s3cr3t-of-checkout-0123456789"  # noqa: S105 - made up
    file = tmp_path / "token"
    file.write_text(f"{secret}\n")
    sent: list[str] = []

    async def repeat(request: web.Request) -> web.Response:
        sent.append(request.headers["authorization"])
        good = len(sent) < 4
        said = f"{'welcome' if good else 'denied'}: {sent[-1].removeprefix('Bearer ')}"
        return web.Response(text=said, status=200 if good else 401)

    application = web.Application()
    application.router.add_get("/", repeat)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    probe = {
        "name": "login",
        "type": "http",
        "mode": "continuous",
        "interval": 0.3,
        "url": f"http://127.0.0.1:{runner.addresses[0][1]}/",
        "headers": {"authorization": {"prefix": "Bearer ", "secretRef": {"file": str(file)}}},
        "body": {"contains": "welcome"},
        "failures": 5,
    }
    wanted = experiment("secret", {"type": "delay", "delay": 0.05}, hypothesis={"probes": [probe]})
    handle = await start_operation(lab.client, wanted)
    stored = b""
    async with asyncio.timeout(60):
        while (described := await handle.describe()).close_time is None:
            stored += described.raw_description.SerializeToString()  # with the heartbeats
            await asyncio.sleep(0.05)
    report: ExperimentReport = await handle.result()
    await runner.cleanup()
    assert report.outcome is Outcome.REFUTED, report.reason
    assert set(sent) == {f"Bearer {secret}"}
    stored += (await handle.fetch_history()).to_json().encode()
    async for event in handle.fetch_history_events():
        stored += event.SerializeToString()
    stored += report.model_dump_json().encode()
    stored += b"".join(each.read_bytes() for each in lab.state.rglob("*") if each.is_file() and not each.is_symlink())
    assert str(file).encode() in stored  # the reference is there, and what is searched is what was written
    for form in (secret, secret[:12], secret[-12:], base64.b64encode(secret.encode()).decode().rstrip("=")):
        assert form.encode() not in stored
    assert "login" in lab.cli("get", wanted.workflow_id).stdout
    await at_rest(lab)
