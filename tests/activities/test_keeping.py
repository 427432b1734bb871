"""Whoever acts for an operation keeps its lease alive: for as long as the operation can hear, and no longer."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.service import RPCError, RPCStatusCode

from activities import keeping
from activities.keeping import Keeper
from activities.pulse import Pulse
from activities.signatures import HaltRule
from autopilot.mesh.errors import Condemned, LeaseLost, MeshUnavailable, TakenOver
from autopilot.mesh.model import Aspect, Holder, Lease, Target
from autopilot.mesh.orders import Standing

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

    standing: Standing = field(default_factory=Standing)
    refuses: Exception | None = None
    renewed: int = 0

    async def renew(self, lease: Lease) -> Standing:
        if self.refuses is not None:
            raise self.refuses
        self.renewed += 1
        return self.standing


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Temporal:
    """A client that describes one workflow: how often its task has failed, and since when."""

    attempt: int = 0
    since: float = 0.0
    asked: list[str] = field(default_factory=list)
    gone: bool = False

    def get_workflow_handle(self, workflow_id: str) -> Any:
        async def describe(**_: Any) -> Any:
            self.asked.append(workflow_id)
            if self.gone:
                raise RPCError("unavailable", RPCStatusCode.UNAVAILABLE, b"")
            task = SimpleNamespace(
                attempt=self.attempt, original_scheduled_time=SimpleNamespace(ToSeconds=lambda: self.since)
            )
            return SimpleNamespace(raw_description=SimpleNamespace(pending_workflow_task=task))

        return SimpleNamespace(describe=describe)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(keeping.time, "monotonic", made)
    return made


def keeper(mesh: Mesh, pulse: Pulse | None = None, *, halt: HaltRule = "end", grace: float = 30) -> Keeper:
    return Keeper(mesh, LEASE, pulse or Pulse(), grace=grace, halt=halt)  # type: ignore[arg-type]


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
    found = await keeper(Mesh(refuses=refusal)).renew()
    assert found is not None
    assert (found.cause, found.reason) == (cause, str(refusal))


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
    found = await keeper(Mesh(Standing(halted=pressed)), halt=rule).renew()
    assert (found.cause if found else None) == cause


async def test_it_gives_way_whatever_else_holds(clock: Clock) -> None:
    found = await keeper(Mesh(Standing(halted="halted", yield_to="security/b")), halt="ignore").renew()
    assert found is not None
    assert found.cause == "takenOver"
    assert "security/b" in found.reason


async def test_where_temporal_is_silent_for_its_grace_the_lease_is_left(clock: Clock) -> None:
    own = Clock()
    pulse, mesh = Pulse(own), Mesh()
    one = keeper(mesh, pulse)
    own.now += 29
    await one.renew()
    assert mesh.renewed == 1
    own.now += 2
    clock.now += 10
    assert await one.renew() is None
    assert mesh.renewed == 1
    pulse.beat()
    await one.renew()
    assert mesh.renewed == 2


async def test_a_parked_workflow_hears_nothing_either(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    own, temporal, mesh = Clock(), Temporal(), Mesh()
    pulse = Pulse(own)
    pulse._client = temporal  # type: ignore[assignment]
    monkeypatch.setattr("activities.pulse.time.time", lambda: 5000.0)
    one = keeper(mesh, pulse)
    await one.renew()
    assert (mesh.renewed, temporal.asked) == (1, ["canary/a"])
    temporal.attempt, temporal.since = 7, 5000.0 - 31  # it has failed for longer than the grace
    own.now += 16
    pulse.beat()
    clock.now += 11
    assert await one.renew() is None
    assert mesh.renewed == 1
    temporal.attempt = 1  # mended
    own.now += 16
    pulse.beat()
    await one.renew()
    assert mesh.renewed == 2


async def test_one_failed_try_is_not_parked_and_no_answer_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    own, temporal = Clock(), Temporal(attempt=2, since=0.0)
    pulse = Pulse(own)
    pulse._client = temporal  # type: ignore[assignment]
    monkeypatch.setattr("activities.pulse.time.time", lambda: 5000.0)
    assert await pulse.parked("canary/a") == 0
    temporal.attempt = 3
    own.now += 16
    assert await pulse.parked("canary/a") == 5000
    temporal.gone = True
    own.now += 16
    assert await pulse.parked("canary/a") == 5000
    assert len(temporal.asked) == 3
    assert await pulse.parked("canary/a") == 5000
