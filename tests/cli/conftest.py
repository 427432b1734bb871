"""A command line with everything behind it played: operations as plain objects, a mesh in memory."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import starter.client
from autopilot.evidence.model import Evidence
from autopilot.mesh.model import (
    ArmState,
    Capability,
    Holder,
    Lease,
    LeasePhase,
    LeaseStatus,
    Plan,
    Target,
    TargetState,
    Tier,
)
from autopilot.operations.canary_status import CanaryStatus, Progress
from autopilot.operations.common import Event, Exposure, Outcome, Phase
from autopilot.reports.canary import CanaryInput, CanaryReport, StepReport
from starter.cli.main import run

ID = "canary/local/shop/reviews"
NOW = 1_760_000_000.0
EXPERIMENT = """\
apiVersion: meshautopilot.io/v1alpha1
kind: MeshExperiment
metadata: {name: slow, namespace: shop}
spec:
  target: {service: reviews}
  hypothesis: {probes: [{type: http, name: shop, url: "http://shop/"}]}
  method: [{hold: 1s, faults: [{fault: {type: delay, delay: 100ms}, scope: {percentage: 5}}]}]
"""
EVIDENCE = (
    Evidence(metric="errors", harm=3.1, harm_needed=6.9, good=2.0, good_needed=3.0, canary=0.012, stable=0.001),
)

CANARY = """\
apiVersion: meshautopilot.io/v1alpha1
kind: MeshCanary
metadata: {name: NAME, namespace: shop}
spec:
  target: {service: SERVICE}
  arms: {stable: v1, canary: v2}
  steps: [{weight: 10, hold: 5s, pause: true}, {weight: 50, hold: 5s}]
"""


class OperationError(Exception):
    """As `starter.client.operations` has it."""


class OperationUnfinished(OperationError):
    """It runs."""


class OperationRunning(OperationError):
    """Its name is taken."""


for _error in (OperationError, OperationUnfinished):
    _error.__module__ = "starter.client.operations"
OperationRunning.__module__ = "starter.client.start"


@dataclass
class Stage:
    """What is behind the command line, and what was asked of it."""

    started: list[CanaryInput] = field(default_factory=list)
    told: list[tuple[str, str, Any]] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)
    status: CanaryStatus | OperationError | None = None
    progress: Progress | None = None
    report: CanaryReport | None = None
    problems: list[str] = field(default_factory=list)
    holders: tuple[str, ...] = ()
    leases: list[LeaseStatus] = field(default_factory=list)
    workers: dict[str, int] = field(default_factory=lambda: {"autopilot": 1})
    failing: dict[str, Exception] = field(default_factory=dict)
    """Function of `starter.client.operations` or `starter.client.start` → what it raises."""
    after: int = 0
    """How often a running operation is looked at before it ends with `report`."""

    def fail(self, name: str) -> None:
        if name in self.failing:
            raise self.failing[name]


class FakeMesh:
    """Reads only; anything that would write is missing, so that it cannot be called unseen."""

    name = "local"

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def capabilities(self) -> list[Capability]:
        return [Capability(change="SplitTraffic", supported=True, tier=Tier.PROXY, note="by routes")]

    async def observe(self, target: Target, split: object = None) -> TargetState:
        arms = (ArmState(name="v1", endpoints=("h:1",), weight=100, base_weight=100),)
        return TargetState(target=target, arms=arms, holders=self.stage.holders)

    async def plan(self, target: Target, changes: Sequence[Any]) -> Plan:
        return Plan(target=target, tier=Tier.PROXY, diff=f"--- before\n+++ after\n-v1: 100\n+{changes[0].weights}\n")

    async def leases(self) -> list[LeaseStatus]:
        return self.stage.leases

    async def unreadable(self) -> list[Any]:
        return []

    async def orders(self) -> tuple[list[Any], list[Any]]:
        return [], []


def operations(stage: Stage) -> ModuleType:
    """`starter.client.operations`, played."""
    module = ModuleType("starter.client.operations")

    async def connect() -> object:
        stage.fail("connect")
        return SimpleNamespace()

    async def list_operations(_client: object, *, running_only: bool) -> list[Any]:
        return [row for row in stage.rows if row.closed is None or not running_only]

    async def resolve(_client: object, text: str) -> str:
        stage.fail("resolve")
        return text if text.count("/") >= 3 else ID

    async def report(_client: object, workflow_id: str) -> CanaryReport:
        stage.fail("report")
        if stage.report is None or stage.after > 0:
            stage.after -= 1
            raise OperationUnfinished(workflow_id)
        return stage.report

    async def status(_client: object, _workflow_id: str) -> CanaryStatus:
        if isinstance(stage.status, OperationError):
            raise stage.status
        assert stage.status is not None
        return stage.status

    async def progress(_client: object, _workflow_id: str) -> Progress | None:
        return stage.progress

    def telling(name: str) -> Callable[..., Any]:
        async def tell(_client: object, workflow_id: str, command: Any) -> str:
            stage.fail(name)
            stage.told.append((name, workflow_id, command))
            return f"{name} it is"

        return tell

    module.heartbeat_timeout = lambda: 5.0  # type: ignore[attr-defined]
    functions = [connect, list_operations, resolve, report, status, progress]
    for function in functions:
        setattr(module, function.__name__, function)
    for name in ("pause", "resume", "abort", "approve", "promote"):
        setattr(module, name, telling(name))
    for error in (OperationError, OperationUnfinished):
        setattr(module, error.__name__, error)
    return module


def starting(stage: Stage) -> ModuleType:
    """`starter.client.start`, played."""
    module = ModuleType("starter.client.start")

    async def start_operation(_client: object, canary: CanaryInput) -> None:
        stage.fail("start_operation")
        stage.fail(f"start_operation {canary.name}")
        stage.started.append(canary)

    async def workers(_client: object, _mesh: str) -> dict[str, int]:
        return stage.workers

    for function in (start_operation, workers):
        setattr(module, function.__name__, function)
    module.OperationRunning = OperationRunning  # type: ignore[attr-defined]
    return module


def meshes(stage: Stage) -> ModuleType:
    """`starter.client.preflight`, played."""
    module = ModuleType("starter.client.preflight")

    @contextlib.asynccontextmanager
    async def open_mesh(_path: Path | None = None) -> AsyncIterator[FakeMesh]:
        stage.fail("open_mesh")
        yield FakeMesh(stage)

    module.open_mesh = open_mesh  # type: ignore[attr-defined]
    module.mesh_file = lambda path=None: path or Path("found/mesh.yaml")  # type: ignore[attr-defined]
    return module


def checks(stage: Stage) -> ModuleType:
    """What a kind's check is made of, played."""
    module = ModuleType("checks")

    async def check(_mesh: FakeMesh, _document: object, *, queue: bool = False) -> list[str]:
        return stage.problems

    async def check_actions(_mesh: FakeMesh, _target: Target, _spec: object) -> tuple[list[str], list[str]]:
        return [], []

    module.check_actions = check_actions  # type: ignore[attr-defined]
    module.check = check  # type: ignore[attr-defined]
    module.faults_of = lambda _spec, _step: []  # type: ignore[attr-defined]
    return module


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    """Everything behind the commands, to be set up and asked."""
    stage = Stage()
    played = (
        ("operations", operations),
        ("start", starting),
        ("preflight", meshes),
        ("canary_check", checks),
        ("experiment_check", checks),
    )
    for name, make in played:
        module = make(stage)
        monkeypatch.setitem(sys.modules, f"starter.client.{name}", module)
        monkeypatch.setattr(starter.client, name, module, raising=False)
    for variable in ("AUTOPILOT_MESH", "AUTOPILOT_PROMETHEUS", "TEMPORAL_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AUTOPILOT_HOME", str(tmp_path / "state"))
    return stage


