"""The sample shop as a mesh: `web -> reviews -> ratings`, every instance behind a sidecar, an ingress in front.

Ratings runs twice, in two zones, so that one of them can be lost.

    clients -> ingress -> [web-v1] web -> [web-v1] -> [reviews-v1 | reviews-v2] reviews -> ratings ...

The weights of `shop/reviews` are where canaries happen: callers' sidecars (here `web-v1`) share its traffic out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from autopilot.local.ports import LOOPBACK
from autopilot.spec.base import Metadata
from autopilot.spec.mesh import Inbound, Mesh, MeshArm, MeshService, MeshSpec, Outbound, Proxy

MESH = "local"
NAMESPACE = "shop"
INGRESS = "ingress"

_HEADER = """\
The mesh that `autopilot up` runs. This file is the base: the configuration while no operation is running.
A promoted canary writes its new weights here. Addresses are of this machine; see each part's port in stack.json.
"""


@dataclass(frozen=True, slots=True)
class Instance:
    """One running version of one service, with its sidecar."""

    service: str
    version: str
    calls: str | None = None
    zone: str = "a"
    """Where it runs: an experiment may lose one."""

    @property
    def name(self) -> str:
        """What its process, its sidecar and its ports are called."""
        return f"{self.service}-{self.version}" + ("" if self.zone == "a" else f"-{self.zone}")

    @property
    def port_names(self) -> list[str]:
        """The ports it needs: application, sidecar's admin, inbound and, where it calls anyone, outbound."""
        names = [f"app:{self.name}", f"admin:{self.name}", f"inbound:{self.name}"]
        return [*names, f"outbound:{self.name}"] if self.calls else names


INSTANCES = (
    Instance("web", "v1", calls="reviews"),
    Instance("reviews", "v1", calls="ratings"),
    Instance("reviews", "v2", calls="ratings"),
    Instance("ratings", "v1"),
    Instance("ratings", "v1", zone="b"),
)

BASE_WEIGHTS = {"web": {"v1": 100.0}, "reviews": {"v1": 100.0}, "ratings": {"v1": 100.0}}


def port_names() -> list[str]:
    """The ports that the whole mesh needs."""
    own = [name for instance in INSTANCES for name in instance.port_names]
    return [f"admin:{INGRESS}", f"outbound:{INGRESS}", *own]


def build(ports: Mapping[str, int], weights: Mapping[str, Mapping[str, float]] = BASE_WEIGHTS) -> Mesh:
    """The shop's mesh on the given ports.

    Args:
        ports: a port for each of `port_names`.
        weights: service name to arm to percent.
    """

    def address(name: str) -> str:
        return f"{LOOPBACK}:{ports[name]}"

    services = []
    for service, shares in weights.items():
        versions = [instance for instance in INSTANCES if instance.service == service]
        arms = {
            version: MeshArm(
                endpoints=tuple(address(f"inbound:{item.name}") for item in versions if item.version == version)
            )
            for version in dict.fromkeys(item.version for item in versions)
        }
        services.append(MeshService(name=service, namespace=NAMESPACE, arms=arms, weights=dict(shares)))

    def sidecar(instance: Instance) -> Proxy:
        name, calls = instance.name, instance.calls
        inbound = Inbound(address=address(f"inbound:{name}"), application=address(f"app:{name}"))
        outbound = [
            Outbound(name=callee, address=address(f"outbound:{name}"), services=(f"{NAMESPACE}/{callee}",))
            for callee in ([calls] if calls else [])
        ]
        return Proxy(name=name, admin=address(f"admin:{name}"), inbound=(inbound,), outbound=tuple(outbound))

    door = Outbound(name="web", address=address(f"outbound:{INGRESS}"), services=(f"{NAMESPACE}/web",))
    ingress = Proxy(name=INGRESS, admin=address(f"admin:{INGRESS}"), outbound=(door,))
    return Mesh(
        metadata=Metadata(name=MESH),
        spec=MeshSpec(
            zones={
                zone: tuple(address(f"inbound:{item.name}") for item in INSTANCES if item.zone == zone)
                for zone in sorted({item.zone for item in INSTANCES})
            },
            services=tuple(services),
            proxies=(ingress, *(sidecar(instance) for instance in INSTANCES)),
        ),
    )


def kept_weights(file: Path) -> dict[str, dict[str, float]]:
    """The weights an earlier stack ended with, where they still fit the shop: a promotion survives `down` and `up`."""
    weights = {name: dict(shares) for name, shares in BASE_WEIGHTS.items()}
    try:
        before = Mesh.model_validate(YAML(typ="safe").load(file.read_text(encoding="utf-8")))
    except (OSError, YAMLError, ValidationError):
        return weights
    for service in before.spec.services:
        known = {instance.version for instance in INSTANCES if instance.service == service.name}
        if service.namespace == NAMESPACE and service.name in weights and set(service.weights) <= known:
            weights[service.name] = dict(service.weights)
    return weights


def write(mesh: Mesh, file: Path) -> None:
    """Writes `mesh.yaml` for people to read, in one step: a reader finds the old file or the new one."""
    document = _commented(mesh.model_dump(by_alias=True, mode="json", exclude_defaults=True))
    head = CommentedMap({"apiVersion": mesh.api_version, "kind": mesh.kind, **document})
    head.yaml_set_start_comment(_HEADER)
    spec = head["spec"]
    spec.yaml_set_comment_before_after_key(
        "services", before="Versions, the addresses of their sidecars, and how traffic is shared (percent).", indent=2
    )
    spec.yaml_set_comment_before_after_key(
        "proxies", before="One Envoy each. Traffic is steered where a proxy calls out (outbound).", indent=2
    )
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    partial = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with partial.open("w", encoding="utf-8") as target:
        yaml.dump(head, target)
    partial.replace(file)


def set_retries(file: Path, service_ref: str, retries: int) -> int:
    """Writes how often the mesh retries a service's failures; returns what held before. For scenarios of the demo.

    Raises:
        OSError, YAMLError, ValidationError: the file describes no mesh.
        KeyError: it has no such service.
    """
    mesh = Mesh.model_validate(YAML(typ="safe").load(file.read_text(encoding="utf-8")))
    service = mesh.spec.service(service_ref)
    if service is None:
        raise KeyError(service_ref)
    if service.retries != retries:
        write(mesh.with_service(service_ref, retries=retries), file)
    return service.retries


def _commented(value: Any) -> Any:
    """The same value in ruamel's types; short lists of plain values on one line."""
    if isinstance(value, dict):
        return CommentedMap({key: _commented(item) for key, item in value.items()})
    if isinstance(value, list):
        items = CommentedSeq([_commented(item) for item in value])
        if all(isinstance(item, str) for item in value):
            items.fa.set_flow_style()
        return items
    return value


def proxy_names() -> list[str]:
    """Every proxy of the mesh."""
    return [INGRESS, *(instance.name for instance in INSTANCES)]
