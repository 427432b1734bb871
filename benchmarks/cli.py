"""Seconds of CPU that a command takes, beside a bare `import temporalio.client` in the same run.

Every round starts a rollout on the embedded stack (real proxies, a real Temporal, a real worker) and sends it one of
each command; the bare import is measured before every command, so that other work on the machine slows both alike.
Counted are user and system time of the child process alone. `list_ratio` and `abort_ratio` must stay at or below 1.8.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from recording import record
from staging import staged
from temporalio.client import Client

from autopilot.local.record import StackInfo
from autopilot.operations.common import Phase
from autopilot.reports.canary import CanaryInput
from autopilot.spec.canary import CanarySpec
from starter.client.environment import EMBEDDED_HEARTBEAT
from starter.client.operations import status
from starter.client.start import start_operation
from worker.temporal_client import connect

ROUNDS = 7
LIMIT = 1.8
"""Of `list_ratio` and `abort_ratio`."""
CLIENT = [sys.executable, "-c", "import temporalio.client"]
AUTOPILOT = [sys.executable, "-c", "from autopilot._bootstrap import main; main()"]
EXAMPLE = Path(__file__).parents[1] / "examples" / "canary.yaml"
UNDECIDED = 3
"""Exit code of `status` for what still runs."""
STEPS = [
    {"weight": 10, "hold": 1, "minRequests": 5, "pause": True},
    {"weight": 20, "hold": 1, "minRequests": 5, "pause": True},
    {"weight": 30, "hold": 600},
]


def cpu(command: list[str], *, code: int = 0) -> float:
    """Seconds of CPU of one child process, which must end with this code."""
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    after = os.times()
    if done.returncode != code:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return after.children_user - before.children_user + after.children_system - before.children_system


class Meter:
    """Runs commands, each after a bare import of Temporal's client."""

    def __init__(self) -> None:
        self.client: list[float] = []
        self.commands: dict[str, list[float]] = defaultdict(list)

    def run(self, name: str, *words: str, label: str = "", code: int = 0) -> None:
        """One command, counted under its name or another label."""
        self.client.append(cpu(CLIENT))
        self.commands[label or name].append(cpu([*AUTOPILOT, *name.split(), *words], code=code))


async def reach(client: Client, workflow_id: str, phase: Phase, step: int) -> None:
    """Waits until the rollout is in this phase of this step."""
    async with asyncio.timeout(120):
        while True:
            now = await status(client, workflow_id)
            if now.phase is phase and now.step == step:
                return
            await asyncio.sleep(0.2)


async def one(client: Client, meter: Meter, number: int) -> None:
    """One rollout from its start to its abort."""
    spec = {"target": {"service": "reviews"}, "arms": {"stable": "v1", "canary": "v2"}, "steps": STEPS}
    canary = CanaryInput(
        mesh="local",
        namespace="shop",
        name=f"bench-{number}",
        spec=CanarySpec.model_validate(spec),
        heartbeat_timeout=EMBEDDED_HEARTBEAT,
    )
    await start_operation(client, canary)
    rollout = canary.workflow_id
    await reach(client, rollout, Phase.WAITING, 1)
    meter.run("list")
    meter.run("get", rollout)
    meter.run("status", rollout, code=UNDECIDED)
    meter.run("pause", rollout)
    meter.run("resume", rollout)
    meter.run("approve", rollout)
    await reach(client, rollout, Phase.WAITING, 2)
    meter.run("promote", rollout)
    await reach(client, rollout, Phase.PROGRESSING, 3)
    meter.run("abort", rollout, "--reason", "benchmark")
    meter.run("get", rollout, label="get (ended)")
    meter.run("schedule list")
    meter.run("plan", "-f", str(EXAMPLE))
    meter.run("crds")


async def measure(info: StackInfo) -> Meter:
    """All rounds."""
    meter = Meter()
    client = await connect(info.temporal)
    for number in range(1, ROUNDS + 1):
        await one(client, meter, number)
    return meter


def main() -> None:
    """Brings a stack up, measures, takes it down."""
    with staged(("mesh", "temporal", "worker", "guard")) as info:
        meter = asyncio.run(measure(info))
    bare = statistics.median(meter.client)
    figures: dict[str, float] = {"client_seconds": round(bare, 3)}
    rows = [("command", "seconds of CPU", "lowest", "highest", "beside the import")]
    rows.append(
        ("import temporalio.client", f"{bare:.2f}", f"{min(meter.client):.2f}", f"{max(meter.client):.2f}", "1")
    )
    for name, seconds in meter.commands.items():
        middle, key = statistics.median(seconds), re.sub(r"\W+", "_", name).strip("_")
        ratio = middle / bare
        figures[f"{key}_seconds"], figures[f"{key}_ratio"] = round(middle, 3), round(ratio, 2)
        spread = (f"{middle:.2f}", f"{min(seconds):.2f}", f"{max(seconds):.2f}")
        rows.append((f"autopilot {name}", *spread, f"{ratio:.2f}"))
    record("cli", "make bench-cli", figures, rows, f"CPU of one command, medians of {ROUNDS} real rollouts")
    over = [name for name in ("list_ratio", "abort_ratio") if figures[name] > LIMIT]
    if over:
        sys.exit(f"{' and '.join(over)} above {LIMIT}")


if __name__ == "__main__":
    main()
