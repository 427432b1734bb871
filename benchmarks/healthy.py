"""Healthy versions that look ill: how many are rolled back. Every one of them should be promoted.

`make bench-healthy ARGS="--runs 50"`: three awkward but healthy rollouts at the shipped defaults (a cold start with
three times the latency for 60 s, one slow service that both versions call, five times the load in mid-rollout), ten
through an outage of what both call, a restart of stable's pod and a burst of failures in the canary, and canary-good
with 0.5 % true errors in both arms, so many times in a row. Before them one that must be rolled back: stable fails for
10 s, a minute later a canary begins that fails always.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
from recording import before, record
from staging import staged
from temporalio.client import Client

from autopilot.local.record import StackInfo
from autopilot.mesh.envoy.mesh_file import set_weights
from autopilot.mesh.envoy.prepare import prepare
from autopilot.reports.canary import CanaryInput, CanaryReport
from autopilot.spec.canary import CanarySpec
from starter.client.environment import EMBEDDED_HEARTBEAT
from starter.client.start import start_operation
from worker.temporal_client import connect

NORMAL: dict[str, Any] = {"errors": 0.0, "delay": 0.0, "hang": False}
INSTANCES = ("web-v1", "reviews-v1", "reviews-v2", "ratings-v1", "ratings-v1-b")
SHORT = [{"weight": weight, "hold": hold, "minRequests": 50} for weight, hold in ((10, 6), (50, 4), (100, 3))]
LONG = [{"weight": weight, "hold": hold} for weight, hold in ((10, 30), (50, 20), (100, 10))]

QUICK = {"tick": 0.5, "warmup": 0, "detectAbsolute": 0.1}
"""Steps end when harm of 10 percentage points is excluded: within seconds."""
STORM = [{"weight": weight, "hold": hold} for weight, hold in ((10, 25), (50, 10), (100, 5))]
STORMS = 10
INCIDENT = [{"weight": weight, "hold": 15} for weight in (10, 50, 100)]
LONGEST = 3600.0
"""Seconds that one rollout may take: a step is inconclusive after 30 minutes."""
RATINGS = ("ratings-v1", "ratings-v1-b")

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
        handle = await start_operation(self.client, canary)
        later = [asyncio.create_task(_after(seconds, change)) for seconds, change in changes]
        try:
            return await asyncio.wait_for(handle.result(), LONGEST)
        finally:
            for task in later:
                task.cancel()
            await asyncio.gather(*later, return_exceptions=True)

    async def fails(self, seconds: float, *instances: str, share: float = 1.0) -> None:
        """Such a share of these instances' requests fails for a while."""
        await self.behave_all(instances, errors=share)
        await asyncio.sleep(seconds)
        await self.behave_all(instances, errors=0.0)

    async def after_incident(self) -> CanaryReport:
        """A rollout of a canary that always fails, a minute after stable failed 45 % for 10 s."""
        await self.reset()
        await self.fails(10.0, "reviews-v1", share=0.45)
        await asyncio.sleep(60.0)
        await self.behave("reviews-v2", errors=1.0)
        return await self.roll("incident", INCIDENT, {})

    async def through_storm(self, number: int) -> CanaryReport:
        """A healthy rollout while what both versions call fails, stable's pod restarts, and a client fails."""
        await self.reset()
        return await self.roll(
            f"storm-{number}",
            STORM,
            {"warmup": 5, "detectAbsolute": 0.1},
            (10.0, lambda: self.fails(3.0, *RATINGS)),
            (17.0, lambda: self.fails(1.0, "reviews-v1")),
            (21.0, lambda: self.fails(0.2, "reviews-v2")),
        )


