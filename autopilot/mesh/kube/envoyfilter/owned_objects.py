"""Our EnvoyFilters of one kind in a cluster: their owners, which one is ours, and how they are deleted."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import ENVOY_FILTER
from autopilot.mesh.kube.envoyfilter.render import (
    FAULT,
    MESH,
    NAMESPACE,
    SERVICE,
    Kind,
    Laid,
    labels_of,
    laid_by,
    selector,
    unread_of,
)
from autopilot.mesh.kube.envoyfilter.standing_filter import MANAGED
from autopilot.mesh.kube.routes.base import Route
from autopilot.mesh.kube.routes.overlay_port import Marked
from autopilot.mesh.kube.routes.weight_patch import Mark
from autopilot.mesh.kube.state.write_order import refuse_later, write_as_read
from autopilot.mesh.model import Holder, Target, Writer

PLANNED = Holder(operation="planned", fencing=0)
"""Of what is only shown."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An EnvoyFilter of ours."""

    body: Object
    laid: Laid

    @property
    def unread(self) -> UnreadableRecord | None:
        """What is wrong with what it says of itself; then its labels alone tell whose it is."""
        return unread_of(self.body)

    @property
    def name(self) -> str:
        """Its own, without the namespace."""
        return str(self.body["metadata"]["name"])


class KeptFilters:
    """The EnvoyFilters of one kind.

    Args:
        api: the cluster.
        namespace: where they are put.
        kind: what they say.
    """

    def __init__(self, api: KubeApi, namespace: str, kind: Kind) -> None:
        self._api = api
        self._namespace = namespace
        self._only = f"!{FAULT}" if kind == "split" else FAULT

    def of(self, target: Target) -> list[Kept]:
        """Every one of a target, from any operation."""
        return self._listed(labels_of(target))

    def before(self, target: Target, holder: Holder) -> tuple[Kept | None, list[Kept]]:
        """What this holder has laid, and what earlier ones left.

        Raises:
            LeaseLost: a later holder has laid something, or a later write of this one (`StaleWrite`).
        """
        found = self.of(target)
        for one in found:
            refuse_later(one.laid, holder, f"EnvoyFilter {self._namespace}/{one.name}")
        return own(found, holder.fencing), [one for one in found if one.laid.fencing < holder.fencing]

    def marked(self, mesh: str) -> list[Marked]:
        """Every one of a mesh."""
        found = []
        for one in self._listed({**MANAGED, MESH: mesh}):
            labels = one.body["metadata"]["labels"]
            if NAMESPACE in labels and SERVICE in labels:
                target = Target(mesh=mesh, namespace=labels[NAMESPACE], service=labels[SERVICE])
                fencing, write = one.laid.order
                mark = Mark(service=target.service, operation=one.laid.operation, fencing=fencing, write=write)
                found.append(Marked(target, Route(ENVOY_FILTER, one.body, ()), mark))
        return found

    def unread(self, mesh: str) -> list[UnreadableRecord]:
        """Those of a mesh that cannot be read."""
        bodies = self._api.list(
            ENVOY_FILTER, self._namespace, labels=f"{selector({**MANAGED, MESH: mesh})},{self._only}"
        )
        return [error for body in bodies if (error := unread_of(body)) is not None]

    def refuse_unread(self, target: Target) -> None:
        """Refuses a target with one that does not even say by its labels whose it is.

        Raises:
            UnreadableRecord: with its name.
        """
        labels = f"{selector(labels_of(target))},{self._only}"
        for body in self._api.list(ENVOY_FILTER, self._namespace, labels=labels):
            if laid_by(body) is None and (error := unread_of(body)) is not None:
                raise error

    def write(self, body: Object, before: Kept | None) -> Object:
        """Creates it, or changes it as it was read; see `write_as_read`."""
        return write_as_read(self._api, ENVOY_FILTER, body, before.body if before is not None else None)

    def remove(self, filters: Iterable[Kept]) -> None:
        """Deletes them; one that is gone already is not an error."""
        for one in filters:
            self._api.delete(ENVOY_FILTER, one.name, self._namespace)

    def _listed(self, labels: Mapping[str, str]) -> list[Kept]:
        bodies = self._api.list(ENVOY_FILTER, self._namespace, labels=f"{selector(labels)},{self._only}")
        return [Kept(body, laid) for body in bodies if (laid := laid_by(body)) is not None]


def own(filters: Iterable[Kept], fencing: int) -> Kept | None:
    """The one that the holder with this fencing number has laid."""
    return next((one for one in filters if one.laid.fencing == fencing), None)


def renewed(holder: Holder, deadline: float, before: Kept | None, weights: Mapping[str, float] | None = None) -> Laid:
    """What a holder lays now, knowing what it laid before: the key stays, for requests under way bear it."""
    return Laid(
        **Writer.of(holder).model_dump(),
        deadline=deadline,
        token=(before.laid.token if before else "") or secrets.token_hex(16),
        weights=dict(weights or {}),
        marks=before.laid.marks if before else {},
    )


def why(written: Object, before: Kept | None, deadline: float) -> str:
    """Why an EnvoyFilter had to be written, in a sentence."""
    name = f"EnvoyFilter {written['metadata']['namespace']}/{written['metadata']['name']}"
    if before is None:
        return f"{name} was missing and was created again"
    if before.laid.deadline != deadline:
        return "half of its time had passed: the proxies' deadline was extended"
    return f"{name} had been changed and was written again"
