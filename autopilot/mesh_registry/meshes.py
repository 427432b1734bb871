"""The meshes that a process drives, each with its telemetry sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from autopilot.mesh.audit import AuditRecord
from autopilot.mesh.envoy.config.names import BLACKHOLE, inbound_cluster, outbound_cluster
from autopilot.mesh.envoy.mesh_file import read_mesh
from autopilot.mesh.errors import InvalidChange, MeshError, MeshUnavailable
from autopilot.mesh.kube.mesh import KubeMesh
from autopilot.mesh.model import Target, baseline_of
from autopilot.mesh.port import Mesh
from autopilot.mesh.providers import open_meshes
from autopilot.mesh_registry.stores import dialect_of, metrics_of, source_of
from autopilot.operations.experiment_status import Acted
from autopilot.spec.chaos.experiment import Action
from autopilot.spec.mesh import MeshSpec
from autopilot.telemetry.envoy.pod_stats import PodStats
from autopilot.telemetry.envoy.stats import EnvoyStats
from autopilot.telemetry.fault_effects.envoy import EnvoyFaultEffects
from autopilot.telemetry.fault_effects.port import FaultEffects
from autopilot.telemetry.fault_effects.prometheus import PrometheusFaultEffects
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import Door, HistorySource, QuerySource, Subject, TelemetryError


class Workloads(Protocol):
    """Acts on the workloads behind a mesh. The restore guarantee does not cover it: no action can be undone in full."""

    async def act(self, target: Target, action: Action, key: str) -> Acted:
        """Takes an action; again with the same key it is done once."""
        ...

    async def undo(self, target: Target, action: Action, key: str) -> Acted:
        """Puts back what can be put back."""
        ...


@dataclass
class AttachedMesh:
    """One mesh and its telemetry."""

    mesh: Mesh
    proxies: Hub | None
    """The source for `source: mesh`; None where that is Prometheus, and this process has none."""
    prometheus: Hub | None = None
    queries: QuerySource | None = None
    history: HistorySource | None = None
    """History of the time before a rollout, whichever source is watched."""
    witness: FaultEffects | None = None
    """Shows whether faults take effect."""
    workloads: Workloads | None = None
    """Takes actions that cannot be undone, where there are workloads to act on."""
    services: Callable[[], list[str]] = list
    """Every service of the mesh, `namespace/name`, where they are known."""

    def hub(self, source: str) -> Hub:
        """The hub that a spec's `analysis.source` means.

        Raises:
            InvalidChange: it means Prometheus and this process knows none.
        """
        found = self.proxies if source == "mesh" else self.prometheus
        if found is None:
            raise InvalidChange(_NO_PROMETHEUS.format(what=f"analysis.source: {source}"))
        return found

    def interval(self, source: str) -> float | None:
        """Seconds between two samples of what `analysis.source` means; None where it is not scraped, or not known."""
        found = self.proxies if source == "mesh" else self.prometheus
        return found.interval if found is not None else None

    def query_source(self, metric: str) -> QuerySource:
        """Where custom queries are evaluated.

        Raises:
            InvalidChange: this process knows no Prometheus.
        """
        if self.queries is None:
            raise InvalidChange(_NO_PROMETHEUS.format(what=f"metric {metric}"))
        return self.queries


class ClusterWorkloads:
    """`Workloads` of a cluster: each step in a thread of the mesh's own.

    Args:
        mesh: whose cluster it is.
    """

    def __init__(self, mesh: KubeMesh) -> None:
        self._mesh = mesh

    async def act(self, target: Target, action: Action, key: str) -> Acted:
        """Takes an action."""
        return await self._mesh.in_thread(self._mesh.workloads.act, target, action, key)

    async def undo(self, target: Target, action: Action, key: str) -> Acted:
        """Puts back what can be put back."""
        return await self._mesh.in_thread(self._mesh.workloads.undo, target, action, key)


_NO_PROMETHEUS = (
    "{what} needs Prometheus, and this worker has none: set spec.prometheus.url in its mesh file, or start it with "
    "--prometheus URL"
)


@dataclass
class Meshes:
    """All meshes of a process, by name."""

    attached: dict[str, AttachedMesh] = field(default_factory=dict)

    def __getitem__(self, name: str) -> AttachedMesh:
        try:
            return self.attached[name]
        except KeyError:
            known = ", ".join(sorted(self.attached)) or "none"
            # Another worker may: operations of an earlier version share their queue with those of other meshes.
            raise MeshUnavailable(
                f"this worker drives no mesh {name!r} (it drives {known}); start it with the mesh file of {name!r}"
            ) from None

    async def close(self) -> None:
        """Closes every connection."""
        for one in self.attached.values():
            if one.witness is not None:
                await one.witness.close()
            for hub in {id(hub): hub for hub in (one.proxies, one.prometheus) if hub is not None}.values():
                await hub.close()
            await one.mesh.close()


def attach(
    mesh_files: Iterable[Path],
    prometheus: str | None = None,
    told: Callable[[AuditRecord], None] = lambda _: None,
) -> Meshes:
    """Opens the meshes that the files describe; `told` receives every audit record written through them.

    Args:
        mesh_files: their files.
        prometheus: its base URL, for all of them; None: what each file says.
        told: hears of every audit record.

    Raises:
        MeshError: a file describes no mesh, or two have the same name, or Prometheus cannot be asked as they say.
    """
    files = list(mesh_files)
    meshes = Meshes()
    for path, (name, mesh) in zip(files, open_meshes(files, told).items(), strict=True):
        if isinstance(mesh, KubeMesh):
            meshes.attached[name] = _in_a_cluster(mesh, prometheus)
        else:
            meshes.attached[name] = _standalone(mesh, read_mesh(path).spec, prometheus)
    return meshes


def _standalone(mesh: Mesh, spec: MeshSpec, prometheus: str | None) -> AttachedMesh:
    callers = {proxy.name: proxy.admin for proxy in spec.proxies if proxy.outbound}
    sidecars = {proxy.name: proxy.admin for proxy in spec.proxies if proxy.inbound}
    source = source_of(spec, prometheus)
    admins = {proxy.name: proxy.admin for proxy in spec.proxies}

    def listeners(ref: str) -> dict[str, list[str]]:
        found = {proxy.name: [one.name for one in proxy.outbound if ref in one.services] for proxy in spec.proxies}
        return {proxy: names for proxy, names in found.items() if names}

    return AttachedMesh(
        mesh=mesh,
        proxies=Hub(EnvoyStats(callers, doors=doors_of(spec), sidecars=sidecars)),
        prometheus=Hub(source) if source else None,
        queries=source,
        history=source,
        witness=EnvoyFaultEffects(lambda: admins, listeners, blackhole=BLACKHOLE),
        services=lambda: [service.ref for service in spec.services],
    )


def _in_a_cluster(mesh: KubeMesh, prometheus: str | None) -> AttachedMesh:
    """Telemetry in the standard metrics of the mesh that reads the routes."""
    metrics, dialect = metrics_of(mesh.spec), dialect_of(mesh.spec)
    source = source_of(mesh.spec, prometheus, cluster=mesh.api)
    hub = Hub(source) if source else None

    async def endpoints(subject: Subject) -> Mapping[str, Sequence[str]]:
        target = Target(mesh=subject.mesh, namespace=subject.namespace, service=subject.service)
        try:
            return await mesh.endpoints(target, subject.arms)
        except MeshError as error:
            raise TelemetryError(str(error)) from error

    witness = PrometheusFaultEffects(source) if source is not None and metrics == "istio" else None
    pods = Hub(PodStats(endpoints, dialect, most=mesh.spec.max_proxies)) if mesh.spec.telemetry == "proxies" else None
    return AttachedMesh(
        mesh=mesh,
        proxies=pods or hub,
        prometheus=hub,
        queries=source,
        history=source,
        witness=witness,
        workloads=ClusterWorkloads(mesh),
    )


def doors_of(spec: MeshSpec) -> dict[tuple[str, str], Door]:
    """What stands in front of each arm, by `namespace/service` and arm; arms alone whose every endpoint has a sidecar.

    An address that answers for several arms is nobody's: what it receives can't be told apart.
    """
    behind = {
        inbound.address: (proxy.name, inbound_cluster(inbound.name))
        for proxy in spec.proxies
        for inbound in proxy.inbound
    }
    arms = [(service.ref, name, set(arm.endpoints)) for service in spec.services for name, arm in service.arms.items()]
    shared = Counter(address for _, _, endpoints in arms for address in endpoints)
    return {
        (ref, name): Door(
            clusters=frozenset({outbound_cluster(ref, name), outbound_cluster(ref, baseline_of(name))}),
            sidecars=frozenset(behind[address] for address in endpoints),
        )
        for ref, name, endpoints in arms
        if endpoints and all(address in behind and shared[address] == 1 for address in endpoints)
    }
