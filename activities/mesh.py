"""Effects on a mesh: each is safe to repeat, and refused where the operation no longer has the lease."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Iterator

from temporalio import activity

from activities.contracts.operation import AcquireRequest, ApplyRequest, Ended, EndRequest, HeldRequest, MeshSignatures
from activities.heartbeat import heartbeating
from autopilot.mesh.errors import MeshError, MeshUnavailable
from autopilot.mesh.kube.client.api_errors import Refused
from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.model import Lease, Receipt, SplitTraffic
from autopilot.mesh.port import Mesh
from autopilot.mesh_registry.meshes import Meshes
from autopilot.observability.metrics import CANARY_WEIGHT, RESTORE_SECONDS, show_leases


class MeshActivities(MeshSignatures):
    """The meshes this worker drives, as activities."""

    def __init__(self, meshes: Meshes) -> None:
        self._meshes = meshes

    @activity.defn(name="mesh.acquire")
    async def acquire(self, request: AcquireRequest) -> Lease:
        """Takes the lease, or returns the one this run already holds."""
        mesh = self._meshes[request.target.mesh].mesh
        lease = await mesh.acquire(
            request.target,
            request.aspects,
            operation=request.operation,
            token=request.token,
            ttl=request.ttl,
            planned_end=request.planned_end if request.lasting is None else time.time() + request.lasting,
            queue=request.queue,
            by=request.by,
            asked=activity.info().scheduled_time.timestamp(),
        )
        await _show(mesh)
        return lease

    @activity.defn(name="mesh.apply")
    async def apply(self, request: ApplyRequest) -> Receipt:
        """Plans, writes, and verifies at the proxies."""
        mesh = self._meshes[request.lease.target.mesh].mesh
        await mesh.plan(request.lease.target, request.changes)  # refuses what cannot be made before anything is written
        receipt = await mesh.apply(request.lease, request.changes, request.by)
        await mesh.verify(receipt)
        for change in request.changes:
            if isinstance(change, SplitTraffic) and request.canary:
                for arm, weight in change.weights.items():
                    CANARY_WEIGHT.labels(request.lease.target.namespace, request.name, arm, "set").set(weight)
        return receipt

    @activity.defn(name="mesh.commit")
    async def commit(self, request: EndRequest) -> Ended:
        """Makes the overlay the base."""
        mesh = self._meshes[request.lease.target.mesh].mesh
        with _until_allowed():
            return await _ended(mesh, mesh.commit(request.lease, _actor(request)))

    @activity.defn(name="mesh.lift")
    async def lift(self, request: EndRequest) -> Ended:
        """Restores the base; does nothing where that was done before."""
        with _whatever_it_takes():
            mesh = self._meshes[request.lease.target.mesh].mesh
            ended = await _ended(mesh, mesh.lift(request.lease, _actor(request)))
        if ended.receipt is not None:
            RESTORE_SECONDS.labels(request.net).observe(ended.seconds)
        return ended

    @activity.defn(name="mesh.held")
    async def held(self, request: HeldRequest) -> bool:
        """Whether the lease is still held."""
        mesh = self._meshes[request.lease.target.mesh].mesh
        if any(one.lease.holder == request.lease.holder for one in await mesh.leases()):
            return True
        # A record that this version cannot read may be the lease.
        return any(one.target in ("", request.lease.target.ref) for one in await mesh.unreadable())


@contextlib.contextmanager
def _until_allowed() -> Iterator[None]:
    """Retries an end without limit: what a cluster refuses now may be granted later."""
    try:
        yield
    except Refused as error:
        raise MeshUnavailable(f"{error}; this is retried until it succeeds") from error


@contextlib.contextmanager
def _whatever_it_takes() -> Iterator[None]:
    """Nothing that restores gives up: another worker may know the mesh, and a later version may read its records."""
    try:
        yield
    except MeshError as error:
        if error.retryable:
            raise
        raise MeshUnavailable(f"{error}; this is retried until it succeeds") from error


async def _show(mesh: Mesh) -> None:
    """Exports the leases as metrics; a failure is logged and changes nothing else."""
    try:
        show_leases(mesh.name, await mesh.leases())
    except MeshError as error:
        activity.logger.warning("the metrics of leases could not be updated: %s", error)


def _actor(request: EndRequest) -> Actor:
    return request.by.model_copy(update={"net": request.net})


async def _ended(mesh: Mesh, ending: Awaitable[Receipt | None]) -> Ended:
    """Ends a lease and waits until the proxies report the result; measures the time from the order to their report."""
    started = time.monotonic()
    async with heartbeating():
        receipt = await ending
        if receipt is not None:
            await mesh.verify(receipt)
    seconds = time.monotonic() - started
    await _show(mesh)
    return Ended(receipt=receipt, seconds=seconds)
