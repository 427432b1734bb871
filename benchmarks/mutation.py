"""How long a change takes, from plan to the proxies' own word that they have it, under the sample load."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
from recording import record
from staging import staged

from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.model import Aspect, SplitTraffic, Target

ROUNDS = 300
STEPS = ("plan", "apply", "verify", "plan → verify")


async def measure(mesh_file: Path) -> np.ndarray:
    """Milliseconds, shape (ROUNDS, 4): plan, apply, verify, all."""
    target = Target(mesh="local", namespace="shop", service="reviews")
    mesh = EnvoyMesh(mesh_file)
    lease = await mesh.acquire(target, [Aspect.TRAFFIC], operation="benchmark", token="b", ttl=60)
    taken = []
    for number in range(ROUNDS):
        canary = 1 + number % 50
        changes = [SplitTraffic(weights={"v1": 100 - canary, "v2": canary})]
        times = [time.perf_counter()]
        await mesh.plan(target, changes)
        times.append(time.perf_counter())
        receipt = await mesh.apply(lease, changes)
        times.append(time.perf_counter())
        await mesh.verify(receipt)
        times.append(time.perf_counter())
        taken.append([*np.diff(times), times[-1] - times[0]])
    await mesh.lift(lease)
    await mesh.close()
    return 1000 * np.array(taken)


def main() -> None:
    """Brings a mesh up, measures, takes it down."""
    with staged(("mesh",)) as info:
        taken = asyncio.run(measure(info.mesh_file))
    median, tail = np.percentile(taken, [50, 99], axis=0)
    rows = [("step", "p50 ms", "p99 ms")]
    rows += [(step, f"{middle:.1f}", f"{worst:.1f}") for step, middle, worst in zip(STEPS, median, tail, strict=True)]
    figures = {"p50_ms": round(float(median[-1]), 2), "p99_ms": round(float(tail[-1]), 2)}
    record("mutation", "make bench-mutation", figures, rows, f"{ROUNDS} changes of one split, five Envoys under load")


if __name__ == "__main__":
    main()
