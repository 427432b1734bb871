"""When a canary without endpoints is harm: at the second look that says so, and only while stable could take over."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence

import pytest

from activities.canary.endpoint_check import EndpointCheck
from autopilot.mesh.errors import MeshUnavailable
from autopilot.mesh.model import Target
from autopilot.spec.canary import CanaryArms

TARGET = Target(mesh="local", namespace="shop", service="reviews")
ARMS = CanaryArms(stable="v1", canary="v2")
GONE = {"v1": 2, "v2": 0}
THERE = {"v1": 2, "v2": 1}
BOTH_GONE = {"v1": 0, "v2": 0}
STABLE_GONE = {"v1": 0, "v2": 1}
UNKNOWN: dict[str, int] = {}
SILENT = MeshUnavailable("the API server does not answer")


class Mesh:
    """Answers each look as it is told; between two looks a second passes."""

    def __init__(self) -> None:
        self.answer: dict[str, int] | Exception = THERE
        self.time = 0.0

    async def ready(self, target: Target, arms: Sequence[str]) -> dict[str, int]:
        assert target == TARGET
        if isinstance(self.answer, Exception):
            raise self.answer
        return {arm: self.answer[arm] for arm in arms if arm in self.answer}

    def clock(self) -> float:
        return self.time


async def told(*looks: dict[str, int] | Exception, weight: float = 10) -> list[str]:
    """What each look says."""
    mesh = Mesh()
    vigil = EndpointCheck(mesh, TARGET, ARMS, weight, mesh.clock)  # type: ignore[arg-type]
    said = []
    for look in looks:
        mesh.answer = look
        said.append(await vigil.look())
        mesh.time += 1.0
    return said


async def test_the_second_look_without_an_endpoint_says_when_the_last_went() -> None:
    assert await told(THERE, THERE, GONE, GONE) == [
        "", "", "", "v2 has no ready endpoint (its last went 2 s ago) while it is set to 10 %",
    ]  # fmt: skip


async def test_where_none_was_ever_seen_the_reason_says_so() -> None:
    assert (await told(GONE, GONE, weight=0.5))[-1] == (
        "v2 has no ready endpoint (none was seen in the last 1 s) while it is set to 0.5 %"
    )


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param([THERE, GONE, THERE, GONE, THERE], id="a pod that comes back at once"),
        pytest.param([THERE, GONE, SILENT, SILENT], id="an API server that does not answer"),
        pytest.param([STABLE_GONE, STABLE_GONE, STABLE_GONE], id="stable has none"),
        pytest.param([THERE, BOTH_GONE, BOTH_GONE, BOTH_GONE], id="neither has one: no cure"),
        pytest.param([UNKNOWN, UNKNOWN, UNKNOWN], id="a mesh that cannot tell"),
    ],
)
async def test_no_evidence_is_no_harm(looks: list[dict[str, int] | Exception]) -> None:
    assert not any(await told(*looks))


async def test_a_look_without_an_answer_does_not_undo_one_that_had_it() -> None:
    assert (await told(THERE, GONE, SILENT, GONE))[-1]


async def test_a_service_that_is_deleted_under_its_weight_has_no_endpoint() -> None:
    assert (await told(THERE, {"v1": 2}, {"v1": 2}))[-1]


async def test_a_canary_without_weight_may_have_no_endpoint() -> None:
    mesh = Mesh()
    mesh.answer = GONE
    async with EndpointCheck(mesh, TARGET, ARMS, 0).kept() as gone:  # type: ignore[arg-type]
        done, _ = await asyncio.wait({gone}, timeout=3)
    assert not done


async def test_the_task_ends_within_seconds() -> None:
    mesh = Mesh()
    async with EndpointCheck(mesh, TARGET, ARMS, 10).kept() as gone:  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        assert not gone.done()
        mesh.answer = GONE
        reason = await asyncio.wait_for(gone, 5)
    (seconds,) = re.findall(r"went (\d+) s ago", reason)
    assert int(seconds) <= math.ceil(4)
