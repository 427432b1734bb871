"""A payload codec encrypts what Temporal stores: nothing of a spec or a reason can be read in a history."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    DescribeScheduleRequest,
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
)
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.converter import PayloadCodec
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer

from activities.contracts.schedule import ScheduledInput
from autopilot.operations.common import Caller, Command, Outcome
from autopilot.reports.canary import CanaryInput
from autopilot.reports.experiment import ExperimentInput
from autopilot.spec.canary import CanarySpec
from autopilot.spec.chaos.experiment import ExperimentSpec
from starter.cli.main import run
from starter.client import operations, schedules, start_schedule
from tests.conftest import start_dev_server
from tests.worker.aes import AesCodec
from tests.workflows.conftest import effects_on, guards_of, watches_on
from tests.workflows.fakes import ADVANCE, Hold, World
from worker.codecs import GROUP, VARIABLE, CodecError, named_codec
from worker.converter import with_codec
from worker.plugin import AutopilotPlugin, all_workflows
from worker.temporal_client import connect
from workflows.canary.workflow import CanaryWorkflow

PLAIN = ("plain-stable", "plain reason", "plain-person", "plain failure", '"state":"held"', "plain-query")
"""What no history may show: of the spec, of a command, of a failure, of a heartbeat."""
BY_ATTRIBUTE = "tests.worker.aes:make"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CODEC_KEY", os.urandom(32).hex())
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The codec as a distribution has it: an entry point; gives its name."""
    folder = tmp_path / "their_codec-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: their-codec\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        f"[{GROUP}]\naes = tests.worker.aes:make\nother = tests.worker.aes:no_codec\nbroken = tests.worker.aes:broken\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "aes"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[WorkflowEnvironment]:
    async with await start_dev_server() as environment:
        yield environment


def rollout(name: str) -> CanaryInput:
    spec = {
        "target": {"service": "reviews"},
        "arms": {"stable": "plain-stable", "canary": "v2"},
        "steps": [{"weight": 10}, {"weight": 50}],
        "analysis": {"metrics": [{"type": "promql", "name": "q", "query": "plain-query", "max": 1}]},
    }
    return CanaryInput(mesh="local", namespace="shop", name=name, spec=CanarySpec.model_validate(spec))


@contextlib.asynccontextmanager
async def working(client: Client, world: World) -> AsyncIterator[str]:
    async with effects_on(client, world) as queue, watches_on(client, world.watch):
        yield queue


async def stored(client: Client, workflow_id: str) -> str:
    """Everything that the server has of a workflow: its description, and the raw bytes of its history."""
    execution = WorkflowExecution(workflow_id=workflow_id)
    described = await client.workflow_service.describe_workflow_execution(
        DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=execution)
    )
    history = await client.workflow_service.get_workflow_execution_history(
        GetWorkflowExecutionHistoryRequest(namespace=client.namespace, execution=execution)
    )
    assert not history.next_page_token
    return (described.SerializeToString() + history.SerializeToString()).decode("latin-1")


async def walk(client: Client, name: str) -> tuple[str, str, World]:
    """A rollout that fails once, is watched, asked and aborted: its history while watched and at its end."""
    spec = rollout(name)
    world = World(script=[ADVANCE, Hold()], fail_apply=[ApplicationError("plain failure")])
    async with working(client, world) as queue:
        handle = await client.start_workflow(
            CanaryWorkflow.run,
            spec,
            id=spec.workflow_id,
            task_queue=queue,
            static_summary="shop/reviews: plain-stable → v2",
            search_attributes=TypedSearchAttributes([SearchAttributePair(operations.TARGET, "shop/reviews")]),
        )
        async with asyncio.timeout(30):
            await world.watching.wait()
            while await operations.progress(client, spec.workflow_id) is None:
                await asyncio.sleep(0.02)
        watched = await stored(client, spec.workflow_id)
        assert "plain-stable" in (await handle.query(CanaryWorkflow.status)).model_dump_json()
        command = Command(reason="plain reason", caller=Caller(who="plain-person"))
        await operations.abort(client, spec.workflow_id, command)
        report = await handle.result()
        assert report.outcome is Outcome.ABORTED
        assert "plain reason" in report.model_dump_json()
        (guard_id,) = await guards_of(client.get_workflow_handle(spec.workflow_id))
        guard = await stored(client, guard_id)
        return watched, await stored(client, spec.workflow_id) + guard, world


@pytest.mark.devserver
async def test_a_rollout_runs_and_nothing_of_it_can_be_read(
    server: WorkflowEnvironment, installed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.client.service_client.config.target_host)
    client = await connect(plugins=[AutopilotPlugin()], codec=installed)
    watched, ended, _ = await walk(client, "encrypted")
    assert [word for word in PLAIN if word in watched + ended] == []
    for readable in ("canary/local/shop/encrypted", "telemetry.watch", "AutopilotTarget", "shop/reviews"):
        assert readable in ended  # ids, search attributes and names of types are no payloads
    history = await client.get_workflow_handle("canary/local/shop/encrypted").fetch_history()
    replayer = Replayer(
        workflows=all_workflows(), plugins=[AutopilotPlugin()], data_converter=with_codec(named_codec(installed))
    )
    await replayer.replay_workflow(history)


