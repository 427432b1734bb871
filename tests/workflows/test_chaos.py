"""The experiment's workflow against an in-memory world: what is done in which order, and what it comes to."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, Worker

from activities.contracts.chaos import (
    ActRequest,
    ExperimentSignatures,
    Held,
    HoldBeat,
    HoldCause,
    HoldRequest,
    Preflight,
    PreflightRequest,
    Steady,
    SteadyRequest,
)
from activities.contracts.operation import AcquireRequest, ApplyRequest, Ended, EndRequest, HeldRequest, MeshSignatures
from activities.contracts.schedule import PauseRequest, ScheduleSignatures
from activities.last_heartbeat import HeartbeatActivities
from autopilot.mesh.model import FaultSign, Holder, Lease, Receipt
from autopilot.operations.common import Caller, Command, Exposure, Outcome
from autopilot.operations.experiment_status import Acted, ChaosProgress, Effect, ProbeRecord, Verdict
from autopilot.reports.experiment import ExperimentInput, ExperimentReport
from autopilot.spec.chaos.experiment import ExperimentSpec
from tests.workflows.conftest import restores_on, watches_on
from worker.plugin import AutopilotPlugin, all_workflows
from workflows.chaos.workflow import ChaosWorkflow

_NUMBERS = itertools.count(1)
ANN = Caller(who="ann")
Handle = WorkflowHandle[ChaosWorkflow, ExperimentReport]


@dataclass
class World(MeshSignatures, ExperimentSignatures, ScheduleSignatures):
    """One service, what is laid over it, and everything that was done, in its order."""

    done: list[str] = field(default_factory=list)
    holds: list[HoldCause] = field(default_factory=list)
    """How the holds end, one after the other; `stopped` waits until it is; `held` when it is used up."""
    met: float = 10.0
    """Requests that meet every fault."""
    told: float = 0.0
    """Requests that a hold which waits has told of by heartbeat."""
    before: str = "pass"
    after: str = "pass"
    leaked: float = 0.0
    untold: str = ""
    refusal: str = ""
    cannot_act: bool = False
    acts_slowly: bool = False
    acting: asyncio.Event = field(default_factory=asyncio.Event)
    lease: Lease | None = None
    laid: int = 0
    paused: list[PauseRequest] = field(default_factory=list)
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    lifted_by: list[str] = field(default_factory=list)
    lifting: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a restore begins."""
    lift_takes: float = 0.0
    checks_forever: bool = False
    """Whether the check after the restore has no end."""
    reports: list[ExperimentReport] = field(default_factory=list)

    @activity.defn(name="mesh.acquire")
    async def acquire(self, request: AcquireRequest) -> Lease:
        self.done.append("acquire")
        holder = Holder(operation=request.operation, fencing=1)
        self.lease = Lease(
            target=request.target, aspects=request.aspects, holder=holder, ttl=request.ttl, max_unattended=request.ttl
        )
        return self.lease

    @activity.defn(name="mesh.apply")
    async def apply(self, request: ApplyRequest) -> Receipt:
        self.done.append(f"lay {', '.join(change.words for change in request.changes) or 'nothing'}")
        self.laid = len(request.changes)
        return Receipt(target=request.lease.target, holder=request.lease.holder, digest="d", written=1.0)

    @activity.defn(name="mesh.lift")
    async def lift(self, request: EndRequest) -> Ended:
        if self.has(request.lease):
            self.lifting.set()
            await asyncio.sleep(self.lift_takes)
            self.done.append("restore")
            self.lifted_by.append(request.net)
            self.lease, self.laid = None, 0
        return Ended(receipt=None, seconds=0.01)

    @activity.defn(name="mesh.held")
    async def held(self, request: HeldRequest) -> bool:
        return self.has(request.lease)

    def has(self, lease: Lease) -> bool:
        return self.lease is not None and self.lease.holder == lease.holder

    @activity.defn(name="chaos.preflight")
    async def preflight(self, request: PreflightRequest) -> Preflight:
        if self.refusal:
            raise ApplicationError(self.refusal, type="InvalidChange", non_retryable=True)
        steps = range(1, len(request.spec.method) + 1)
        faults = [[one for one in request.spec.injections if one[0] == step] for step in steps]
        return Preflight(
            effects=tuple(tuple(Effect(fault=f.type, scope="", seen_by="counts") for _, f, _ in one) for one in faults),
            signs=tuple(tuple(FaultSign(kind=f.type) for _, f, _ in one) for one in faults),
        )

    @activity.defn(name="chaos.steady")
    async def steady(self, request: SteadyRequest) -> Steady:
        self.done.append(f"check {request.phase}")
        while self.checks_forever and request.phase == "after":
            activity.heartbeat()
            await asyncio.sleep(0.02)
        verdict: Any = self.before if request.phase == "before" else self.after
        record = ProbeRecord(name="web", type="http", phase=request.phase, verdict=verdict, looks=1)
        leaked = (self.leaked,) if request.signs else ()
        return Steady(probes=(record,), leaked=leaked, untold=self.untold if request.signs else "")

    @activity.defn(name="chaos.hold")
    async def hold(self, request: HoldRequest) -> Held:
        cause: HoldCause = self.holds.pop(0) if self.holds else "held"
        if cause == "guard" and self.acts_slowly:
            await asyncio.wait_for(self.acting.wait(), 30)
            return Held(cause=cause, reason=cause, effects=request.effects)
        effects = tuple(one.model_copy(update={"requests": self.met, "of": 100.0}) for one in request.effects)
        if cause == "stopped" or request.hold is None:
            self.holding.set()
            try:
                while True:
                    told = Exposure(requests=self.told)
                    activity.heartbeat(HoldBeat(state="", progress=ChaosProgress(time=0, exposure=told)))
                    await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                details = activity.cancellation_details()
                if details is None or not details.cancel_requested:
                    raise
            finally:
                self.holding.clear()
        return Held(cause=cause, reason=cause, effects=effects, exposure=Exposure(requests=self.met, failures=1))

    @activity.defn(name="chaos.act")
    async def act(self, request: ActRequest) -> Acted:
        self.done.append(f"act {request.action.type}")
        if self.cannot_act:
            raise ApplicationError("no such deployment", type="InvalidChange", non_retryable=True)
        self.acting.set()
        while self.acts_slowly:
            activity.heartbeat()
            await asyncio.sleep(0.02)
        return Acted(action=request.action.type, done="did it")

    @activity.defn(name="chaos.undo")
    async def undo(self, request: ActRequest) -> Acted:
        self.done.append(f"undo {request.action.type}")
        return Acted(action=request.action.type, done="did it", undone="put it back")

    @activity.defn(name="chaos.archive")
    async def archive(self, report: ExperimentReport) -> str:
        self.reports.append(report)
        return "kept"

    @activity.defn(name="schedule.pause")
    async def pause_after(self, request: PauseRequest) -> str:
        self.paused.append(request)
        return "paused"


