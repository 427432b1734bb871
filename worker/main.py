"""The process that runs workflows and activities: three task queues a mesh, so that a restore waits for no slot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import structlog
from temporalio.client import Client
from temporalio.worker import Worker

from activities.hold import HoldActivities
from activities.last_heartbeat import HeartbeatActivities
from activities.mesh import MeshActivities
from activities.registry import Tools
from activities.report_archive import Archive, OperationReports
from activities.schedules.activities import ScheduleActivities
from activities.temporal_health import TemporalHealth
from autopilot.kinds import kinds
from autopilot.mesh_registry.meshes import Meshes, attach
from autopilot.observability.audit_stream import stream
from autopilot.observability.metrics import serve
from autopilot.operations.task_queues import (
    EARLIER_QUEUE,
    EARLIER_WATCH_QUEUE,
    operation_queue,
    restore_queue,
    watch_queue,
)
from worker.plugin import AutopilotPlugin, all_workflows
from worker.sdk_metrics import SdkMetrics
from worker.search_attributes import ensure_search_attributes
from worker.shutdown import stop_signal
from worker.temporal_client import connect

_log = structlog.get_logger()
_GRACE = timedelta(seconds=5)
_EFFECT_HEARTBEAT = timedelta(milliseconds=500)
"""Heartbeats of short effects leave at once: the SDK would keep them for four fifths of their time-out."""
_RESTORES = 1000
"""Maximum restores of one process and mesh at a time."""
_WATCHES = 1000
"""Maximum watches of one process and queue: each holds its slot until it ends, and costs little."""


async def run(
    mesh_files: Sequence[Path],
    metrics: str | None = None,
    prometheus: str | None = None,
    *,
    heartbeat_every: float = 5.0,
    reports: Path = Path(".autopilot/reports"),
    codec: str | None = None,
) -> None:
    """Works until SIGTERM or SIGINT.

    Args:
        mesh_files: the meshes this worker drives.
        metrics: `host:port` to serve its own metrics and those of Temporal's SDK at.
        prometheus: base URL for `source: prometheus` and custom queries.
        heartbeat_every: seconds between heartbeats of a watch that reach the server, at the most; also the time an
            approval or a resume may take to be heard.
        reports: where finished operations' reports are kept.
        codec: name of the payload codec; by default what `AUTOPILOT_CODEC` says.

    Raises:
        CodecError: the codec cannot be used.
        MeshError: a mesh file describes no mesh.
        RuntimeError: Temporal did not answer.
    """
    meshes = attach(mesh_files, prometheus, stream())
    sdk = SdkMetrics() if metrics else None  # before the client, which reports to its runtime
    client = await connect(plugins=[AutopilotPlugin()], codec=codec, runtime=sdk.runtime if sdk else None)
    await ensure_search_attributes(client)
    stop = stop_signal()
    try:
        async with working(client, meshes, reports=reports, heartbeat_every=heartbeat_every):
            if metrics:
                serve(metrics)  # from here on this worker counts as ready
            _log.info("worker ready", meshes=sorted(meshes.attached), namespace=client.namespace)
            await stop.wait()
            _log.info("worker stops; its watches continue on other workers, or when it is started again")
    finally:
        await meshes.close()
        if sdk:
            sdk.close()


@contextlib.asynccontextmanager
async def working(
    client: Client,
    meshes: Meshes,
    *,
    reports: Path,
    heartbeat_every: float = 0.5,
    max_cached_workflows: int = 1000,
) -> AsyncIterator[None]:
    """Polls the queues of every mesh while the context lasts: what the command runs, and what tests run.

    The queues of earlier versions are polled too: operations that were under way during the upgrade go on, and
    schedules that were made before it run.

    Raises:
        ValueError: the client was connected without our plugin, so workers would run without it too.
    """
    if not any(isinstance(plugin, AutopilotPlugin) for plugin in client.config(active_config=True)["plugins"]):
        raise ValueError("this client has no AutopilotPlugin: connect it with plugins=[AutopilotPlugin()]")
    health = TemporalHealth()
    archive = Archive(reports)
    mesh, heartbeats = MeshActivities(meshes), HeartbeatActivities(client)
    archived, schedules = OperationReports(archive), ScheduleActivities(client, meshes, reports)
    holds, tools = HoldActivities(meshes, health), Tools(meshes, health, archive)
    registered = [kind.load("activities")(tools) for kind in kinds() if kind.activities]

    def effects(queue: str) -> Worker:
        return Worker(
            client,
            task_queue=queue,
            workflows=all_workflows(),
            activities=[
                mesh.acquire,
                mesh.apply,
                mesh.commit,
                mesh.lift,
                mesh.held,
                heartbeats.last,
                archived.archive,
                schedules.ask,
                schedules.start,
                schedules.archive,
                schedules.pause_after,
                *(each for one in registered for each in one.effects),
            ],
            max_heartbeat_throttle_interval=_EFFECT_HEARTBEAT,
            default_heartbeat_throttle_interval=_EFFECT_HEARTBEAT,
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
            graceful_shutdown_timeout=_GRACE,
            max_cached_workflows=max_cached_workflows,
        )

    def restores(queue: str) -> Worker:
        return Worker(
            client,
            task_queue=queue,
            activities=[mesh.lift],
            max_concurrent_activities=_RESTORES,
            max_heartbeat_throttle_interval=_EFFECT_HEARTBEAT,
            default_heartbeat_throttle_interval=_EFFECT_HEARTBEAT,
            graceful_shutdown_timeout=_GRACE,
        )

    def watches(queue: str) -> Worker:
        return Worker(
            client,
            task_queue=queue,
            activities=[schedules.wait, holds.hold, *(each for one in registered for each in one.watches)],
            max_concurrent_activities=_WATCHES,
            max_heartbeat_throttle_interval=timedelta(seconds=heartbeat_every),
            default_heartbeat_throttle_interval=timedelta(seconds=heartbeat_every),
            graceful_shutdown_timeout=timedelta(0),  # a watch never ends by itself: it goes on elsewhere
        )

    workers = [effects(EARLIER_QUEUE), watches(EARLIER_WATCH_QUEUE)]
    for name in meshes.attached:
        workers += [effects(operation_queue(name)), restores(restore_queue(name)), watches(watch_queue(name))]
    async with health.following(client), contextlib.AsyncExitStack() as running:
        for one in workers:
            await running.enter_async_context(one)
        try:
            yield
        finally:
            await asyncio.gather(*(one.shutdown() for one in workers))  # at once: each has its time to finish
