"""Commands start at once: what each of them imports is held here, by name and by number, against a real server.

A stand-in workflow answers, since who answers makes no difference to what a command imports.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from autopilot.mesh.envoy.prepare import prepare
from autopilot.operations.canary_status import CanaryStatus
from autopilot.operations.common import Command, Outcome, Phase
from autopilot.operations.experiment_status import ExperimentStatus, Verdict
from autopilot.reports.canary import CanaryReport
from autopilot.reports.experiment import ExperimentInput
from autopilot.spec.chaos.experiment import ExperimentSpec
from starter.client import schedules, start_schedule
from starter.client.operations import KIND, PHASE, TARGET, list_operations
from tests.mesh.conftest import MESH

from .conftest import EXPERIMENT, a_report, a_status

NEVER = frozenset({"temporalio.worker", "kubernetes", "numpy", "scipy", "prometheus_api_client"})
"""No quick command may load any of these, or anything below them."""
FILES_ALONE = NEVER | {"temporalio", "aiohttp", "workflows", "activities", "worker", "autopilot.mesh.kube"}
"""Nor may what only reads files load these."""
TEMPORAL_ALONE = NEVER | {
    "ruamel", "aiohttp", "workflows", "activities", "worker.plugin", "autopilot.mesh.kube", "autopilot.mesh.envoy",
}  # fmt: skip
"""Nor may what only talks to Temporal load these."""
SPECIFICATION = frozenset({"autopilot.mesh.model", "autopilot.spec.canary", "autopilot.spec.chaos.faults"})
ONE_OPERATION = TEMPORAL_ALONE | SPECIFICATION | {"autopilot.spec.chaos.experiment"}
"""Nor may what looks at a running operation load these."""
ONE_COMMAND = ONE_OPERATION | {
    "rich",
    "autopilot.evidence",
    "autopilot.reports.canary",
    "autopilot.reports.experiment",
}
"""Nor may what sends one command load these."""
MOST = {"command": 640, "list": 690, "look": 705, "schedule list": 665, "crds": 390, "plan": 500}
"""So many modules may be loaded, those of Python and of libraries too: measured, and a few per cent of slack."""
PROBE = """\
import os, sys
from autopilot._bootstrap import bootstrap
bootstrap()
from starter.cli.main import run
code = run()
sys.stdout.flush()
with open(os.environ["MODULES"], "w") as file:
    file.write("\\n".join(sys.modules))