@dataclass
class Lab:
    """A server, a worker, and the world it acts on."""

    client: Client
    queue: str
    world: World

    async def start(self, wanted: ExperimentInput) -> Handle:
        return await self.client.start_workflow(ChaosWorkflow.run, wanted, id=wanted.workflow_id, task_queue=self.queue)

    async def run(self, wanted: ExperimentInput) -> ExperimentReport:
        return await (await self.start(wanted)).result()

    async def held(self) -> None:
        async with asyncio.timeout(30):
            await self.world.holding.wait()


def experiment(*method: dict[str, Any], schedule: str = "", **spec: Any) -> ExperimentInput:
    """A delay of one second for a tenth, unless the method is another."""
    fault = {"fault": {"type": "delay", "delay": 1}}
    written = {
        "target": {"service": "ratings"},
        "scope": {"percentage": 10},
        "hypothesis": {"probes": [{"name": "web", "type": "http", "url": "http://web/"}]},
        "method": list(method) or [{"faults": [fault], "hold": 5}],
        **spec,
    }
    name = f"ratings-{next(_NUMBERS)}"
    return ExperimentInput(
        mesh="local", namespace="shop", name=name, spec=ExperimentSpec.model_validate(written), schedule=schedule
    )


@contextlib.asynccontextmanager
async def lab_on(environment: WorkflowEnvironment, *, cached: int, watching: bool = True) -> AsyncIterator[Lab]:
    """`watching`: whether a worker takes the long watches; otherwise the test starts one."""
    world = World()
    queue = f"chaos-{next(_NUMBERS)}"
    effects = Worker(
        environment.client,
        task_queue=queue,
        workflows=all_workflows(),
        activities=[
            world.acquire,
            world.apply,
            world.held,
            HeartbeatActivities(environment.client).last,
            world.preflight,
            world.act,
            world.undo,
            world.archive,
            world.pause_after,
        ],
        max_cached_workflows=cached,
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    )
    async with contextlib.AsyncExitStack() as running:
        await running.enter_async_context(effects)
        await running.enter_async_context(restores_on(environment.client, world.lift))
        if watching:
            await running.enter_async_context(watches_on(environment.client, world.steady, world.hold))
        yield Lab(environment.client, queue, world)


