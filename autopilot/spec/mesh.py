"""Mesh: what a standalone Envoy mesh consists of, as its owner describes it in `mesh.yaml`.

This file is the *base*: the configuration the mesh has when no operation is under way. A promoted canary changes
`weights` of its service here, and nothing else ever does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autopilot.spec.base import Metadata, Misplaced, SpecModel
from autopilot.spec.chaos.limits import Ceilings
from autopilot.spec.prometheus import PrometheusSpec
from autopilot.spec.values.addresses import Address, ListenerAddress
from autopilot.spec.values.units import Count, Hundredth, Name, Seconds, explained, listed

SERVICE_REF = r"^[a-z0-9-]{1,63}/[a-z0-9-]{1,63}$"
TARGET_REF = r"^[a-z0-9-]{1,63}/[a-z0-9.-]{1,63}$"
"""A service or, of an experiment, a host outside the cluster."""
ServiceRef = Annotated[str, Field(pattern=explained(SERVICE_REF, "a service: namespace/name"))]
"""`namespace/service`."""

Directory = Annotated[
    str, Field(max_length=4096, pattern=explained(r"^[^\x00-\x1f\x7f]+$", "a directory: a path on one line"))
]


class MeshArm(SpecModel):
    """One version of a service: the addresses that answer for it (their sidecars, where they have one)."""

    endpoints: tuple[Address, ...]


class MeshService(SpecModel):
    """A service, its versions, and how its traffic is shared among them in the base configuration."""

    name: Name
    namespace: Name = "default"
    arms: Annotated[dict[Name, MeshArm], Field(min_length=1)]
    weights: dict[Name, Hundredth]
    timeout: Seconds = 15.0
    retries: Annotated[Count, Field(ge=0, le=10)] = 0

    @property
    def ref(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @model_validator(mode="after")
    def _weights_add_up(self) -> Self:
        for arm in self.weights:
            if arm not in self.arms:
                raise Misplaced(
                    f"is not an arm of {self.ref}", at=("weights", arm), hint=f"its arms: {listed(self.arms)}"
                )
        if abs(sum(self.weights.values()) - 100) > 1e-6:
            raise Misplaced(f"add up to {sum(self.weights.values()):g}, not 100", at=("weights",))
        for arm, weight in self.weights.items():
            if weight and not self.arms[arm].endpoints:
                raise Misplaced(f"no endpoints, but {weight:g} % of the traffic", at=("arms", arm, "endpoints"))
        return self

    @model_validator(mode="after")
    def _timeout_counts(self) -> Self:
        if 0 < self.timeout < 0.001:
            raise Misplaced(
                "is below 1ms, which Envoy reads as no timeout", at=("timeout",), hint="0s means no timeout"
            )
        return self


class Outbound(SpecModel):
    """A listener through which its proxy calls services: the place where traffic is steered."""

    name: Name
    address: ListenerAddress
    services: Annotated[tuple[ServiceRef, ...], Field(min_length=1)]
    """One service answers to every Host header; several answer to `name.namespace`, to `name` where only one of them is
    called that, and to those with a port."""


class Inbound(SpecModel):
    """A listener in front of the application a sidecar belongs to."""

    name: Name = "inbound"
    address: ListenerAddress
    application: Address


class Proxy(SpecModel):
    """One Envoy: its admin address and its listeners."""

    name: Name
    admin: Address
    outbound: tuple[Outbound, ...] = ()
    inbound: tuple[Inbound, ...] = ()


class MeshSpec(SpecModel):
    """Services and proxies of a mesh of plain Envoys that read their configuration from files."""

    provider: Literal["envoy"] = "envoy"
    directory: Directory = "."
    """Where configuration, overlays and leases lie; relative to the file that says so. Every proxy must read it."""
    max_unattended: Annotated[Seconds, Field(ge=1)] = 120.0
    """Maximum time that an overlay outlives the last renewal by its holder: proxies enforce it."""
    stats_flush_interval: Annotated[Seconds, Field(ge=0.1, le=60)] = 0.5
    zones: Annotated[dict[Name, tuple[Address, ...]], Field(max_length=100)] = Field(default_factory=dict)
    """Where endpoints are, so that an experiment can lose one of these places: zone → their addresses."""
    chaos: Ceilings = Ceilings()
    """Limits for experiments in this mesh."""
    prometheus: PrometheusSpec = PrometheusSpec()
    """Where Prometheus is, and how to ask it; by default the address that the worker is given with `--prometheus`."""
    services: Annotated[tuple[MeshService, ...], Field(min_length=1)]
    proxies: Annotated[tuple[Proxy, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _everything_once(self) -> Self:
        _refuse_twice([service.ref for service in self.services], ("services",))
        _refuse_twice([proxy.name for proxy in self.proxies], ("proxies",))
        for index, proxy in enumerate(self.proxies):
            _refuse_twice([item.name for item in proxy.inbound], ("proxies", index, "inbound"))
            names = [*(item.name for item in proxy.inbound), *(item.name for item in proxy.outbound)]
            _refuse_twice(names, ("proxies", index, "outbound"), skip=len(proxy.inbound))
            _refuse_twice([item.address for item in proxy.inbound], ("proxies", index, "inbound"), "address")
            addresses = [*(item.address for item in proxy.inbound), *(item.address for item in proxy.outbound)]
            _refuse_twice(addresses, ("proxies", index, "outbound"), "address", skip=len(proxy.inbound))
            for place, outbound in enumerate(proxy.outbound):
                _refuse_twice(outbound.services, ("proxies", index, "outbound", place, "services"), "")
        return self

    @model_validator(mode="after")
    def _no_secrets_of_a_cluster(self) -> Self:
        self.prometheus.refuse_cluster_secrets(("prometheus",))
        return self

    @model_validator(mode="after")
    def _known_services(self) -> Self:
        known = {service.ref for service in self.services}
        for number, proxy in enumerate(self.proxies):
            for place, outbound in enumerate(proxy.outbound):
                for index, ref in enumerate(outbound.services):
                    if ref not in known:
                        at = ("proxies", number, "outbound", place, "services", index)
                        raise Misplaced(
                            f"{ref!r} is not a service of the mesh", at=at, hint=f"known: {listed(sorted(known))}"
                        )
        return self

    @model_validator(mode="after")
    def _zones_hold_endpoints(self) -> Self:
        known = {address for service in self.services for arm in service.arms.values() for address in arm.endpoints}
        placed: dict[str, str] = {}
        for zone, addresses in self.zones.items():
            for index, address in enumerate(addresses):
                if address not in known:
                    raise Misplaced(f"{address!r} is not an endpoint of any service", at=("zones", zone, index))
                if address in placed:
                    raise Misplaced(f"{address!r} is also in {placed[address]}", at=("zones", zone, index))
                placed[address] = zone
        return self

    def service(self, ref: str) -> MeshService | None:
        """The service `namespace/name`, or None."""
        return next((service for service in self.services if service.ref == ref), None)


class Mesh(SpecModel):
    """A mesh of plain Envoys, as `mesh.yaml` describes it."""

    api_version: Literal["meshautopilot.io/v1alpha1"] = "meshautopilot.io/v1alpha1"
    kind: Literal["Mesh"] = "Mesh"
    metadata: Metadata
    spec: MeshSpec

    def with_service(self, ref: str, **changes: object) -> Mesh:
        """The mesh with some fields of one service changed; nothing is checked anew."""
        services = tuple(
            service.model_copy(update=changes) if service.ref == ref else service for service in self.spec.services
        )
        return self.model_copy(update={"spec": self.spec.model_copy(update={"services": services})})


def _refuse_twice(names: Sequence[str], at: tuple[str | int, ...], field: str = "name", *, skip: int = 0) -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise Misplaced(f"{name!r} is listed twice", at=(*at, index - skip, *([field] if field else [])))
        seen.add(name)