os._exit(code)
"""
CANARY = """\
apiVersion: meshautopilot.io/v1alpha1
kind: MeshCanary
metadata: {name: reviews, namespace: shop}
spec: {target: {service: reviews}, arms: {stable: v1, canary: v2}, steps: [{weight: 10, hold: 5s}]}
"""


class _Told:
    """Answers every command, and ends when it is told to."""

    def __init__(self) -> None:
        self.over = False

    @workflow.update
    async def pause(self, command: Command) -> str:
        return "pause"

    @workflow.update
    async def resume(self, command: Command) -> str:
        return "resume"

    @workflow.update
    async def approve(self, command: Command) -> str:
        return "approve"

    @workflow.update
    async def promote(self, command: Command) -> str:
        return "promote"

    @workflow.update
    async def abort(self, command: Command) -> str:
        self.over = True
        return "abort"


@workflow.defn(name="PlayedCanary")
class PlayedCanary(_Told):
    """A rollout, played."""

    @workflow.run
    async def run(self) -> CanaryReport:
        await workflow.wait_condition(lambda: self.over)
        return a_report(Outcome.ABORTED)

    @workflow.query
    def status(self) -> CanaryStatus:
        return a_status(workflow_id=workflow.info().workflow_id)


@workflow.defn(name="PlayedExperiment")
class PlayedExperiment(_Told):
    """An experiment, played."""

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.over)

    @workflow.query
    def status(self) -> ExperimentStatus:
        return ExperimentStatus(
            workflow_id=workflow.info().workflow_id,
            phase=Phase.PROGRESSING,
            verdict=Verdict.PASS,
            mesh="local",
            namespace="shop",
            service="reviews",
        )


@dataclass(frozen=True)
class Loaded:
    """What a command left."""

    code: int
    out: str
    err: str
    modules: frozenset[str]

    def below(self, names: Sequence[str] | frozenset[str]) -> set[str]:
        """Those of the names that were loaded, or of which a part was."""
        return {name for name in names if any(each == name or each.startswith(f"{name}.") for each in self.modules)}


@dataclass(frozen=True)
class Shell:
    """Runs commands in processes of their own, and sees what each has loaded at its end."""

    address: str
    folder: Path

    async def run(self, *words: str) -> Loaded:
        modules = self.folder / f"modules-{uuid4()}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "AUTOPILOT_"))}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PROBE,
            *words,
            env={
                **kept,
                "TEMPORAL_ADDRESS": self.address,
                "AUTOPILOT_HOME": str(self.folder / "state"),
                "AUTOPILOT_MESH": str(self.folder / "mesh.yaml"),
                "MODULES": str(modules),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 50)
        return Loaded(process.returncode or 0, out.decode(), err.decode(), frozenset(modules.read_text().split()))


@pytest.fixture
def shell(dev_server: WorkflowEnvironment, tmp_path: Path) -> Shell:
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(MESH.replace("maxUnattended: 60s", "maxUnattended: 5m"))
    prepare(mesh)
    return Shell(dev_server.client.service_client.config.target_host, tmp_path)


@contextlib.asynccontextmanager
async def played(client: Client, kind: str) -> AsyncIterator[str]:
    """An operation under way, and its id."""
    chaos = kind == "chaos"
    queue = f"played-{uuid4()}"
    workflow_id = f"{kind}/local/shop/{queue}"
    pairs = [(KIND, "MeshExperiment" if chaos else "MeshCanary"), (TARGET, "shop/reviews"), (PHASE, "Progressing")]
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[PlayedCanary, PlayedExperiment],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with worker:
        handle = await client.start_workflow(
            "PlayedExperiment" if chaos else "PlayedCanary",
            id=workflow_id,
            task_queue=queue,
            execution_timeout=timedelta(minutes=2),
            search_attributes=TypedSearchAttributes([SearchAttributePair(key, value) for key, value in pairs]),
        )
        try:
            yield workflow_id
        finally:
            with contextlib.suppress(Exception):
                await handle.terminate()


async def listed(client: Client, operation: str) -> None:
    """Waits until Temporal's visibility knows the operation."""
    async with asyncio.timeout(10):
        while operation not in {each.workflow_id for each in await list_operations(client, running_only=True)}:
            await asyncio.sleep(0.05)


@pytest.mark.devserver
@pytest.mark.parametrize("kind", ["canary", "chaos"])
@pytest.mark.parametrize("verb", ["pause", "resume", "abort", "approve", "promote"])
async def test_what_commands_an_operation_loads_the_client_and_the_command(
    shell: Shell, dev_server: WorkflowEnvironment, verb: str, kind: str
) -> None:
    async with played(dev_server.client, kind) as operation:
        done = await shell.run(verb, operation)
    assert (done.code, done.err) == (0, "")
    assert f"{operation}: {verb}" in done.out
    assert not done.below(ONE_COMMAND)
    assert len(done.modules) <= MOST["command"]


@pytest.mark.devserver
async def test_list_loads_the_client_and_what_draws_a_table(shell: Shell, dev_server: WorkflowEnvironment) -> None:
    async with played(dev_server.client, "canary") as operation:
        async with asyncio.timeout(10):
            while operation not in {
                each.workflow_id for each in await list_operations(dev_server.client, running_only=True)
            }:
                await asyncio.sleep(0.05)
        done = await shell.run("list")
        for_programs = await shell.run("list", "-o", "json")
    assert operation in done.out
    assert not done.below((ONE_COMMAND | {"autopilot.operations"}) - {"rich"})
    assert len(done.modules) <= MOST["list"]
    assert operation in {each["workflow_id"] for each in json.loads(for_programs.out)}
    assert not for_programs.below(ONE_COMMAND)


