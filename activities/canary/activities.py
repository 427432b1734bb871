"""Telemetry as activities: totals read once, and the watch that turns ticks into a verdict."""

from __future__ import annotations

import asyncio
import time

from temporalio import activity

from activities.canary.analysis_run import AnalysisRun, subject_of
from activities.canary.exclusion_windows import spans
from activities.canary.history_baseline import learn
from activities.canary.promql_checks import try_queries
from activities.contracts.operation import (
    CountRequest,
    Learned,
    LearnRequest,
    TelemetrySignatures,
    Totals,
    WatchBeat,
    WatchRequest,
    WatchResult,
)
from activities.heartbeat import heartbeating
from activities.registry import Registered, Tools
from activities.report_archive import ReportActivities
from activities.temporal_health import TemporalHealth
from autopilot.evidence.model import Inconclusive
from autopilot.mesh.errors import MeshError
from autopilot.mesh_registry.meshes import Meshes
from autopilot.telemetry.exposure import tally
from autopilot.telemetry.query_preflight import without_histogram


def register(tools: Tools) -> Registered:
    """The activities of rollouts."""
    telemetry = TelemetryActivities(tools.meshes, tools.health)
    reports = ReportActivities(tools.archive)
    return Registered((telemetry.count, telemetry.learn, reports.archive), (telemetry.watch,))


class TelemetryActivities(TelemetrySignatures):
    """Telemetry of this worker's meshes, as activities."""

    def __init__(self, meshes: Meshes, health: TemporalHealth) -> None:
        self._meshes = meshes
        self._health = health

    @activity.defn(name="telemetry.count")
    async def count(self, request: CountRequest) -> Totals:
        """Reads totals once; requests that stay open are failures."""
        attached = self._meshes[request.target.mesh]
        hub = attached.hub(request.analysis.source)
        notes = await try_queries(attached, request) if request.queries else []
        now = time.time()
        subject = subject_of(request.target, request.arms)
        async with heartbeating():  # it may have to wait for a scrape
            series = await tally(hub.source, subject, request.arms.canary, since=now if request.fresh else None)
            if request.queries:
                (look,) = await hub.source.observe([subject])
                notes += without_histogram(request.analysis, look.samples, request.arms.stable)
        return Totals(time=now, series=series, notes=tuple(notes))

    @activity.defn(name="telemetry.learn")
    async def learn(self, request: LearnRequest) -> Learned:
        """Learns from what was counted before the rollout; where nothing can be learned it says why."""
        attached = self._meshes[request.target.mesh]
        try:
            disturbed = spans(await attached.mesh.audit())
        except MeshError as error:
            activity.logger.warning(
                "audit records of earlier experiments cannot be read, so failures that they caused may be "
                "learned from: %s",
                error,
            )
            disturbed = []
        source = request.analysis.source
        now = attached.hub(source).source
        return await learn(attached.history, request, lambda: attached.interval(source), disturbed, now)

    @activity.defn(name="telemetry.watch")
    async def watch(self, request: WatchRequest) -> WatchResult:
        """Judges ticks until there is a verdict; heartbeats its state, renews the lease, condemns it on harm."""
        beats = activity.info().heartbeat_details
        earlier = WatchBeat.model_validate(beats[0]) if beats else None
        watching = AnalysisRun(request, self._meshes[request.target.mesh], self._health, earlier)
        try:
            return await watching.run(activity.heartbeat)
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            if details is None or not details.cancel_requested:
                raise  # this worker stops: another continues from the last heartbeat
            return watching.result(Inconclusive(cause="stopped", reason="the watch was asked to stop"))
