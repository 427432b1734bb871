"""Routes as the documentation of meshes and of other rollout tools publishes them, and what a rollout makes of each.

The examples are written anew: the structure is the published one, names and words are ours. The outcome of each was
derived from the rule in docs/kubernetes.md and written beside it by hand; nothing here asks the driver.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from autopilot.mesh.kube.client.client import Object
from tests.mesh.kube.memory import deployment, service, subsets

FOLDER = Path(__file__).parent / "published_routes"
PROJECTS = ("Istio", "Gateway API", "Flagger", "Argo Rollouts")

Key = tuple[str, str, str]
"""Kind, namespace and name."""
Shares = Mapping[str, float]
"""Destination → its weight at 10 %, in the order of the rule; one that the rule lacks is added at its end."""


@dataclass(frozen=True, eq=False)
class Example:
    """One published layout."""

    file: str
    name: str
    source: str
    """Where its kind is documented."""
    provider: str
    target: str
    arms: tuple[str, str]
    """Stable and canary."""
    objects: tuple[Object, ...]
    driven: Mapping[Key, Mapping[str, Shares]] = field(default_factory=dict)
    """Object → rule (`http.0`, `rules.0`, `backends`) → shares, of the rules that the rollout concerns."""
    refused: str = ""
    """Words that the reason must hold; empty where it is driven."""
    only: tuple[str, ...] = ()
    """Rules that the spec names; empty: all."""

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.file}: {self.name}"

    @property
    def project(self) -> str:
        """Whose documentation has it."""
        return next((one for one in PROJECTS if self.source.startswith(one)), "others")

    def role(self, label: str) -> str:
        """`stable` or `canary`; empty where a destination is neither."""
        stable, canary = self.arms
        name = label
        if self.provider == "istio":
            host, _, subset = label.partition("/")
            service, _, rest = host.partition(".")
            ours = rest in {"", "shop.svc.cluster.local"} and (not subset or service == self.target)
            name = (subset or service) if ours else ""
        # The whole Service of the target, where it stands in a rule that is driven, has stable's pods alone.
        return "canary" if name == canary else "stable" if name in {stable, self.target} else ""


def examples() -> list[Example]:
    """All of them."""
    found = []
    for file in sorted(FOLDER.glob("*.yaml")):
        document = YAML(typ="safe", pure=True).load(file)
        found += [_example(file.stem, document["provider"], one) for one in document["examples"]]
    return found


def destinations(spec: Object, rule: str) -> list[Object]:
    """The list of destinations of a rule of an object's spec."""
    kind, _, index = rule.partition(".")
    found: list[Object] = spec[kind] if not index else spec[kind][int(index)][_lists(kind)]
    return found


def label_of(one: Object) -> str:
    """How a destination is written in the expectations: `host/subset`, or `namespace/name` where there is one."""
    if "destination" in one:
        to = one["destination"]
        return f"{to['host']}/{to['subset']}" if "subset" in to else str(to["host"])
    name = one.get("service") or one["name"]
    return f"{one['namespace']}/{name}" if "namespace" in one else str(name)


def added(like: Object, label: str) -> Object:
    """A destination that carries what `like` carries, and leads to the label."""
    made: dict[str, Any] = copy.deepcopy(like)
    if "destination" in made:
        host, _, subset = label.partition("/")
        made["destination"]["host"] = host
        made["destination"].pop("subset", None)
        if subset:
            made["destination"]["subset"] = subset
    else:
        made["service" if "service" in made else "name"] = label
    return made


def _lists(kind: str) -> str:
    return "backendRefs" if kind == "rules" else "route"


def _example(file: str, provider: str, one: Mapping[str, Any]) -> Example:
    stable, canary = one["arms"]
    known = {"name", "source", "target", "arms", "behind", "objects", "driven", "refused", "only"}
    assert set(one) <= known, f"{one['name']}: {set(one) - known}"
    assert ("driven" in one) != ("refused" in one), f"{one['name']}: write what is driven, or why it is refused"
    return Example(
        file=file,
        name=one["name"],
        source=one["source"],
        provider=provider,
        target=one["target"],
        arms=(stable, canary),
        objects=(*_behind(one["behind"]), *map(_whole, one["objects"])),
        driven={_key(name): rules for name, rules in one.get("driven", {}).items()},
        refused=one.get("refused", ""),
        only=tuple(one.get("only", ())),
    )


def _behind(said: Mapping[str, Any]) -> list[Object]:
    """Services, Deployments and subsets in short."""
    found: list[Object] = []
    for app, versions in said.get("versions", {}).items():
        found += [service(app), *(deployment(app, version) for version in versions)]
    found += [service(name, **selector) for name, selector in said.get("services", {}).items()]
    for name, labels in said.get("deployments", {}).items():
        spec = {"template": {"metadata": {"labels": labels}}}
        found.append({"kind": "Deployment", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    found += [subsets(host, *versions) for host, versions in said.get("subsets", {}).items()]
    return found


def _whole(body: Object) -> Object:
    return {**body, "metadata": {"namespace": "shop", **body["metadata"]}}


def _key(name: str) -> Key:
    kind, _, place = name.partition(" ")
    namespace, _, called = place.rpartition("/")
    return kind, namespace or "shop", called