@pytest.mark.devserver
@pytest.mark.parametrize("words", [["get"], ["status"], ["get", "-o", "json"]], ids=" ".join)
async def test_looking_at_an_operation_loads_the_models_of_its_kind_alone(
    shell: Shell, dev_server: WorkflowEnvironment, words: list[str]
) -> None:
    verb, code = words[0], 3 if words == ["status"] else 0
    async with played(dev_server.client, "canary") as rollout, played(dev_server.client, "chaos") as experiment:
        running, chaos = await shell.run(*words, rollout), await shell.run(*words, experiment)
        await dev_server.client.get_workflow_handle(rollout).execute_update("abort", Command(), result_type=str)
        ended = await shell.run(*words, rollout)
    assert (running.code, chaos.code, ended.code) == (code, code, 4 if verb == "status" else 0)
    assert rollout in running.out
    assert experiment in chaos.out
    assert "Aborted" in ended.out
    assert not running.below(ONE_OPERATION | {"autopilot.reports.canary", "autopilot.operations.experiment_status"})
    assert not chaos.below(
        ONE_OPERATION
        | {
            "autopilot.reports.canary",
            "autopilot.reports.experiment",
            "autopilot.operations.canary_status",
        }
    )
    assert not ended.below(
        (ONE_OPERATION - SPECIFICATION) | {"autopilot.reports.experiment", "autopilot.spec.chaos.experiment"}
    )
    assert max(len(each.modules) for each in (running, chaos, ended)) <= MOST["look"]


@pytest.mark.devserver
async def test_a_list_of_schedules_loads_no_worker(shell: Shell, dev_server: WorkflowEnvironment) -> None:
    spec = {
        "target": {"service": "reviews"},
        "hypothesis": {"probes": [{"type": "http", "name": "shop", "url": "http://shop/"}]},
        "method": [
            {"hold": "1s", "faults": [{"fault": {"type": "delay", "delay": "100ms"}, "scope": {"percentage": 5}}]}
        ],
        "schedule": {"cron": "0 10 1 1 *"},
    }
    wanted = ExperimentInput(mesh="local", namespace="shop", name="light", spec=ExperimentSpec.model_validate(spec))
    schedule = await start_schedule.put(dev_server.client, wanted)
    try:
        done = await shell.run("schedule", "list", "-o", "json")
    finally:
        await schedules.delete(dev_server.client, schedule)
    assert schedule in done.out
    assert not done.below(TEMPORAL_ALONE - {"activities"})
    assert len(done.modules) <= MOST["schedule list"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("crds",), "kind: CustomResourceDefinition"),
        (("plan", "-f", "rollout.yaml"), "canary/local/shop/reviews"),
        (("plan", "-f", "experiment.yaml"), "chaos/local/shop/slow"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_what_reads_files_loads_no_client_of_anything(shell: Shell, words: tuple[str, ...], shown: str) -> None:
    (shell.folder / "rollout.yaml").write_text(CANARY)
    (shell.folder / "experiment.yaml").write_text(EXPERIMENT)
    done = await shell.run(*(str(shell.folder / word) if word.endswith(".yaml") else word for word in words))
    assert done.code == 0, done.err
    assert shown in done.out
    assert not done.below(FILES_ALONE)
    assert len(done.modules) <= MOST[words[0]]


async def test_the_check_can_fail(tmp_path: Path) -> None:
    done = await Shell("127.0.0.1:1", tmp_path).run("judge", "replay", "nothing")
    assert done.code == 1
    assert done.below(NEVER) == {"numpy", "scipy"}
    assert len(done.modules) > max(MOST.values())
