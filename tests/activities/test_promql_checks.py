"""Custom thresholds in a watch: an infinite value is harm, and travels as a number that JSON has."""

from __future__ import annotations

import asyncio
import math
import sys

import pytest

from activities.canary.activities import TelemetryActivities
from activities.contracts.operation import WatchBeat, WatchResult
from autopilot.evidence.model import Harm, Tick
from autopilot.evidence.tick_codec import unpack
from autopilot.mesh_registry.meshes import AttachedMesh, Meshes
from autopilot.spec.canary import Analysis
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import sendable
from tests.activities.test_watch import Bench, request, traffic
from tests.telemetry.fakes import ScriptedSource


class Infinite:
    """A Prometheus in which failures were divided by successes, and there are none."""

    async def query(self, expression: str) -> float | None:
        return math.inf


async def test_an_infinite_reading_is_harm_after_the_usual_number_of_looks() -> None:
    ratio = {"type": "promql", "name": "ratio", "query": "a/b", "max": 0.05, "failures": 3, "interval": 0.1}
    analysis = Analysis.model_validate({"tick": 0.5, "warmup": 0, "metrics": [ratio]})
    bench = Bench(traffic())
    bench.environment.on_heartbeat = lambda *details: bench.beats.append(details[0])
    async with Hub(ScriptedSource(bench.script)) as hub, asyncio.timeout(20):
        meshes = Meshes({"local": AttachedMesh(mesh=bench.mesh, proxies=hub, queries=Infinite())})  # type: ignore[arg-type]
        activities = TelemetryActivities(meshes, bench.health)
        asked = request(hold=60, analysis=analysis)
        result: WatchResult = await bench.environment.run(activities.watch, asked)
    assert isinstance(result.verdict, Harm)
    assert result.verdict.metric == "ratio"
    assert result.verdict.reason.startswith("ratio: +Inf is above the maximum of 0.05, 3 readings in a row")
    # What Temporal stores is read again as it was.
    assert WatchResult.model_validate_json(result.model_dump_json()) == result
    assert WatchBeat.model_validate_json(bench.beats[-1].model_dump_json()) == bench.beats[-1]
    assert {tick.readings["ratio"] for tick in unpack(result.ticks) if tick.readings} == {sys.float_info.max}


@pytest.mark.parametrize(
    ("value", "sent"),
    [(math.inf, sys.float_info.max), (-math.inf, -sys.float_info.max), (math.nan, None), (None, None), (0.5, 0.5)],
)
def test_what_is_sent_is_a_number_or_nothing(value: float | None, sent: float | None) -> None:
    found = sendable(value)
    assert found == sent
    Tick.model_validate({"time": 1, "seconds": 1, "readings": {"ratio": found}})
