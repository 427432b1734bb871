"""Evaluates a rollout's own PromQL queries beside the watch, each at its own interval."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from activities.contracts.operation import CountRequest
from autopilot.mesh.model import Target
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.spec.canary import CanaryArms, PromQL
from autopilot.telemetry import query_preflight
from autopilot.telemetry.model import QuerySource, TelemetryError, sendable
from autopilot.telemetry.query_template import filled


class Thresholds:
    """The latest readings that were not judged yet."""

    def __init__(self) -> None:
        self._fresh: dict[str, float | None] = {}
        self.failed: dict[str, str] = {}
        """By metric name, why its latest evaluation failed; none where it was answered, be it without a value."""

    def take(self) -> dict[str, float | None]:
        """The readings since the last call, by metric name; None where the query had no data."""
        taken, self._fresh = self._fresh, {}
        return taken

    @contextlib.asynccontextmanager
    async def following(
        self, metrics: Iterable[PromQL], source: QuerySource | None, target: Target, arms: CanaryArms
    ) -> AsyncIterator[None]:
        """Evaluates every metric while the context lasts."""
        tasks = [
            asyncio.create_task(
                self._follow(metric, source, filled(metric.query, target.namespace, target.service, arms)),
                name=f"threshold {metric.name}",
            )
            for metric in metrics
            if source is not None
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, metric: PromQL, source: QuerySource, query: str) -> None:
        while True:
            try:
                self._fresh[metric.name] = sendable(await source.query(query))
                self.failed.pop(metric.name, None)
            except TelemetryError as error:
                self._fresh[metric.name] = None
                self.failed[metric.name] = str(error)
            await asyncio.sleep(metric.interval)


async def try_queries(attached: AttachedMesh, request: CountRequest) -> list[str]:
    """Evaluates every custom query of a rollout once, and says which have no value.

    Raises:
        InvalidChange: this process knows no Prometheus.
        TelemetryError: it did not answer, or refused a query.
    """
    target = request.target

    async def ask(metric: PromQL) -> float | None:
        source = attached.query_source(metric.name)
        return await source.query(filled(metric.query, target.namespace, target.service, request.arms))

    return await query_preflight.without_value(request.analysis, ask)
