"""The Prometheus that a command may ask, and whether it can tell what a spec wants, before anything starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autopilot.mesh.port import Mesh
from autopilot.spec.canary import MeshCanary, PromQL
from starter.client.environment import local_stack

if TYPE_CHECKING:
    from autopilot.telemetry.prometheus.source import PrometheusSource


@dataclass(frozen=True, slots=True)
class Reached:
    """A mesh's Prometheus, as this machine knows it."""

    source: PrometheusSource
    url: str
    named: str
    """Who says so, for messages."""
    required: bool
    """Whether this machine was told of it, so that it must answer here; the address in a mesh's file may be one that
    only the worker reaches."""


def prometheus(mesh: Mesh | None, timeout: float = 5.0) -> Reached | None:
    """The Prometheus of a mesh: `$AUTOPILOT_PROMETHEUS`, else what the mesh's file says, else the local stack's.

    Raises:
        InvalidChange: it cannot be asked as they say.
    """
    spec = getattr(mesh, "spec", None)
    address, environ = os.environ.get("AUTOPILOT_PROMETHEUS") or None, dict(os.environ)
    written = getattr(spec, "prometheus", None)
    if address is None and (written is None or written.url is None):
        stack = local_stack()
        address = stack.prometheus if stack else None
        # Credentials of the environment are for what the environment names.
        environ = {name: value for name, value in environ.items() if not name.startswith("AUTOPILOT_PROMETHEUS")}
        if address is None:
            return None
    from autopilot.mesh_registry.stores import source_of, store_of  # noqa: PLC0415 - slow to load

    store = store_of(spec, address, environ)
    source = source_of(spec, address, cluster=getattr(mesh, "api", None), environ=environ, timeout=timeout)
    if store is None or source is None:
        return None
    return Reached(source, store.url, store.named, required=not store.of_file)


async def check(mesh: Mesh, canary: MeshCanary) -> list[str]:
    """What stands in the way, one sentence each.

    Where this machine knows no Prometheus, or has not the credentials that the mesh's file refers to, nothing can be
    asked: the worker may have them, and refuses by itself before the first shift if it does not.
    """
    analysis = canary.spec.analysis
    queries = [metric for metric in analysis.metrics if isinstance(metric, PromQL)]
    if analysis.source != "prometheus" and not queries:
        return []
    from autopilot.mesh.errors import InvalidChange  # noqa: PLC0415 - slow to load
    from autopilot.telemetry.model import TelemetryError  # noqa: PLC0415
    from autopilot.telemetry.prometheus.answers import Unreachable  # noqa: PLC0415
    from autopilot.telemetry.prometheus.credentials import CredentialsUnavailable  # noqa: PLC0415
    from autopilot.telemetry.query_template import filled  # noqa: PLC0415

    try:
        reached = prometheus(mesh)
    except InvalidChange as error:
        return [str(error)]
    if reached is None:
        return []
    source = reached.source
    try:
        try:
            await source.query("vector(1)")
        except (CredentialsUnavailable, Unreachable) as error:
            return [f"{error} ({reached.named} names it)"] if reached.required else []
        except TelemetryError as error:
            return [f"{error} ({reached.named} names it)"]
        problems = []
        namespace, service = canary.metadata.namespace, canary.spec.target.service
        for metric in queries:
            try:
                await source.query(filled(metric.query, namespace, service, canary.spec.arms))
            except TelemetryError as error:
                problems.append(f"metric {metric.name}: {error}")
    finally:
        await source.close()
    return problems
