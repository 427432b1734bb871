"""Waiting under a lease: the lease is renewed, and nothing else is looked at."""

from __future__ import annotations

import asyncio
import time

from temporalio import activity

from activities.contracts.operation import HeldLease, HoldLeaseBeat, HoldLeaseRequest, HoldSignatures
from activities.lease_renewal import LeaseRenewer
from activities.temporal_health import TemporalHealth
from autopilot.mesh_registry.meshes import Meshes

_BEAT = 0.5
"""Seconds between heartbeats."""


class HoldActivities(HoldSignatures):
    """Holds on the meshes of this process."""

    def __init__(self, meshes: Meshes, health: TemporalHealth) -> None:
        self._meshes = meshes
        self._health = health

    @activity.defn(name="operation.hold")
    async def hold(self, request: HoldLeaseRequest) -> HeldLease:
        """Renews the lease until the time is over; a hold that goes on elsewhere becomes no longer."""
        began = activity.info().scheduled_time.timestamp()
        mesh = self._meshes[request.lease.target.mesh].mesh
        renewer = LeaseRenewer(mesh, request.lease, self._health, grace=request.temporal_grace, halt=request.halt)
        if (found := await renewer.renew()) is not None:  # also where its time went by while no worker had it
            return HeldLease(held=time.time() - began, ended=found)
        async with renewer.keeping() as kept:
            while not kept.done() and (left := began + request.seconds - time.time()) > 0:
                activity.heartbeat(HoldLeaseBeat(held=time.time() - began))
                await asyncio.wait({kept}, timeout=min(_BEAT, left))
            return HeldLease(held=time.time() - began, ended=kept.result() if kept.done() else None)