@pytest.fixture(params=[1000, 0], ids=["cached", "replayed-at-every-task"])
async def lab(request: pytest.FixtureRequest, dev_server: WorkflowEnvironment) -> AsyncIterator[Lab]:
    async with lab_on(dev_server, cached=request.param) as made:
        yield made


ABORT = {"fault": {"type": "abort", "status": 500}}


async def test_it_checks_lays_holds_restores_and_checks_again(lab: Lab) -> None:
    report = await lab.run(experiment())
    assert (report.verdict, report.outcome) == (Verdict.PASS, Outcome.PASSED)
    assert lab.world.done == [
        "acquire",
        "check before",
        "lay delay 1 s for 10 % of requests",
        "restore",
        "check after",
    ]
    assert report.exposure.requests == 10
    assert report.restored


async def test_steps_follow_one_another_and_a_pause_lays_nothing(lab: Lab) -> None:
    report = await lab.run(
        experiment(
            {"faults": [ABORT], "hold": 1}, {"hold": 1}, {"faults": [ABORT, {**ABORT, "scope": {"percentage": 5}}]}
        )
    )
    assert report.verdict is Verdict.PASS
    laid = [each for each in lab.world.done if each.startswith("lay")]
    assert laid[1] == "lay nothing"
    assert len(report.steps) == 3
    assert [len(step.effects) for step in report.steps] == [1, 0, 2]