@dataclass(frozen=True)
class Result:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def autopilot(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs one command line in this process."""

    def call(*words: str) -> Result:
        code = run([str(word) for word in words])
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return call


@pytest.fixture
def canary_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a rollout's file."""

    def write(name: str = "reviews", service: str = "reviews", text: str = CANARY) -> Path:
        file = tmp_path / f"{name}.yaml"
        file.write_text(text.replace("NAME", name).replace("SERVICE", service))
        return file

    return write


def a_status(**changes: Any) -> CanaryStatus:
    """A rollout in its second step."""
    known: dict[str, Any] = {
        "workflow_id": ID, "phase": Phase.PROGRESSING, "mesh": "local", "namespace": "shop", "service": "reviews",
        "stable": "v1", "canary": "v2", "step": 2, "steps": (10.0, 50.0, 100.0), "weight": 50.0, "started": NOW,
        "timeline": (Event(time=NOW, text="step 1 holds", who=""),), "exposure": Exposure(requests=120, seconds=10),
    }  # fmt: skip
    return CanaryStatus(**known | changes)


def a_progress() -> Progress:
    """The step under way."""
    return Progress(
        time=NOW, weight=50, measured=49.7, requests=312, stable_requests=2901, failures=3, seconds=31.5,
        evidence=EVIDENCE, silent=7.0,
    )  # fmt: skip


TOLD = (Event(time=NOW, text="step 1 holds"), Event(time=NOW + 70, text="promoted [by] hand", who="ann"))


def a_report(outcome: Outcome = Outcome.PROMOTED) -> CanaryReport:
    """A rollout that ended."""
    return CanaryReport(
        outcome=outcome, reason="errors: 3.1 of 6.9", workflow_id=ID, mesh="local", namespace="shop", service="reviews",
        stable="v1", canary="v2", started=NOW, ended=NOW + 75, exposure=Exposure(requests=60, failures=12, seconds=4),
        steps=(StepReport(number=1, weight=10, started=NOW, ended=NOW + 5, verdict="advance", reason="held"),),
        evidence=EVIDENCE, timeline=TOLD, restore_seconds=0.042,
    )  # fmt: skip


def a_row(closed: datetime | None = None) -> Any:
    """One line of a list."""
    return SimpleNamespace(
        workflow_id=ID, kind="MeshCanary", target="shop/reviews", mesh="local",
        phase="Ended" if closed else "Progressing",
        outcome="Promoted" if closed else "", started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), closed=closed,
    )  # fmt: skip


def a_lease(condemned: str | None = None) -> LeaseStatus:
    """A lease under way."""
    lease = Lease(
        target=Target(mesh="local", namespace="shop", service="reviews"), aspects=(), ttl=120, max_unattended=120,
        holder=Holder(operation=ID, fencing=3),
    )  # fmt: skip
    return LeaseStatus(
        lease=lease,
        phase=LeasePhase.ACTIVE,
        tier=Tier.PROXY,
        acquired=NOW,
        renewed=NOW,
        deadline=NOW,
        condemned=condemned,
    )