@pytest.mark.devserver
async def test_the_check_can_fail(server: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a codec all of it can be read."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.client.service_client.config.target_host)
    client = await connect(plugins=[AutopilotPlugin()])
    watched, ended, _ = await walk(client, "readable")
    assert {word for word in PLAIN if word in watched + ended} == set(PLAIN)


@pytest.mark.devserver
async def test_commands_read_with_the_codec_that_their_environment_names(
    server: WorkflowEnvironment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.client.service_client.config.target_host)
    monkeypatch.setenv("AUTOPILOT_HOME", str(tmp_path))
    client = await connect(plugins=[AutopilotPlugin()], codec=BY_ATTRIBUTE)
    await walk(client, "asked")
    words = ["report", "canary/local/shop/asked"]
    assert await asyncio.to_thread(run, words) == 1
    said = capsys.readouterr().err
    assert "error: Temporal's payloads are encoded with a codec that this command does not have" in said
    assert f"hint: set {VARIABLE} to the name of the worker's codec" in said
    monkeypatch.setenv(VARIABLE, BY_ATTRIBUTE)
    assert await asyncio.to_thread(run, words) == 0
    assert "plain-stable" in capsys.readouterr().out


@pytest.mark.devserver
async def test_a_schedule_keeps_its_experiment_to_itself(
    server: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.client.service_client.config.target_host)
    monkeypatch.setenv(VARIABLE, BY_ATTRIBUTE)
    client = await connect()
    spec = {
        "title": "plain title",
        "target": {"service": "reviews"},
        "hypothesis": {"probes": [{"type": "http", "name": "shop", "url": "http://plain-shop/"}]},
        "method": [{"hold": 1, "faults": [{"fault": {"type": "delay", "delay": 1}, "scope": {"percentage": 5}}]}],
        "schedule": {"cron": "0 10 1 1 *"},
    }
    wanted = ExperimentInput(mesh="local", namespace="shop", name="secret", spec=ExperimentSpec.model_validate(spec))
    schedule = await start_schedule.put(client, wanted)
    assert await schedules.pause(client, schedule, Caller(who="ann"), "a note")
    (row,) = await schedules.list_schedules(client)
    assert "a note" in row.note
    assert await schedules.resume(client, schedule, Caller(who="ann"), "")
    described = await client.workflow_service.describe_schedule(
        DescribeScheduleRequest(namespace=client.namespace, schedule_id=schedule)
    )
    raw = described.SerializeToString().decode("latin-1")
    assert [word for word in ("plain title", "plain-shop") if word in raw] == []
    (decoded,) = await client.data_converter.decode(
        described.schedule.action.start_workflow.input.payloads, [ScheduledInput]
    )
    assert decoded.experiment.spec.title == "plain title"
    await schedules.delete(client, schedule)


# Names


def test_without_a_name_there_is_no_codec() -> None:
    assert named_codec() is None
    assert with_codec(None).payload_codec is None


def test_a_codec_is_an_entry_point_or_an_attribute(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(named_codec(installed), AesCodec)
    assert isinstance(named_codec(BY_ATTRIBUTE), AesCodec)
    monkeypatch.setenv(VARIABLE, installed)
    assert isinstance(named_codec(), AesCodec)


def test_a_plugin_keeps_the_codec_of_its_client() -> None:
    codec: PayloadCodec = AesCodec(os.urandom(32))
    config = AutopilotPlugin().configure_client({"data_converter": with_codec(codec)})  # type: ignore[typeddict-item]
    assert config["data_converter"].payload_codec is codec


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("aex", "there is no payload codec 'aex' (installed: aes, broken, other): install the package that has it"),
        ("no_such_module:make", "payload codec no_such_module:make was not found (No module named 'no_such_module')"),
        ("tests.worker.aes:nothing", "payload codec tests.worker.aes:nothing was not found (module"),
        ("tests.worker.aes:", "payload codec tests.worker.aes: was not found"),
        (":make", "payload codec :make was not found"),
        ("other", "payload codec other makes a object, not a temporalio.converter.PayloadCodec: name a function"),
        (
            "tests.worker.aes:ENCODING",
            "payload codec tests.worker.aes:ENCODING cannot be made: TypeError: 'bytes' object",
        ),
        ("broken", "payload codec broken cannot be made: RuntimeError: the key server does not answer"),
    ],
)
def test_a_codec_that_cannot_be_used_is_told(installed: str, name: str, said: str) -> None:
    with pytest.raises(CodecError) as caught:
        named_codec(name)
    assert str(caught.value).startswith(said)


def test_where_none_is_installed_the_message_says_so() -> None:
    with pytest.raises(CodecError, match=f"'aes' .none is installed.: install the package .*{GROUP}"):
        named_codec("aes")


@pytest.mark.parametrize("words", [["list"], ["worker", "--codec", "nix"], ["abort", "canary/local/shop/a"]])
def test_commands_send_nothing_without_the_codec_that_was_named(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from autopilot.mesh.envoy.prepare import prepare  # noqa: PLC0415
    from tests.mesh.conftest import MESH  # noqa: PLC0415

    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(MESH)
    prepare(mesh)
    monkeypatch.setenv("AUTOPILOT_MESH", str(mesh))
    monkeypatch.setenv("AUTOPILOT_HOME", str(tmp_path))
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv(VARIABLE, "nix")
    assert run(words) == 1
    assert "error: there is no payload codec 'nix'" in capsys.readouterr().err


def test_the_codec_is_not_looked_for_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "importlib.metadata", raising=False)
    named_codec()
    assert "importlib.metadata" not in sys.modules
