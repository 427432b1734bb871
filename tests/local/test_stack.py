from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autopilot.local import control, record, stack
from autopilot.local.layout import Layout
from autopilot.local.processes import start_time
from autopilot.local.record import Condition, StackEvent, StackInfo

pytestmark = pytest.mark.e2e

MESH = ("mesh",)


def ask(url: str, body: object = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=5) as response:  # noqa: S310
        answer: dict[str, Any] = json.load(response)
        return answer


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, alive: Callable[[StackInfo], list[str]]) -> Iterator[stack.Stack]:
    """One mesh for the tests that leave it as it was."""
    running = stack.start(tmp_path_factory.mktemp("shared"), parts=MESH, rate=50)
    yield running
    info = running.info
    running.stop()
    assert alive(info) == []
    assert stack.describe(running._layout.root) is None


def test_traffic_flows_through_every_service_without_a_failure(
    shared: stack.Stack, wait_until: Callable[..., None]
) -> None:
    info = shared.info
    assert info.condition is Condition.READY
    assert info.ingress
    assert ask(info.ingress)["calls"]["calls"]["service"] == "ratings"
    wait_until(lambda: ask(f"{info.load}/counts")["requests"] >= 50, "50 requests")
    counts = ask(f"{info.load}/counts")
    assert counts["failures"] == counts["dropped"] == 0


def test_behaviour_is_set_on_one_instance_and_seen_by_clients(
    shared: stack.Stack, wait_until: Callable[..., None]
) -> None:
    info = shared.info
    before = ask(f"{info.load}/counts")["failures"]
    ask(f"{info.shop['reviews-v1']}/_shop", {"errors": 1.0})
    try:
        wait_until(lambda: ask(f"{info.load}/counts")["failures"] > before, "a failure that clients see")
    finally:
        ask(f"{info.shop['reviews-v1']}/_shop", {"errors": 0.0})


def test_a_second_stack_is_refused_and_told_what_runs(shared: stack.Stack) -> None:
    with pytest.raises(stack.StackRunning) as refused:
        stack.start(shared.info.root, parts=MESH)
    assert refused.value.info.ingress == shared.info.ingress


def test_the_lock_refuses_where_the_record_does_not(shared: stack.Stack) -> None:
    """Two that start at the same time: the record is not there yet for either to see."""
    info = shared.info
    info_file = shared._layout.record
    kept = info_file.read_bytes()
    info_file.unlink()
    try:
        with pytest.raises(stack.StackError, match="another stack is running"):
            stack.start(info.root, parts=MESH)
    finally:
        info_file.write_bytes(kept)
    assert shared.info.pid == info.pid


async def test_a_part_is_stopped_and_started_by_name(
    shared: stack.Stack, alive: Callable[[StackInfo], list[str]]
) -> None:
    stopped = await control.command(shared.info, "load", "kill")
    assert stopped.condition is Condition.STOPPED
    assert "load" not in alive(shared.info)
    started = await control.command(shared.info, "load", "start")
    assert started.condition is Condition.READY
    assert "load" in alive(shared.info)
    with pytest.raises(control.ControlError, match="unknown part nothing"):
        await control.command(shared.info, "nothing", "stop")


def test_a_part_that_dies_is_reported(shared: stack.Stack, wait_until: Callable[..., None]) -> None:
    pid = shared.info.parts["shop-reviews-v2"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: shared.info.parts["shop-reviews-v2"].condition is Condition.FAILED, "the report")
    assert "SIGKILL" in shared.info.parts["shop-reviews-v2"].detail
    asyncio.run(control.command(shared.info, "shop-reviews-v2", "start"))


def test_nothing_outlives_a_supervisor_that_is_killed(
    state: Path, wait_until: Callable[..., None], alive: Callable[[StackInfo], list[str]]
) -> None:
    events: list[StackEvent] = []
    running = stack.start(state, parts=MESH, rate=10, on_event=events.append)
    assert events[-1].kind == "ready"
    info = running.info
    assert len(alive(info)) == 13
    os.kill(info.pid, signal.SIGKILL)
    wait_until(lambda: not alive(info), "the end of all processes", limit=5)
    assert [event.kind for event in running.events() if event.kind == "stopped"] == []
    running.stop()
    assert stack.describe(state) is None
    assert stack.stop(state) is None, "what is left of it is no stack"


def test_a_part_that_does_not_start_is_named_and_the_rest_is_stopped(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "envoy"
    broken.write_text("#!/bin/sh\necho 'cannot read the bootstrap'\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setenv("AUTOPILOT_ENVOY", str(broken))
    parts: dict[str, record.PartInfo] = {}

    def keep(event: StackEvent) -> None:
        if event.part is not None:
            parts[event.part.name] = event.part

    with pytest.raises(stack.StackError, match=r"envoy-\S+ ended with exit code 7[^\n]*\ncannot read the bootstrap"):
        stack.start(state, parts=MESH, on_event=keep)
    assert not [part.name for part in parts.values() if part.alive]
    assert stack.describe(state) is None


def test_a_record_of_a_recycled_pid_is_nobodys(state: Path) -> None:
    state.mkdir()
    started = start_time(os.getpid())
    assert started is not None
    layout = Layout.find(state)
    gone = StackInfo(
        condition=Condition.READY,
        pid=os.getpid(),
        started=started - 1,
        since=0,
        root=state,
        logs=layout.logs,
        mesh_file=layout.mesh_file,
        control=state / "control.sock",
    )
    record.write(layout.record, gone)
    assert stack.describe(state) is None
    assert stack.stop(state) is None
    assert not layout.record.exists()


@pytest.mark.devserver
def test_temporal_alone_is_ready_for_our_search_attributes(state: Path) -> None:
    running = stack.start(state, parts=["temporal"])
    try:
        info = running.info
        assert set(info.parts) == {"temporal"}
        assert info.ingress is None
        with urllib.request.urlopen(str(info.ui), timeout=5) as page:  # noqa: S310
            assert page.status == 200
        known = ask(f"{info.ui}/api/v1/namespaces/default/search-attributes")["customAttributes"]
        assert known["AutopilotTarget"] == "INDEXED_VALUE_TYPE_KEYWORD"
        assert str(info.temporal) in (state / "temporal" / "client.toml").read_text()
        assert info.workflow_url("canary/a/b", "r") == f"{info.ui}/namespaces/default/workflows/canary%2Fa%2Fb/r"
    finally:
        running.stop()
    assert stack.describe(state) is None