async def _after(seconds: float, change: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(seconds)
    await change()


class Notes:
    """What is measured: figures by key, and rows for people."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.rows: list[tuple[str, ...]] = [("healthy rollout", "runs", "rolled back", "how they ended")]

    def add(self, key: str, title: str, reports: list[CanaryReport]) -> None:
        """Rollouts that should have been promoted."""
        back = sum(report.outcome.value != "Promoted" for report in reports)
        self.figures |= {f"{key}_runs": len(reports), f"{key}_rollbacks": back}
        ends = sorted({f"{report.outcome.value}: {report.reason}" for report in reports})
        self.rows.append((title, str(len(reports)), str(back), "; ".join(ends)))
        print(f"{title}: {back} of {len(reports)} not promoted", flush=True)


async def incident(field: Field, notes: Notes, _: int) -> None:
    """The one that must be rolled back."""
    report = await field.after_incident()
    began = report.steps[0].receipt
    notes.figures |= {
        "incident_rolled_back": float(report.outcome.value == "RolledBack"),
        "incident_seconds": round(report.ended - (began.written if began else report.started), 2),
        "incident_failures": report.exposure.failures,
    }
    print(
        f"a canary that always fails, after an incident: {report.outcome.value} after "
        f"{notes.figures['incident_seconds']:g} s, {report.exposure.failures:g} failures",
        flush=True,
    )


async def storms(field: Field, notes: Notes, _: int) -> None:
    """Trouble that is not the canary's."""
    reports = []
    for number in range(STORMS):
        reports.append(await field.through_storm(number))
        print(f"storm {number + 1}/{STORMS}: {reports[-1].outcome.value}", flush=True)
    notes.add("storm", "outage of both, a restart of stable, a burst in the canary", reports)


async def awkward(field: Field, notes: Notes, _: int) -> None:
    """At the shipped defaults."""
    await field.reset()
    await field.behave("reviews-v1", delay=0.02)
    await field.behave("reviews-v2", delay=0.06)
    warm = (60.0, lambda: field.behave("reviews-v2", delay=0.02))
    notes.add("cold_start", "three times the latency for 60 s", [await field.roll("cold", LONG, {}, warm)])

    await field.reset()
    slow = (5.0, lambda: field.behave_all(RATINGS, delay=0.3))
    notes.add("slow_endpoint", "a slow service behind both arms", [await field.roll("slow", LONG, {}, slow)])

    await field.reset()
    more = (65.0, lambda: field.rate(500))
    notes.add("load_step", "five times the load in mid-rollout", [await field.roll("load", LONG, {}, more)])


async def steady(field: Field, notes: Notes, runs: int) -> None:
    """Errors that both have."""
    reports = []
    for number in range(runs):
        await field.reset()
        for instance in ("reviews-v1", "reviews-v2"):
            await field.behave(instance, errors=0.005)
        reports.append(await field.roll(f"healthy-{number}", SHORT, QUICK))
        print(f"{number + 1}/{runs}: {reports[-1].outcome.value}", flush=True)
    notes.add("healthy", "0.5 % errors in both arms, no warm-up", reports)


PARTS = {part.__name__: part for part in (incident, storms, awkward, steady)}


async def measure(info: StackInfo, parts: Sequence[str], runs: int) -> Notes:
    """Plays the parts one after the other."""
    assert info.temporal
    client, notes = await connect(info.temporal), Notes()
    async with aiohttp.ClientSession() as session:
        field = Field(info, client, session)
        for part in parts:
            await PARTS[part](field, notes, runs)
        await field.reset()
    return notes


def main() -> None:
    """Brings a stack up, runs everything, takes it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=PARTS, help="the other parts' figures stay as they were")
    chosen = parser.parse_args()
    kept, _ = before("healthy") if chosen.only else ({}, {})
    with staged() as info:
        notes = asyncio.run(measure(info, chosen.only or tuple(PARTS), chosen.runs))
    arguments = f"--only {' '.join(chosen.only)}" if chosen.only else f"--runs {chosen.runs}"
    record(
        "healthy",
        f'make bench-healthy ARGS="{arguments}"',
        kept | notes.figures,
        notes.rows,
        "healthy rollouts that were not promoted",
    )


if __name__ == "__main__":
    main()
