"""The worker as the suite runs it: the product's own, with points at which it can be held, and with switches.

Run as `python -m tests.faults.world.worker_main --control FOLDER --reports FOLDER --ready FILE MESH_FILE…`, with
TEMPORAL_ADDRESS set.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.plugin import SimplePlugin
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.worker._workflow import _WorkflowWorker

from activities.chaos import activities
from activities.judge_stalls import worst_stall
from autopilot.mesh_registry.meshes import attach
from autopilot.operations.task_queues import watch_queue
from tests.faults.events import switches
from tests.faults.world.control import Control
from tests.faults.world.points import Points
from worker import main as main_module
from worker.main import working
from worker.plugin import AutopilotPlugin


def hold_workflows_at_will() -> None:
    """A workflow that is held must not be taken for one in a deadlock.

    The SDK's own debug mode would do it too, but runs workflows on the event loop: one that is held would hold all.
    """
    begin = _WorkflowWorker.__init__

    def patient(self: _WorkflowWorker, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        self._deadlock_timeout_seconds = None

    _WorkflowWorker.__init__ = patient  # type: ignore[method-assign]


class _Absent:
    """A worker that polls for nothing."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def shutdown(self) -> None: ...


def watches_only(client: Client, *, task_queue: str, **given: Any) -> Worker | _Absent:
    """In place of the SDK's `Worker`: those of long watches alone."""
    wanted = task_queue.startswith(watch_queue(""))
    return Worker(client, task_queue=task_queue, **given) if wanted else _Absent()


async def run(mesh_files: list[Path], control: Control, reports: Path, ready: Path) -> None:
    """Works until it is killed; makes the file `ready` when it has begun."""
    activities.BASELINE = 0.3  # the suite has hundreds of them to wait for
    meshes = attach(mesh_files)
    switches.install(control, meshes)
    # Without the sandbox, which costs more at a start than the whole rollout; what it forbids is tested elsewhere.
    suite = SimplePlugin(
        "crash suite", interceptors=[Points(control, meshes)], workflow_runner=UnsandboxedWorkflowRunner()
    )
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"], plugins=[AutopilotPlugin(), suite])
    async with working(client, meshes, reports=reports, heartbeat_every=0.2):
        ready.touch()  # noqa: ASYNC240
        worst = 0.0
        while True:
            await asyncio.sleep(0.2)
            if (stall := worst_stall()) > worst:
                worst = stall
                control.stalled(stall)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--reports", type=Path, required=True)
    parser.add_argument("--ready", type=Path, required=True)
    parser.add_argument("--watches-only", action="store_true", help="take long watches, and poll for nothing else")
    parser.add_argument("meshes", type=Path, nargs="+")
    chosen = parser.parse_args()
    hold_workflows_at_will()
    if chosen.watches_only:
        main_module.Worker = watches_only  # type: ignore[assignment, misc]
    asyncio.run(run(chosen.meshes, Control(chosen.control), chosen.reports, chosen.ready))


if __name__ == "__main__":
    main()
