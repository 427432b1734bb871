"""Mesh: what a standalone Envoy mesh consists of, as its owner describes it in `mesh.yaml`.

This file is the *base*: the configuration the mesh has when no operation is under way. A promoted canary changes
`weights` of its service here, and nothing else ever does.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from autopilot.spec.base import Metadata, SpecModel
from autopilot.spec.units import Name, Percent, Seconds

Address = Annotated[str, Field(pattern=r"^[^\s/:]+:\d{1,5}$")]
"""`host:port`."""

ServiceRef = Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")]
"""`namespace/service`."""


class MeshArm(SpecModel):
    """One version of a service: the addresses that answer for it (their sidecars, where they have one)."""

    endpoints: tuple[Address, ...]


class MeshService(SpecModel):
    """A service, its versions, and how its traffic is shared among them when nobody operates on it."""

    name: Name
    namespace: Name = "default"
    arms: Annotated[dict[Name, MeshArm], Field(min_length=1)]
    weights: dict[Name, Percent]
    timeout: Seconds = 15.0
    retries: Annotated[int, Field(ge=0, le=10)] = 0

    @property
    def ref(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @model_validator(mode="after")
    def _weights_add_up(self) -> Self:
        if unknown := sorted(set(self.weights) - set(self.arms)):
            raise ValueError(f"weights name {', '.join(unknown)}, which is no arm of {self.ref}")
        if abs(sum(self.weights.values()) - 100) > 1e-6:
            raise ValueError(f"weights of {self.ref} add up to {sum(self.weights.values()):g}, not 100")
        if empty := sorted(arm for arm, weight in self.weights.items() if weight and not self.arms[arm].endpoints):
            raise ValueError(f"arm {', '.join(empty)} of {self.ref} has a weight and no endpoints")
        return self


class Outbound(SpecModel):
    """A listener through which its proxy calls services: the place where traffic is steered."""

    name: Name
    address: Address
    services: Annotated[tuple[ServiceRef, ...], Field(min_length=1)]
    """One service answers to every Host header; several answer to `name`, `name.namespace` and those with a port."""


class Inbound(SpecModel):
    """A listener in front of the application a sidecar belongs to."""

    name: Name = "inbound"
    address: Address
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
    directory: str = "."
    """Where configuration, overlays and leases lie; relative to the file that says so. Every proxy must read it."""
    max_unattended: Annotated[Seconds, Field(ge=1)] = 120.0
    """How long an overlay outlives the last sign of life of whoever holds it, at the most: proxies enforce it."""
    stats_flush_interval: Annotated[Seconds, Field(ge=0.1, le=60)] = 0.5
    services: Annotated[tuple[MeshService, ...], Field(min_length=1)]
    proxies: Annotated[tuple[Proxy, ...], Field(min_length=1)]

    @field_validator("services")
    @classmethod
    def _services_once(cls, value: tuple[MeshService, ...]) -> tuple[MeshService, ...]:
        _refuse_twice("service", [service.ref for service in value])
        return value

    @field_validator("proxies")
    @classmethod
    def _proxies_once(cls, value: tuple[Proxy, ...]) -> tuple[Proxy, ...]:
        _refuse_twice("proxy", [proxy.name for proxy in value])
        for proxy in value:
            _refuse_twice(f"listener of {proxy.name}", [item.name for item in (*proxy.inbound, *proxy.outbound)])
        return value

    @model_validator(mode="after")
    def _known_services(self) -> Self:
        known = {service.ref for service in self.services}
        for proxy in self.proxies:
            for outbound in proxy.outbound:
                if unknown := sorted(set(outbound.services) - known):
                    raise ValueError(f"proxy {proxy.name} calls {', '.join(unknown)}, which is no service of the mesh")
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


def split_address(address: str) -> tuple[str, int]:
    """`host:port` as its two parts."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def _refuse_twice(what: str, names: list[str]) -> None:
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{what} {', '.join(doubled)} is there twice")
