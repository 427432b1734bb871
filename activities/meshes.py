"""The meshes a process drives, each with the sources that tell what it does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from autopilot.mesh.envoy.base import read_mesh
from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.mesh.port import Mesh
from autopilot.telemetry.envoy_stats import EnvoyStats
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import QuerySource
from autopilot.telemetry.prometheus import PrometheusSource


@dataclass
class Attached:
    """One mesh and its telemetry."""

    mesh: Mesh
    proxies: Hub
    prometheus: Hub | None = None
    queries: QuerySource | None = None

    def hub(self, source: str) -> Hub:
        """The hub that a spec's `analysis.source` means.

        Raises:
            InvalidChange: it means Prometheus and this process knows none.
        """
        if source == "mesh":
            return self.proxies
        if self.prometheus is None:
            raise InvalidChange(_NO_PROMETHEUS.format(what="analysis.source: prometheus"))
        return self.prometheus

    def query_source(self, metric: str) -> QuerySource:
        """Where custom queries are evaluated.

        Raises:
            InvalidChange: this process knows no Prometheus.
        """
        if self.queries is None:
            raise InvalidChange(_NO_PROMETHEUS.format(what=f"metric {metric}"))
        return self.queries


_NO_PROMETHEUS = "{what} needs Prometheus, and this worker knows none: start it with --prometheus URL"


@dataclass
class Meshes:
    """All meshes of a process, by name."""

    attached: dict[str, Attached] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Attached:
        try:
            return self.attached[name]
        except KeyError:
            known = ", ".join(sorted(self.attached)) or "none"
            raise InvalidChange(f"this worker drives no mesh {name!r}; it drives {known}") from None

    async def close(self) -> None:
        """Lets go of every connection."""
        for one in self.attached.values():
            await one.proxies.close()
            if one.prometheus is not None:
                await one.prometheus.close()
            await one.mesh.close()


def attach(mesh_files: Iterable[Path], prometheus: str | None = None) -> Meshes:
    """Opens the meshes that the files describe.

    Raises:
        MeshError: a file describes no mesh, or two have the same name.
    """
    meshes = Meshes()
    for path in mesh_files:
        description = read_mesh(path)
        name = description.metadata.name
        if name in meshes.attached:
            raise MeshError(f"{path} describes a mesh {name!r}, and so does another file; rename one")
        callers = {proxy.name: proxy.admin for proxy in description.spec.proxies if proxy.outbound}
        source = PrometheusSource(prometheus) if prometheus else None
        meshes.attached[name] = Attached(
            mesh=EnvoyMesh(path),
            proxies=Hub(EnvoyStats(callers)),
            prometheus=Hub(source) if source else None,
            queries=source,
        )
    return meshes
