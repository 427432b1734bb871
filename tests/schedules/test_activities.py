"""Effects of schedules that are asked for twice happen once; what the mesh holds is named."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from temporalio.testing import ActivityEnvironment

from activities.contracts.schedule import StartRequest
from autopilot.mesh.errors import MeshUnavailable
from autopilot.mesh.model import Holder, Lease, LeasePhase, LeaseStatus, Target, Tier
from autopilot.reports.schedule import RunRecord
from tests.schedules.conftest import PlayedMesh, Stage, at, experiment

pytestmark = pytest.mark.devserver
MONDAY = at("2020-03-02 09:00")


async def test_a_start_whose_answer_was_lost_starts_nothing_more(stage: Stage) -> None:
    wanted = experiment()
    first = await stage.activities.start(StartRequest(experiment=wanted, token="one"))
    assert first.run_id
    assert await stage.activities.start(StartRequest(experiment=wanted, token="one")) == first
    other = await stage.activities.start(StartRequest(experiment=wanted, token="two"))
    assert (other.run_id, other.held) == ("", wanted.workflow_id)
    await stage.end(wanted)
    assert await stage.activities.start(StartRequest(experiment=wanted, token="one")) == first, "it has ended meanwhile"
    assert (await stage.activities.start(StartRequest(experiment=wanted, token="two"))).run_id not in ("", first.run_id)


async def test_a_record_is_kept_once_and_after_a_torn_line(stage: Stage) -> None:
    record = RunRecord(
        schedule="chaos-schedule/local/shop/slow", run="run", scheduled=1, decided=1, decision="skipped", reason="é\n"
    )
    stage.folder.mkdir()
    file = stage.folder / "chaos-schedule_local_shop_slow.jsonl"
    file.write_text('{"schedule": "torn')
    for _ in range(2):
        assert await ActivityEnvironment().run(stage.activities.archive, record) == file.name
    torn, line = file.read_text().splitlines()
    assert torn == '{"schedule": "torn'
    assert RunRecord.model_validate(json.loads(line)) == record


def held_by(operation: str, service: str = "reviews", *aspects: str) -> LeaseStatus:
    target = Target(mesh="local", namespace="shop", service=service)
    lease = Lease.model_validate(
        {
            "target": target,
            "aspects": aspects or ("traffic",),
            "ttl": 120,
            "max_unattended": 120,
            "holder": Holder(operation=operation, fencing=1),
        }
    )
    return LeaseStatus(lease=lease, phase=LeasePhase.ACTIVE, tier=Tier.PROXY, acquired=0, renewed=0, deadline=None)


@pytest.mark.parametrize(
    ("lease", "decision"),
    [
        (held_by("canary/local/shop/reviews"), "skipped"),
        (held_by("chaos/local/shop/other", "reviews", "faults"), "skipped"),
        (held_by("security/local/shop/x", "reviews", "access"), "started"),
        (held_by("canary/local/shop/ratings", "ratings"), "started"),
    ],
    ids=["a rollout", "another experiment", "a denial goes with it", "another service"],
)
async def test_whoever_holds_the_target_is_named(stage: Stage, lease: LeaseStatus, decision: str) -> None:
    async def leases(_mesh: object) -> list[Any]:
        return [lease]

    cast("Any", stage.mesh).leases = leases.__get__(stage.mesh)
    record = await stage.decided(await stage.put(experiment()), MONDAY)
    assert record.decision == decision, record.reason
    assert decision == "started" or f"is held by {lease.lease.holder.operation}" in record.reason


async def test_a_mesh_that_does_not_answer_is_a_reason(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_mesh: PlayedMesh, _target: object, _operation: str) -> str:
        raise MeshUnavailable("no route to the API server")

    monkeypatch.setattr(PlayedMesh, "refused", silent)
    record = await stage.decided(await stage.put(experiment()), MONDAY)
    assert (record.decision, record.reason) == ("skipped", "the mesh does not answer: no route to the API server")
