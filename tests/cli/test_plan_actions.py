"""`plan` says what actions on workloads and nodes change, what they give up for good, and why they are refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from autopilot.mesh.errors import InvalidChange, MeshUnavailable
from autopilot.mesh.model import ArmState, Plan, Target, TargetState
from autopilot.spec.chaos.experiment import Action, Drain
from autopilot.spec.chaos.limits import Ceilings
from starter.cli.main import run
from starter.client import preflight

EXPERIMENT = """
apiVersion: meshautopilot.io/v1alpha1
kind: MeshExperiment
metadata: {name: lose-a-node, namespace: shop}
spec:
  target: {service: web}
  hypothesis: {probes: [{name: page, type: http, url: "http://web/", mode: continuous}]}
  method:
    - actions:
        - {type: podKill, count: 2, arm: v2, force: true}
        - {type: drain, node: node-1, deleteEmptyDirData: true}
"""


class Cluster:
    """A mesh in a cluster, as far as a plan reads it."""

    name, max_unattended, ceilings = "lab", 300.0, Ceilings(irreversible=True)

    async def observe(self, target: Target) -> TargetState:
        return TargetState(target=target, arms=(ArmState(name="v1", endpoints=("h:1",), weight=100, base_weight=100),))

    async def capabilities(self) -> list[object]:
        return []

    async def plan(self, target: Target, changes: object) -> Plan:
        raise AssertionError("there is no fault to plan")

    async def refused(self, target: Target, operation: str) -> str:
        return ""

    async def check_action(self, target: Target, action: Action) -> None:
        if isinstance(action, Drain):
            raise InvalidChange("drain of node node-1 would lose shop/migration-by-hand")
        raise MeshUnavailable("you may not list pods")


def test_plan_says_what_an_action_would_lose(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextlib.asynccontextmanager
    async def opened(path: Path | None = None) -> AsyncIterator[Cluster]:
        yield Cluster()

    monkeypatch.setattr(preflight, "open_mesh", opened)
    monkeypatch.setenv("COLUMNS", "400")
    file = tmp_path / "experiment.yaml"
    file.write_text(EXPERIMENT)
    assert run(["plan", "-f", str(file), "-o", "json"]) == 1
    (planned,) = json.loads(capsys.readouterr().out)
    assert [(one["scope"], one["exactness"]) for one in planned["faults"]] == [
        ("2 of the pods of shop/web v2", "reversible: false; force: also pods without a controller, for good"),
        ("node node-1", "reversible: false; deleteEmptyDirData: also data in emptyDir volumes"),
    ]
    (problem,) = planned["problems"]
    assert "step 1: drain of node node-1 would lose shop/migration-by-hand" in problem
    (doubt,) = planned["doubts"]
    assert "whether podKill is possible was not checked" in doubt
    assert run(["plan", "-f", str(file)]) == 1
    assert "would not start" in capsys.readouterr().out
