"""Writes what is missing in the replay corpus: `make histories`. To give one up on purpose, delete it first.

Every scenario runs on Temporal's dev server against the in-memory world of the workflow tests. What is here replays for
ever: code that cannot replay it would break rollouts that are under way during an upgrade. Some histories show what
only an earlier version did (a reset, an order while committing): no scenario makes them again.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.contracts.chaos import HoldCause
from autopilot.operations.common import Approval, Caller, Command, Promotion
from autopilot.reports.canary import CanaryInput
from tests.conftest import start_dev_server
from tests.schedules.conftest import Stage, at, experiment, stage_on
from tests.workflows import test_chaos
from tests.workflows.conftest import Handle, Lab, canary, guards_of, lab_on
from tests.workflows.fakes import ADVANCE, HARM, LEASE_LOST, NO_DATA, Hold

HERE = Path(__file__).parent
ANN = Caller(who="ann")
VERSION = "0.1"
Scenario = Callable[[Lab], Awaitable[Handle]]


def _path(kind: str, name: str) -> Path:
    return HERE / kind / f"{VERSION}-{name}.json"


async def _keep(kind: str, name: str, handle: WorkflowHandle[Any, Any]) -> None:
    path = _path(kind, name)
    path.parent.mkdir(exist_ok=True)
    kept = without_machine(json.loads((await handle.fetch_history()).to_json()))
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def without_machine(kept: Any) -> Any:
    """A history without what tells of the machine it was made on, which no replay reads: stack traces, identities."""
    if isinstance(kept, list):
        return [without_machine(item) for item in kept]
    if isinstance(kept, dict):
        told = {"stackTrace": "", "identity": "worker"}
        return {name: told[name] if name in told else without_machine(value) for name, value in kept.items()}
    return kept


def _runs(script: list[object], spec: Callable[[], CanaryInput] = canary) -> Scenario:
    async def scenario(lab: Lab) -> Handle:
        lab.world.script = list(script)  # type: ignore[arg-type]
        return await lab.start(spec())

    return scenario


async def _aborted(lab: Lab) -> Handle:
    lab.world.script = [Hold()]
    handle = await lab.start(canary())
    await lab.watching()
    await lab.tell(handle, "abort", Command(caller=ANN, reason="wrong build"))
    return handle


async def _cancelled(lab: Lab) -> Handle:
    lab.world.script = [Hold()]
    handle = await lab.start(canary())
    await lab.watching()
    await handle.cancel()
    return handle


async def _paused_and_approved(lab: Lab) -> Handle:
    go = asyncio.Event()
    lab.world.script = [Hold(until=go), Hold(), ADVANCE, Hold()]
    handle = await lab.start(canary(steps=[{"weight": 10}, {"weight": 50, "pause": True}, {"weight": 100}]))
    await lab.watching()
    await lab.tell(handle, "pause", Command(caller=ANN))
    go.set()
    await lab.phase(handle, "Paused")
    await lab.watching()
    await lab.tell(handle, "resume", Command(caller=ANN))
    await lab.phase(handle, "WaitingForApproval")
    await lab.watching()
    await handle.signal("approve", Approval(caller=ANN))
    return handle


async def _undecided_then_promoted(lab: Lab) -> Handle:
    lab.world.script = [NO_DATA, Hold()]
    handle = await lab.start(canary())
    await lab.phase(handle, "Undecided")
    await lab.watching()
    await lab.tell(handle, "promote", Promotion(caller=ANN))
    return handle


async def _promoted_in_full(lab: Lab) -> Handle:
    lab.world.script = [Hold()]
    handle = await lab.start(canary())
    await lab.watching()
    await lab.tell(handle, "promote", Promotion(caller=ANN, full=True, reason="hotfix"))
    return handle


SCENARIOS: dict[str, Scenario] = {
    "promoted": _runs([]),
    "rolled-back": _runs([ADVANCE, HARM]),
    "lease-lost": _runs([LEASE_LOST]),
    "deadline": _runs([Hold()], lambda: canary(deadline="1s")),
    "aborted": _aborted,
    "cancelled": _cancelled,
    "paused-and-approved": _paused_and_approved,
    "undecided-then-promoted": _undecided_then_promoted,
    "promoted-in-full": _promoted_in_full,
}


async def _chaos(lab: test_chaos.Lab, holds: list[HoldCause], verb: str = "") -> test_chaos.Handle:
    lab.world.holds = list(holds)
    handle = await lab.start(test_chaos.experiment())
    if verb:
        await lab.held()
        await handle.execute_update(verb, Command(caller=ANN, reason="enough"), result_type=str)
    return handle


EXPERIMENTS: dict[str, tuple[list[HoldCause], str]] = {
    "passed": ([], ""),
    "refuted": (["hypothesis"], ""),
    "guarded": (["guard"], ""),
    "lease-lost": (["leaseLost"], ""),
    "aborted": (["stopped"], "abort"),
}


async def experiments(server: WorkflowEnvironment) -> None:
    """The same for experiments."""
    for name, (holds, verb) in EXPERIMENTS.items():
        if _path("Chaos", name).exists():
            continue
        async with test_chaos.lab_on(server, cached=1000) as lab:
            handle = await _chaos(lab, holds, verb)
            await handle.result()
            await _keep("Chaos", name, handle)


async def _started(stage: Stage) -> str:
    schedule = await stage.put(experiment())
    return await stage.due(schedule, at("2020-03-02 09:00"))


async def _skipped(stage: Stage) -> str:
    schedule = await stage.put(experiment(freeze=[{"start": "2020-03-02", "end": "2020-03-03"}]))
    return await stage.due(schedule, at("2020-03-02 09:00"))


async def _waited(stage: Stage) -> str:
    wanted = experiment(overlap="queue")
    schedule = await stage.put(wanted)
    await stage.decided(schedule, at("2020-03-02 09:00"))
    run = await stage.due(schedule, at("2020-03-03 09:00"))
    await stage.waiting(run)
    await stage.end(wanted)
    return run


RUNS = {"started": _started, "skipped": _skipped, "waited": _waited}


async def runs_of_schedules(server: WorkflowEnvironment) -> None:
    """The same for runs of schedules."""
    for name, scenario in RUNS.items():
        if _path("ScheduledRun", name).exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            async with stage_on(server.client, Path(folder)) as stage:
                run = await scenario(stage)
                await stage.record(run)
                await _keep("ScheduledRun", name, server.client.get_workflow_handle(run))


async def main() -> None:
    """Runs every scenario that is missing, and keeps its history and its guard's."""
    async with await start_dev_server() as server:
        await experiments(server)
        await runs_of_schedules(server)
        for name, scenario in SCENARIOS.items():
            if _path("Canary", name).exists():
                continue
            async with lab_on(server, cached=1000) as lab:
                handle = await scenario(lab)
                try:
                    await handle.result()
                except WorkflowFailureError as error:
                    print(f"{name}: {error.cause}")
                guard = server.client.get_workflow_handle((await guards_of(handle))[0])
                await guard.result()
                await _keep("Canary", name, handle)
                await _keep("Guard", name, guard)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
