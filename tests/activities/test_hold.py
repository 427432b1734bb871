"""A hold whose time went by while no worker had it still says what became of its lease."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.contracts.operation import HoldLeaseRequest
from activities.hold import HoldActivities
from activities.temporal_health import TemporalHealth
from autopilot.mesh.errors import LeaseLost, TakenOver
from autopilot.mesh.leases.overrides import LeaseOrders
from autopilot.mesh.model import Aspect, Holder, Lease, Target
from autopilot.mesh_registry.meshes import AttachedMesh, Meshes

LEASE = Lease(
    target=Target(mesh="local", namespace="shop", service="reviews"),
    holder=Holder(operation="detour/local/shop/a", fencing=1),
    aspects=(Aspect.TRAFFIC,),
    ttl=30,
    max_unattended=120,
)


class OneMesh:
    """Answers renewals alone."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure

    async def renew(self, lease: Lease) -> LeaseOrders:
        if self.failure is not None:
            raise self.failure
        return LeaseOrders()


async def held(failure: Exception | None, *, late: bool) -> Any:
    environment = ActivityEnvironment()
    began = datetime.now(UTC) - timedelta(hours=1 if late else 0)
    environment.info = replace(environment.info, scheduled_time=began)
    meshes = Meshes({"local": AttachedMesh(mesh=OneMesh(failure), proxies=None)})  # type: ignore[arg-type]
    activities = HoldActivities(meshes, TemporalHealth())
    return await environment.run(activities.hold, HoldLeaseRequest(lease=LEASE, seconds=0.2))


@pytest.mark.parametrize("late", [False, True], ids=["in time", "after its time"])
@pytest.mark.parametrize(
    ("failure", "cause"),
    [(None, None), (LeaseLost("restored by a guard"), "leaseLost"), (TakenOver("by ann"), "takenOver")],
)
async def test_a_hold_tells_of_its_lease(failure: Exception | None, cause: str | None, *, late: bool) -> None:
    found = await held(failure, late=late)
    assert (found.ended.cause if found.ended else None) == cause
