"""How soon a rollout on a cluster is undone when somebody dies: the promises of tier B, measured in the lab.

terminated   the rollout is terminated: its guard workflow restores
orphaned     worker gone: the stateless guard restores once the lease has stood still for its time to live
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from in_lab import reexecuted

reexecuted()

from recording import record  # noqa: E402

from autopilot.mesh.kube.client.client import KubeApi  # noqa: E402
from starter.client.start import start_operation  # noqa: E402
from tests.conftest import start_dev_server  # noqa: E402
from tests.kube.stage import Stage, staged  # noqa: E402
from tests.lab.cluster import make_namespace  # noqa: E402
from tests.lab.find import find  # noqa: E402

TTL = 8.0


async def shifted(stage: Stage, name: str) -> Any:
    """A rollout that stands at 20 %."""
    asked = stage.rollout(name, [{"weight": 20, "hold": 120, "minRequests": 20}])
    handle = await start_operation(stage.client, asked.model_copy(update={"ttl": TTL, "heartbeat_timeout": 2.0}))
    await stage.until(lambda: stage.written()[0][1] == 20, 60)
    return handle


async def restored(stage: Stage) -> float:
    """Seconds until the route is what it was."""
    began = time.monotonic()
    await stage.until(lambda: stage.written() == ([100, 0], {}), 60)
    return time.monotonic() - began


async def measure(runs: int) -> dict[str, list[float]]:
    """Each death on each kind of route, so many times."""
    found = find()
    assert not isinstance(found, str), found
    api = KubeApi(found.kubeconfig)
    make_namespace(api, "autopilot")
    seen: dict[str, list[float]] = {}
    async with await start_dev_server() as temporal:
        for provider in ("istio", "gateway_api"):
            namespace = f"deaths-{provider.replace('_', '-')}"
            make_namespace(api, namespace)
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                stage_of = staged(
                    api, namespace, provider, temporal.client, folder,
                    kubeconfig=found.kubeconfig, rate=50, worker=False,
                )  # fmt: skip
                async with stage_of as stage:
                    for number in range(runs):
                        worker, guard = stage.process("worker", folder), stage.process("guard", folder)
                        handle = await shifted(stage, f"terminated-{number}")
                        await handle.terminate("measured")
                        seen.setdefault(f"terminated_{provider}_s", []).append(await restored(stage))
                        handle = await shifted(stage, f"orphaned-{number}")
                        worker.send(signal.SIGKILL)
                        over = await restored(stage) - TTL
                        seen.setdefault(f"orphaned_over_ttl_{provider}_s", []).append(over)
                        await handle.terminate("measured")  # another worker would take its target again
                        await asyncio.gather(worker.stop(1), guard.stop(1))
                        print(f"{provider} {number}: {seen}", file=sys.stderr, flush=True)
    api.close()
    return seen


def main() -> None:
    """Measures, draws the table, keeps the figures."""
    parser = argparse.ArgumentParser(prog="make bench-deaths", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    seen = asyncio.run(measure(given.runs))
    figures = {f"worst_{name}": round(max(values), 2) for name, values in seen.items()}
    rows = [("figure", "median", "worst")]
    rows += [(name, f"{statistics.median(values):.2f}", f"{max(values):.2f}") for name, values in seen.items()]
    record("deaths", "make bench-deaths", figures, rows, f"seconds, {given.runs} runs each, time to live {TTL:g} s")


if __name__ == "__main__":
    main()
