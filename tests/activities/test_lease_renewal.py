"""Whoever acts for an operation keeps its lease alive: for as long as the operation can hear, and no longer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from temporalio.api.enums.v1 import PendingWorkflowTaskState, WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse
from temporalio.service import RPCError, RPCStatusCode

from activities import lease_renewal
from activities.contracts.operation import HaltRule
from activities.lease_renewal import LeaseRenewer
from activities.temporal_health import TemporalHealth
from activities.workflow_checks import WorkflowCheck
from autopilot.mesh.errors import Condemned, LeaseLost, MeshUnavailable, TakenOver
from autopilot.mesh.leases.overrides import LeaseOrders
from autopilot.mesh.model import Aspect, Holder, Lease, Target

LEASE = Lease(
    target=Target(mesh="local", namespace="shop", service="reviews"),
    aspects=(Aspect.TRAFFIC,),
    holder=Holder(operation="canary/a", fencing=1),
    ttl=120,
    max_unattended=120,
)


@dataclass
class Mesh:
    """A mesh that answers renewals as told."""

    standing: LeaseOrders = field(default_factory=LeaseOrders)
    refuses: Exception | None = None
    renewed: int = 0

    async def renew(self, lease: Lease) -> LeaseOrders:
        if self.refuses is not None:
            raise self.refuses
        self.renewed += 1
        return self.standing


@dataclass
class Hanging:
    """A mesh whose first renewals hang until they are told to come back; condemning a lease hangs for ever."""

    first: int = 0
    renewed: int = 0
    cancelled: int = 0
    under_way: list[asyncio.Event] = field(default_factory=list)

    async def renew(self, lease: Lease) -> LeaseOrders:
        if len(self.under_way) < self.first:
            self.under_way.append(asyncio.Event())
            try:
                await self.under_way[-1].wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        self.renewed += 1
        return LeaseOrders()

    async def condemn(self, lease: Lease, reason: str) -> None:
        await asyncio.Event().wait()


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Temporal:
    """A client that describes one workflow: its task that waits, how often it has failed, and since when."""

    attempt: int = 0
    since: float = 0.0
    state: Any = PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_UNSPECIFIED
    status: Any = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
    fails: RPCStatusCode | None = None
    hangs: bool = False
    asked: list[str] = field(default_factory=list)
    namespace: str = "default"

    @property
    def workflow_service(self) -> Temporal:
        return self

    async def describe_workflow_execution(
        self, request: DescribeWorkflowExecutionRequest, **_: Any
    ) -> DescribeWorkflowExecutionResponse:
        self.asked.append(request.execution.workflow_id)
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise RPCError("failed", self.fails, b"")
        answer = DescribeWorkflowExecutionResponse()
        answer.workflow_execution_info.status = self.status
        if self.attempt:
            pending = answer.pending_workflow_task
            pending.attempt, pending.state = self.attempt, self.state
            pending.scheduled_time.FromSeconds(int(self.since))
            pending.original_scheduled_time.FromSeconds(int(self.since))
        return answer


SCHEDULED = PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED


def pulse_of(temporal: Temporal, clock: Clock) -> TemporalHealth:
    made = TemporalHealth(clock)
    made._client = temporal  # type: ignore[assignment]
    return made


async def found(health: TemporalHealth) -> WorkflowCheck:
    """What a look finds that begins now, where one is due."""
    health.workflow("canary/a")
    await health.settle()
    return health.workflow("canary/a")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("activities.lease_renewal.time.monotonic", made)
    return made


def keeper(
    mesh: Mesh | Hanging, health: TemporalHealth | None = None, *, halt: HaltRule = "end", grace: float = 30
) -> LeaseRenewer:
    return LeaseRenewer(mesh, LEASE, health or TemporalHealth(), grace=grace, halt=halt)  # type: ignore[arg-type]


async def test_it_renews_often_enough_and_not_more(clock: Clock) -> None:
    mesh = Mesh()
    one = keeper(mesh)
    for _ in range(120):
        assert await one.renew() is None
        clock.now += 0.5
    assert 60 / 5 <= mesh.renewed <= 60 / 5 + 1


@pytest.mark.parametrize(
    ("refusal", "cause"),
    [(LeaseLost("gone"), "leaseLost"), (TakenOver("ann has it"), "takenOver"), (Condemned("harm"), "condemned")],
)
async def test_it_says_why_the_lease_is_gone(clock: Clock, refusal: Exception, cause: str) -> None:
    ended = await keeper(Mesh(refuses=refusal)).renew()
    assert ended is not None
    assert (ended.cause, ended.reason) == (cause, str(refusal))


async def test_a_mesh_that_does_not_answer_is_asked_again_at_once(clock: Clock) -> None:
    mesh = Mesh(refuses=MeshUnavailable("busy"))
    one = keeper(mesh)
    assert await one.renew() is None
    mesh.refuses = None
    assert await one.renew() is None
    assert mesh.renewed == 1


@pytest.mark.parametrize(
    ("rule", "pressed", "cause"),
    [("end", "halted by ann", "halted"), ("end", "", None), ("over", "halted by ann", None), ("over", "", "stopped"),
     ("ignore", "halted by ann", None), ("ignore", "", None)],
)  # fmt: skip
async def test_what_the_stop_button_means(clock: Clock, rule: HaltRule, pressed: str, cause: str | None) -> None:
    ended = await keeper(Mesh(LeaseOrders(halted=pressed)), halt=rule).renew()
    assert (ended.cause if ended else None) == cause


async def test_it_gives_way_whatever_else_holds(clock: Clock) -> None:
    ended = await keeper(Mesh(LeaseOrders(halted="halted", yield_to="security/b")), halt="ignore").renew()
    assert ended is not None
    assert ended.cause == "takenOver"
    assert "security/b" in ended.reason


async def test_where_temporal_is_silent_for_its_grace_the_lease_is_left(clock: Clock) -> None:
    own = Clock()
    health, mesh = TemporalHealth(own), Mesh()
    one = keeper(mesh, health)
    own.now += 29
    await one.renew()
    assert mesh.renewed == 1
    own.now += 2
    clock.now += 10
    assert await one.renew() is None
    assert mesh.renewed == 1
    health.beat()
    await one.renew()
    assert mesh.renewed == 2


async def test_a_parked_workflow_hears_nothing_either(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    own, temporal, mesh = Clock(), Temporal(), Mesh()
    health = pulse_of(temporal, own)
    monkeypatch.setattr("activities.workflow_checks.time.time", lambda: 5000.0)
    one = keeper(mesh, health)
    await one.renew()
    await health.settle()
    assert (mesh.renewed, temporal.asked) == (1, ["canary/a"])
    temporal.attempt, temporal.since = 7, 5000.0 - 31  # it has failed for longer than the grace
    own.now += 16
    health.beat()
    assert await found(health) == WorkflowCheck("failing", 31)
    clock.now += 11
    assert await one.renew() is None
    assert mesh.renewed == 1
    temporal.attempt = 1  # mended
    own.now += 16
    health.beat()
    assert await found(health) == WorkflowCheck("runs")
    await one.renew()
    assert mesh.renewed == 2


async def test_one_failed_try_is_not_parked_and_no_answer_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    own, temporal = Clock(), Temporal(attempt=2, since=0.0)
    health = pulse_of(temporal, own)
    monkeypatch.setattr("activities.workflow_checks.time.time", lambda: 5000.0)
    assert (await found(health)).seconds == 0
    temporal.attempt = 3
    own.now += 16
    assert (await found(health)).seconds == 5000
    temporal.fails = RPCStatusCode.UNAVAILABLE
    own.now += 16
    assert health.parked("canary/a") == 5000
    await health.settle()
    assert len(temporal.asked) == 3
    assert health.parked("canary/a") == 5000


async def test_a_workflow_that_no_worker_polls_for_is_told_apart_from_one_whose_task_was_just_scheduled(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, temporal, mesh = Clock(), Temporal(attempt=1, since=1400.0, state=SCHEDULED), Mesh()
    health = pulse_of(temporal, own)
    monkeypatch.setattr("activities.workflow_checks.time.time", lambda: 5000.0)  # an hour ahead of the server's clock
    one = keeper(mesh, health, grace=30)
    assert await found(health) == WorkflowCheck("runs"), "every task waits for an instant"
    own.now += 16
    temporal.since += 16
    assert (await found(health)).state == "notPolled", "it was not there at the last look, and is that old by our clock"
    temporal.since += 1  # a worker took it, and there is another
    own.now += 16
    temporal.state = PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_STARTED
    assert await found(health) == WorkflowCheck("runs")
    temporal.state = SCHEDULED
    for waited in (16, 32, 48):
        own.now += 16
        health.beat()
        assert await found(health) == WorkflowCheck("notPolled", waited)
        clock.now += 11
        await one.renew()
    assert mesh.renewed == 1, "only while it was within the grace"


@pytest.mark.parametrize(
    ("temporal", "state"),
    [
        (Temporal(fails=RPCStatusCode.NOT_FOUND), "gone"),
        (
            Temporal(status=WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED, attempt=1, state=SCHEDULED),
            "closed",
        ),
        (Temporal(status=WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED), "closed"),
    ],
)
async def test_for_a_workflow_that_has_ended_nothing_is_renewed(clock: Clock, temporal: Temporal, state: str) -> None:
    own, mesh = Clock(), Mesh()
    health = pulse_of(temporal, own)
    first = await found(health)
    assert first.state == ("unknown" if state == "gone" else state), "a server that starts knows nothing for a moment"
    own.now += 16
    health.beat()
    assert (await found(health)).state == state
    await keeper(mesh, health).renew()
    assert mesh.renewed == 0


async def test_looks_that_hang_do_not_pile_up_and_hold_nobody_up() -> None:
    own, temporal, mesh = Clock(), Temporal(hangs=True), Mesh()
    health = pulse_of(temporal, own)
    one = keeper(mesh, health)
    for _ in range(5):
        assert await one.renew() is None
        one._renewed -= 100
        own.now += 16
        health.beat()
    assert mesh.renewed == 5
    assert len(temporal.asked) == 1
    await health._checks.close()


async def test_a_renewal_that_hangs_is_not_waited_for_and_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_renewal, "_LIMIT", 0.05)
    monkeypatch.setattr(lease_renewal, "_LONGEST", 0.05)
    mesh = Hanging(first=2)
    one = keeper(mesh)
    async with asyncio.timeout(5), one.keeping() as kept:
        while len(mesh.under_way) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert len(mesh.under_way) == 2, "each may hold a thread that restores need"
        mesh.under_way[1].set()  # this one comes back late, and counts all the same
        while mesh.renewed < 3:
            await asyncio.sleep(0.01)
        assert not kept.done()
    assert mesh.cancelled == 1, "nothing lingers"


async def test_its_task_ends_at_once_with_what_ends_the_operation() -> None:
    async with asyncio.timeout(5), keeper(Mesh(refuses=TakenOver("ann has it"))).keeping() as kept:
        assert (await kept).cause == "takenOver"


async def test_an_error_of_ours_is_no_silence() -> None:
    async with asyncio.timeout(5), keeper(Mesh(refuses=ZeroDivisionError())).keeping() as kept:
        with pytest.raises(ZeroDivisionError):
            await kept


async def test_a_mesh_that_hangs_does_not_hold_a_verdict_of_harm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_renewal, "_CONDEMN", 0.1)
    async with asyncio.timeout(5):
        await keeper(Hanging()).condemn("harm")
