"""A kind of operation that a package of others adds: every command has it, and nothing of the project names it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.client import Client

from autopilot import kinds
from autopilot.local import envoy, temporal

from .conftest import ROOT, Environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ID = "detour/local/shop/aside"
REPLAY = """
import asyncio, sys
from autopilot._bootstrap import bootstrap
bootstrap()
from temporalio.worker import Replayer
from worker.plugin import AutopilotPlugin, all_workflows
from worker.temporal_client import connect

async def main() -> None:
    client = await connect(sys.argv[1], plugins=[AutopilotPlugin()])
    history = await client.get_workflow_handle(sys.argv[2]).fetch_history()
    await Replayer(workflows=all_workflows(), plugins=[AutopilotPlugin()]).replay_workflow(history)
    print("replayed", len(history.events))

asyncio.run(main())
"""


def document(hold: str) -> str:
    return f"""
apiVersion: meshautopilot.io/v1alpha1
kind: MeshDetour
metadata: {{name: aside, namespace: shop}}
spec: {{target: {{service: reviews}}, arm: v2, hold: {hold}}}
"""


@dataclass
class Stack:
    """The embedded stack, started by the command of that environment."""

    environment: Environment
    state: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        parts = {
            "AUTOPILOT_HOME": str(self.state),
            "AUTOPILOT_TEMPORAL": str(temporal.find()),
            "AUTOPILOT_ENVOY": str(envoy.find()),
        }
        return self.environment.run("autopilot", *words, COLUMNS="200", **parts)

    def told(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def file(self, hold: str) -> str:
        path = self.state / f"{hold}.yaml"
        path.write_text(document(hold))
        return str(path)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        limit = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < limit, f"waited 30 s for {what}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def stack(with_a_kind: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(with_a_kind, tmp_path_factory.mktemp("detour"))
    made.told("up", "--detach", "--only", "mesh,temporal,worker,guard")
    try:
        yield made
    finally:
        made.run("down")


@pytest.mark.parametrize("kind", kinds.BUILT_IN, ids=lambda kind: kind.name)
def test_each_part_of_a_kind_that_is_built_in_is_there(kind: kinds.Kind) -> None:
    parts = {one.name for one in dataclasses.fields(kind)} - {"name", "document", "progress", "priority", "holds"}
    for part in parts:
        assert not getattr(kind, part) or kind.load(part) is not None
    assert all(kind.progress_model(activity) is not None for activity in kind.progress)


def test_it_is_a_resource(with_a_kind: Environment) -> None:
    made = with_a_kind.run("autopilot", "crds", "MeshDetour")
    assert made.returncode == 0, made.stderr
    assert "name: meshdetours.meshautopilot.io" in made.stdout
    assert ".spec.arm" in made.stdout


def test_a_mistake_in_its_file_is_named_as_in_any_other(with_a_kind: Environment, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(document("soon"))
    done = with_a_kind.run("autopilot", "plan", "-f", str(tmp_path / "wrong.yaml"))
    assert done.returncode == 1
    assert "spec.hold" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_is_planned_run_watched_reported_and_replayed(stack: Stack) -> None:
    assert ID in stack.told("plan", "-f", stack.file("2s"))
    (report,) = json.loads(stack.told("apply", "-f", stack.file("2s"), "--wait", "-o", "json"))
    assert (report["outcome"], report["reason"]) == ("Passed", "v2 had everything for 2 s")
    assert f"{ID} Passed" in stack.told("status", ID)
    assert "v2 gets everything" in stack.told("get", ID)
    assert any(row["kind"] == "MeshDetour" for row in json.loads(stack.told("list", "--all", "-o", "json")))
    assert json.loads(stack.told("report", ID))["timeline"] == report["timeline"]
    assert list((stack.state / "reports").glob("detour_local_shop_aside.*.json"))
    address = json.loads((stack.state / "stack.json").read_text())["temporal"]
    replayed = stack.environment.run("python", "-c", REPLAY, address, ID)
    assert "replayed" in replayed.stdout, replayed.stderr


def test_it_runs_by_a_schedule(stack: Stack) -> None:
    file = stack.state / "scheduled.yaml"
    file.write_text(document("1s").replace("hold: 1s", "hold: 1s, schedule: {cron: '0 4 1 1 *'}"))
    assert "scheduled detour-schedule/local/shop/aside" in stack.told("apply", "-f", str(file))
    rows = json.loads(stack.told("schedule", "list", "-o", "json"))
    assert [(row["id"], row["target"]) for row in rows] == [("detour-schedule/local/shop/aside", "shop/reviews")]
    reports = (stack.state / "reports").glob
    before = len(list(reports("detour_*.json")))
    assert f"started {ID}" in stack.told("schedule", "trigger", "aside", "--reason", "to see it")
    stack.until(lambda: len(list(reports("detour_*.json"))) > before, "the report of the run")
    assert f"{ID} Passed" in stack.told("status", ID)
    (run,) = json.loads(stack.told("schedule", "runs", "aside", "-o", "json"))
    assert (run["decision"], run["experiment"]) == ("started", ID)
    stack.told("schedule", "delete", "aside")


def test_it_holds_a_lease_is_refused_beside_another_and_restores_when_it_is_aborted(stack: Stack) -> None:
    stack.told("apply", "-f", stack.file("60s"))
    stack.until(lambda: ID in stack.run("leases").stdout, "its lease")
    stack.until(lambda: "all to v2" in stack.run("status", ID).stdout, "its write")
    refused = stack.run("apply", "-f", str(ROOT / "examples" / "canary.yaml"))
    assert refused.returncode == 1
    assert ID in refused.stderr
    assert "already running" in stack.run("apply", "-f", stack.file("60s")).stderr
    stack.told("abort", ID, "--reason", "enough")
    assert stack.run("status", ID).returncode == 4
    assert ID not in stack.told("leases")


def test_a_pause_makes_it_longer(stack: Stack) -> None:
    stack.told("apply", "-f", stack.file("10s"))
    stack.until(lambda: "Progressing" in stack.run("status", ID).stdout, "the detour to be laid")
    stack.told("pause", ID, "--reason", "look")
    stack.until(lambda: "Paused" in stack.run("status", ID).stdout, "the end of its time")
    stack.told("resume", ID)
    assert "Passed" in stack.told("status", ID, "--timeout", "20s")


def test_a_halt_restores_it(stack: Stack) -> None:
    stack.told("apply", "-f", stack.file("62s"))
    stack.until(lambda: "Progressing" in stack.run("status", ID).stdout, "the detour to be laid")
    assert "restored" in stack.told("halt", "--kind", "detour", "--reason", "enough")
    assert ID not in stack.told("leases")
    stack.until(lambda: f"{ID} TakenOver" in stack.run("status", ID).stdout, "the operation to end")
    assert "there is no kind 'detours'" in stack.run("halt", "--kind", "detours").stderr
    stack.told("unhalt", "--kind", "detour")


async def test_its_guard_restores_when_it_is_terminated(stack: Stack) -> None:
    await asyncio.to_thread(stack.told, "apply", "-f", stack.file("61s"))
    await asyncio.to_thread(stack.until, lambda: "all to v2" in stack.run("status", ID).stdout, "the detour to be laid")
    client = await Client.connect(json.loads((stack.state / "stack.json").read_text())["temporal"])
    await client.get_workflow_handle(ID).terminate()
    await asyncio.to_thread(stack.until, lambda: ID not in stack.run("leases").stdout, "the guard's restore")
