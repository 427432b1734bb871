"""Healthy versions that look ill: how many are rolled back. Every one of them should be promoted.

`make bench-healthy ARGS="--runs 50"`: three awkward but healthy rollouts at the shipped defaults (a cold start with
three times the latency for 60 s, one slow service that both versions call, five times the load in mid-rollout), and
canary-good with 0.5 % true errors in both arms, so many times in a row.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
from recording import record
from staging import staged
from temporalio.client import Client

from autopilot.local.record import StackInfo
from autopilot.mesh.envoy.base import set_weights
from autopilot.mesh.envoy.prepare import prepare
from autopilot.report import CanaryInput, CanaryReport
from autopilot.spec.canary import CanarySpec
from starter.places import EMBEDDED_HEARTBEAT
from starter.starting import start_canary
from worker.connection import connect

NORMAL: dict[str, Any] = {"errors": 0.0, "delay": 0.0, "hang": False}
INSTANCES = ("web-v1", "reviews-v1", "reviews-v2", "ratings-v1", "ratings-v1-b")
SHORT = [{"weight": weight, "hold": hold, "minRequests": 50} for weight, hold in ((10, 6), (50, 4), (100, 3))]
LONG = [{"weight": weight, "hold": hold} for weight, hold in ((10, 30), (50, 20), (100, 10))]

Change = tuple[float, Callable[[], Awaitable[None]]]


class Field:
    """The stack, the shop's behaviour, and rollouts over it."""

    def __init__(self, info: StackInfo, client: Client, session: aiohttp.ClientSession) -> None:
        self.info = info
        self.client = client
        self.session = session

    async def behave(self, instance: str, **behaviour: Any) -> None:
        """Sets what one instance of the shop does."""
        async with self.session.post(f"{self.info.shop[instance]}/_shop", json=behaviour) as answer:
            answer.raise_for_status()

    async def behave_all(self, instances: Sequence[str], **behaviour: Any) -> None:
        """Sets what several instances do."""
        for instance in instances:
            await self.behave(instance, **behaviour)

    async def rate(self, rate: float) -> None:
        """Sets the load, in requests a second."""
        async with self.session.post(f"{self.info.load}/rate", json={"rate": rate}) as answer:
            answer.raise_for_status()

    async def reset(self) -> None:
        """All traffic to v1, everybody behaves."""
        set_weights(self.info.mesh_file, "shop/reviews", {"v1": 100, "v2": 0})
        prepare(self.info.mesh_file)
        for instance in INSTANCES:
            await self.behave(instance, **NORMAL)
        await self.rate(100)

    async def roll(
        self, name: str, steps: list[dict[str, Any]], analysis: dict[str, Any], *changes: Change
    ) -> CanaryReport:
        """One rollout; `changes` happen so many seconds after its start."""
        spec = {
            "target": {"service": "reviews"},
            "arms": {"stable": "v1", "canary": "v2"},
            "steps": steps,
            "analysis": analysis,
        }
        canary = CanaryInput(
            mesh="local",
            namespace="shop",
            name=name,
            spec=CanarySpec.model_validate(spec),
            heartbeat_timeout=EMBEDDED_HEARTBEAT,
        )
        handle = await start_canary(self.client, canary)
        later = [asyncio.create_task(_after(seconds, change)) for seconds, change in changes]
        try:
            return await asyncio.wait_for(handle.result(), 600)
        finally:
            for task in later:
                task.cancel()
            await asyncio.gather(*later, return_exceptions=True)


async def _after(seconds: float, change: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(seconds)
    await change()


async def measure(info: StackInfo, runs: int) -> tuple[dict[str, float], list[tuple[str, ...]]]:
    """Figures, and rows for people."""
    assert info.temporal
    client = await connect(info.temporal)
    rows: list[tuple[str, ...]] = [("healthy rollout", "runs", "rolled back", "how they ended")]
    figures: dict[str, float] = {}
    async with aiohttp.ClientSession() as session:
        field = Field(info, client, session)

        def note(key: str, title: str, reports: list[CanaryReport]) -> None:
            back = sum(report.outcome.value != "Promoted" for report in reports)
            figures[f"{key}_runs"], figures[f"{key}_rollbacks"] = len(reports), back
            ends = sorted({f"{report.outcome.value}: {report.reason}" for report in reports})
            rows.append((title, str(len(reports)), str(back), "; ".join(ends)))
            print(f"{title}: {back} of {len(reports)} not promoted", flush=True)

        await field.reset()
        await field.behave("reviews-v1", delay=0.02)
        await field.behave("reviews-v2", delay=0.06)
        warm = (60.0, lambda: field.behave("reviews-v2", delay=0.02))
        note("cold_start", "three times the latency for 60 s", [await field.roll("cold", LONG, {}, warm)])

        await field.reset()
        slow = (5.0, lambda: field.behave_all(("ratings-v1", "ratings-v1-b"), delay=0.3))
        note("slow_endpoint", "a slow service behind both arms", [await field.roll("slow", LONG, {}, slow)])

        await field.reset()
        more = (65.0, lambda: field.rate(500))
        note("load_step", "five times the load in mid-rollout", [await field.roll("load", LONG, {}, more)])

        reports = []
        for number in range(runs):
            await field.reset()
            for instance in ("reviews-v1", "reviews-v2"):
                await field.behave(instance, errors=0.005)
            reports.append(await field.roll(f"healthy-{number}", SHORT, {"tick": 0.5, "warmup": 0}))
            print(f"{number + 1}/{runs}: {reports[-1].outcome.value}", flush=True)
        note("healthy", "0.5 % errors in both arms, no warm-up", reports)
        await field.reset()
    return figures, rows


def main() -> None:
    """Brings a stack up, runs everything, takes it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    with staged() as info:
        figures, rows = asyncio.run(measure(info, runs))
    record(
        "healthy", f'make bench-healthy ARGS="--runs {runs}"', figures, rows, "healthy rollouts that were not promoted"
    )


if __name__ == "__main__":
    main()
