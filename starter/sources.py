"""Whether the telemetry that a spec asks for answers, before anything is started for it."""

from __future__ import annotations

import os

from autopilot.spec.canary import MeshCanary, PromQL
from starter.places import local_stack


def prometheus() -> str | None:
    """The address of the Prometheus that this machine knows: the one that is named, else the local stack's."""
    stack = local_stack()
    return os.environ.get("AUTOPILOT_PROMETHEUS") or (stack.prometheus if stack else None)


async def check(canary: MeshCanary) -> list[str]:
    """What stands in the way, one sentence each.

    Where this machine knows no Prometheus nothing can be asked: the worker may know one, and refuses by itself before
    the first shift if it does not.
    """
    analysis = canary.spec.analysis
    queries = [metric for metric in analysis.metrics if isinstance(metric, PromQL)]
    url = prometheus()
    if url is None or (analysis.source != "prometheus" and not queries):
        return []
    from autopilot.telemetry.model import TelemetryError  # noqa: PLC0415 - slow to load
    from autopilot.telemetry.prometheus import PrometheusSource  # noqa: PLC0415
    from autopilot.telemetry.template import filled  # noqa: PLC0415

    source = PrometheusSource(url)
    try:
        await source.query("vector(1)")
    except TelemetryError as error:
        return [f"{error} (AUTOPILOT_PROMETHEUS names another)"]
    problems = []
    namespace, service = canary.metadata.namespace, canary.spec.target.service
    for metric in queries:
        try:
            await source.query(filled(metric.query, namespace, service, canary.spec.arms))
        except TelemetryError as error:
            problems.append(f"metric {metric.name}: {error}")
    await source.close()
    return problems
