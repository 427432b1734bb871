"""Which processes make up the stack, how each is started, and how each shows that it is ready."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autopilot.local import envoy, temporal, topology
from autopilot.local.layout import HOME_VARIABLE, Layout
from autopilot.local.ports import LOOPBACK
from autopilot.local.processes import environment, python
from autopilot.local.prometheus import PrometheusCommand

GROUPS = ("mesh", "temporal", "prometheus", "worker", "guard")
"""Groups of parts that can be started; the mesh belongs to the user, the rest to Autopilot."""

_NEEDS = {"worker": ("mesh", "temporal"), "guard": ("mesh",), "prometheus": ("mesh",)}
_OUR_PORTS = ("temporal", "ui", "prometheus", "worker", "guard", "load")


class UnknownPart(ValueError):
    """A part is unknown, or was requested without the parts it needs."""


@dataclass(frozen=True, slots=True)
class Probe:
    """An HTTP request whose answer (200, and a body that `accepts`) says that a part is ready."""

    url: str
    accepts: Callable[[str], bool] = bool


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    probe: Probe
    limit: float = 20.0
    """Seconds within which it must be ready."""
    grace: float = 2.0
    """Seconds it has to end by itself when asked to."""
    restarts: bool = False
    """Whether it is restarted when it ends by itself."""


def check_groups(groups: Sequence[str]) -> tuple[str, ...]:
    """The groups in their order, each once.

    Raises:
        UnknownPart: there is no such group, or one that it needs is missing.
    """
    if unknown := sorted(set(groups) - set(GROUPS)):
        raise UnknownPart(f"unknown parts: {', '.join(unknown)}; known: {', '.join(GROUPS)}")
    for group in groups:
        if missing := [need for need in _NEEDS.get(group, ()) if need not in groups]:
            raise UnknownPart(f"{group} needs {' and '.join(missing)}; ask for {','.join([*missing, group])}")
    return tuple(group for group in GROUPS if group in groups)


def port_names() -> list[str]:
    """Every port the stack may use, whatever was asked for: so they stay the same from one time to the next."""
    return [*_OUR_PORTS, *topology.port_names()]


def url(port: int, path: str = "") -> str:
    """An HTTP URL on this machine."""
    return f"http://{LOOPBACK}:{port}{path}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Makes the parts of one stack from its layout and ports."""

    layout: Layout
    ports: Mapping[str, int]

    def _part(
        self, name: str, command: Sequence[str], probe: Probe, *, limit: float = 20.0, grace: float = 2.0
    ) -> Part:
        settings = environment({HOME_VARIABLE: str(self.layout.root)})
        return Part(name, tuple(command), settings, probe, limit=limit, grace=grace)

    def proxies(self, binary: Path, bootstraps: Mapping[str, Path]) -> list[Part]:
        """The ingress and the sidecars."""
        return [
            self._part(f"envoy-{name}", envoy.command(binary, file), Probe(url(self.ports[f"admin:{name}"], "/ready")))
            for name, file in bootstraps.items()
        ]

    def shop(self) -> list[Part]:
        """The applications behind the sidecars."""
        return [self._instance(instance) for instance in topology.INSTANCES]

    def _instance(self, instance: topology.Instance) -> Part:
        port = self.ports[f"app:{instance.name}"]
        command = python("autopilot.local.shop", "--service", instance.service, "--version", instance.version)
        command += ["--port", str(port)]
        if instance.calls:
            outbound = url(self.ports[f"outbound:{instance.name}"])
            command += ["--calls", outbound, "--host", f"{instance.calls}.{topology.NAMESPACE}"]
        return self._part(f"shop-{instance.name}", command, Probe(url(port, "/_shop")), grace=3.0)

    def load(self, rate: float) -> Part:
        """The load generator."""
        port = self.ports["load"]
        command = python("autopilot.local.load", "--url", self.ingress, "--rate", f"{rate:g}")
        return self._part("load", [*command, "--port", str(port)], Probe(url(port, "/counts")))

    @property
    def ingress(self) -> str:
        """Where clients enter the mesh."""
        return url(self.ports[f"outbound:{topology.INGRESS}"])

    def temporal(self, binary: Path) -> Part:
        """The development server with its Web UI."""
        port, ui = self.ports["temporal"], self.ports["ui"]
        command = temporal.command(binary, database=self.layout.temporal / "temporal.db", port=port, ui_port=ui)
        return self._part("temporal", command, Probe(temporal.ready_url(ui), temporal.is_ready), limit=30.0, grace=3.0)

    def prometheus(self, found: PrometheusCommand) -> Part:
        """Prometheus, whose configuration must have been written."""
        port, home = self.ports["prometheus"], self.layout.prometheus
        command = found.command(config=home / "prometheus.yml", data=home / "data", port=port)
        return self._part("prometheus", command, Probe(url(port, "/-/ready")), limit=30.0)

    def ours(self, name: str, *, prometheus: bool) -> Part:
        """The worker or the guard, as the console command starts them."""
        port = self.ports[name]
        start = "from autopilot._bootstrap import main; main()"
        command = [sys.executable, "-P", "-c", start, name, "--mesh", str(self.layout.mesh_file)]
        settings = {
            HOME_VARIABLE: str(self.layout.root),
            "AUTOPILOT_MESH": str(self.layout.mesh_file),
            "TEMPORAL_ADDRESS": f"{LOOPBACK}:{self.ports['temporal']}",
            "TEMPORAL_NAMESPACE": temporal.NAMESPACE,
            "TEMPORAL_CONFIG_FILE": str(self.layout.temporal / "client.toml"),
        }
        if name == "worker":
            command += ["--heartbeat", "500ms"]  # heartbeats cost nothing on a local Temporal
        if prometheus:
            settings["AUTOPILOT_PROMETHEUS"] = url(self.ports["prometheus"])
        return Part(
            name,
            (*command, "--metrics", f"{LOOPBACK}:{port}"),
            environment(settings),
            Probe(url(port, "/metrics")),
            limit=30.0,
            grace=4.0,
            restarts=True,
        )