@pytest.mark.parametrize(
    ("cause", "outcome", "verdict"),
    [
        ("hypothesis", Outcome.REFUTED, Verdict.FAIL),
        ("guard", Outcome.ABORTED, Verdict.ABORTED),
        ("limit", Outcome.ABORTED, Verdict.ABORTED),
        ("noData", Outcome.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        ("takenOver", Outcome.TAKEN_OVER, Verdict.ABORTED),
        ("leaseLost", Outcome.INCONCLUSIVE, Verdict.INCONCLUSIVE),
    ],
)
async def test_whatever_ends_a_hold_is_restored(lab: Lab, cause: HoldCause, outcome: Outcome, verdict: Verdict) -> None:
    """chaostoolkit#195, #258: the rollback is not run when it matters most."""
    lab.world.holds = [cause]
    report = await lab.run(experiment({"faults": [ABORT]}, {"faults": [ABORT]}))
    assert (report.outcome, report.verdict) == (outcome, verdict)
    assert lab.world.done.count("restore") == 1
    assert len(report.steps) == 1, "nothing more is laid"
    assert lab.world.laid == 0


async def test_nothing_is_rolled_back_where_nothing_was_injected(lab: Lab) -> None:
    """chaostoolkit#168."""
    lab.world.before = "fail"
    report = await lab.run(experiment())
    assert (report.outcome, report.verdict) == (Outcome.VOID, Verdict.VOID)
    assert "not started" in report.reason
    assert lab.world.done == ["acquire", "check before", "restore"], "the lease is given back, and nothing was laid"


async def test_what_cannot_be_seen_before_is_not_begun(lab: Lab) -> None:
    lab.world.before = "inconclusive"
    report = await lab.run(experiment())
    assert (report.outcome, report.verdict) == (Outcome.VOID, Verdict.VOID)


async def test_what_must_not_start_does_not(lab: Lab) -> None:
    lab.world.refusal = "needs a worker that allows python"
    report = await lab.run(experiment())
    assert (report.outcome, report.verdict) == (Outcome.VOID, Verdict.VOID)
    assert "needs a worker that allows python" in report.reason
    assert not lab.world.laid


async def test_a_fault_that_nobody_met_is_void_even_if_all_probes_pass(lab: Lab) -> None:
    lab.world.met = 0
    report = await lab.run(experiment())
    assert (report.outcome, report.verdict) == (Outcome.VOID, Verdict.VOID)


async def test_state_is_verified_after_the_rollback(lab: Lab) -> None:
    """chaostoolkit-lib#94: state is never verified after rollback."""
    lab.world.after = "fail"
    report = await lab.run(experiment())
    assert (report.outcome, report.verdict) == (Outcome.REFUTED, Verdict.FAIL)
    assert "after the restore" in report.reason


async def test_what_could_not_be_seen_afterwards_does_not_pass(lab: Lab) -> None:
    lab.world.after = "inconclusive"
    report = await lab.run(experiment())
    assert report.verdict is Verdict.INCONCLUSIVE


async def test_a_fault_that_outlives_its_restore_is_told(lab: Lab) -> None:
    lab.world.leaked = 3
    report = await lab.run(experiment())
    assert report.outcome is Outcome.FAILED
    assert "3 requests met the fault after it was removed" in report.reason


async def test_where_others_lay_faults_on_the_same_proxies_nothing_is_claimed_of_this_one(lab: Lab) -> None:
    lab.world.untold = "counters of proxies rise with the faults of chaos/m/other, too"
    report = await lab.run(experiment())
    assert report.outcome is Outcome.PASSED
    assert any("chaos/m/other" in line.text for line in report.timeline)


async def test_actions_are_put_back_in_reverse_whatever_ends_it(lab: Lab) -> None:
    """krkn#804, #911…: partial rollback coverage."""
    lab.world.holds = ["held", "guard"]
    actions = [{"type": "cordon", "node": "n1"}, {"type": "scale", "workload": "deployment/a", "replicas": 0}]
    report = await lab.run(experiment({"faults": [ABORT], "actions": actions}))
    assert lab.world.done[-5:] == ["act scale", "restore", "undo scale", "undo cordon", "check after"]
    assert report.outcome is Outcome.ABORTED


async def test_an_action_that_fails_ends_it_and_is_put_back(lab: Lab) -> None:
    lab.world.cannot_act = True
    report = await lab.run(experiment({"actions": [{"type": "cordon", "node": "n1"}]}))
    assert report.outcome is Outcome.FAILED
    assert "undo cordon" in lab.world.done


async def test_an_action_is_watched_while_it_is_taken(lab: Lab) -> None:
    """A drain may take minutes, and the step's faults are laid meanwhile."""
    lab.world.holds, lab.world.acts_slowly = ["guard"], True
    actions = [{"type": "drain", "node": "n1"}, {"type": "cordon", "node": "n2"}]
    report = await lab.run(experiment({"faults": [ABORT], "actions": actions}))
    assert report.outcome is Outcome.ABORTED
    assert "act cordon" not in lab.world.done
    assert lab.world.done[-3:] == ["restore", "undo drain", "check after"]


async def test_an_abort_ends_an_action_that_is_under_way(lab: Lab) -> None:
    lab.world.holds, lab.world.acts_slowly = ["stopped"], True
    handle = await lab.start(experiment({"faults": [ABORT], "actions": [{"type": "drain", "node": "n1"}]}))
    async with asyncio.timeout(30):
        await lab.world.acting.wait()
    await handle.execute_update("abort", Command(caller=ANN, reason="enough"), result_type=str)
    assert (await handle.result()).outcome is Outcome.ABORTED
    assert lab.world.done[-2:] == ["restore", "undo drain"]


async def test_an_abort_restores_and_asks_nothing_more(lab: Lab) -> None:
    lab.world.holds = ["stopped"]
    handle = await lab.start(experiment())
    await lab.held()
    said = await handle.execute_update("abort", Command(caller=ANN, reason="enough"), result_type=str)
    report = await handle.result()
    assert said == "Aborted: enough"
    assert (report.outcome, report.verdict) == (Outcome.ABORTED, Verdict.ABORTED)
    assert lab.world.done[-1] == "restore"
    assert report.exposure.requests == 10, "what was seen until then is in the report"


async def test_an_abort_without_a_reason_is_told_as_one(lab: Lab) -> None:
    lab.world.holds = ["stopped"]
    handle = await lab.start(experiment())
    await lab.held()
    await handle.execute_update("abort", Command(caller=ANN), result_type=str)
    report = await handle.result()
    assert (report.outcome, report.reason) == (Outcome.ABORTED, "aborted, no reason given")
    assert "abort: no reason given" in [event.text for event in report.timeline]


async def test_a_pause_holds_the_fault_until_it_is_let_go(lab: Lab) -> None:
    lab.world.holds = ["held", "stopped"]
    handle = await lab.start(experiment())
    await handle.signal("pause", Command(caller=ANN))
    await lab.held()
    assert lab.world.laid == 1
    await handle.execute_update("resume", Command(caller=ANN), result_type=str)
    report = await handle.result()
    assert report.verdict is Verdict.PASS
    assert report.steps[0].effects[0].requests == 20, "both holds are counted"


@pytest.mark.parametrize(("verdict", "pauses"), [("hypothesis", 1), ("held", 0), ("guard", 0)])
async def test_a_refuted_run_pauses_its_schedule(lab: Lab, verdict: HoldCause, pauses: int) -> None:
    lab.world.holds = [verdict]
    wanted = experiment(schedule="chaos-schedule/local/shop/x")
    again = ExperimentSpec.model_validate({**wanted.spec.model_dump(), "schedule": {"cron": "0 * * * *"}})
    await lab.run(wanted.model_copy(update={"spec": again}))
    assert len(lab.world.paused) == pauses


@pytest.mark.devserver
async def test_a_terminated_experiment_is_restored_by_its_guard(dev_server: WorkflowEnvironment) -> None:
    async with lab_on(dev_server, cached=1000) as lab:
        lab.world.holds = ["stopped"]
        handle = await lab.start(experiment())
        await lab.held()
        await handle.terminate("by hand")
        async with asyncio.timeout(30):
            while lab.world.lease is not None:
                await asyncio.sleep(0.01)
        assert lab.world.lifted_by == ["guard-workflow"]
        with pytest.raises(WorkflowFailureError):
            await handle.result()


@pytest.mark.devserver
async def test_its_history_replays_and_stays_small(dev_server: WorkflowEnvironment) -> None:
    async with lab_on(dev_server, cached=1000) as lab:
        handle = await lab.start(experiment({"faults": [ABORT]}, {"faults": [ABORT]}, {"faults": [ABORT]}))
        await handle.result()
        history = await handle.fetch_history()
    assert len(history.events) < 200
    await Replayer(workflows=all_workflows(), plugins=[AutopilotPlugin()]).replay_workflow(history)
