"""Partitions: NetworkPolicies of our own that let the target's pods have no traffic.

One object a fault, named with the fencing number and labelled with lease and deadline. Taking it away is deleting it,
and changes nothing of anybody else's. A late write of a former holder bears a lower number: the next sweep deletes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autopilot.mesh.errors import InvalidChange, UnreadableRecord
from autopilot.mesh.kube.client.api_errors import Forbidden
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.json_patch import version
from autopilot.mesh.kube.client.label_selectors import selects
from autopilot.mesh.kube.client.resources import NETWORK_POLICY, POD
from autopilot.mesh.kube.envoyfilter.render import DEADLINE, FAULT, FENCING, MESH, SERVICE, selector
from autopilot.mesh.kube.envoyfilter.standing_filter import MANAGED
from autopilot.mesh.kube.routes.base import Route
from autopilot.mesh.kube.routes.overlay_port import Marked
from autopilot.mesh.kube.routes.weight_patch import Mark
from autopilot.mesh.kube.state.write_order import refuse_later, write_as_read
from autopilot.mesh.model import LAST_WRITE, Holder, InjectFault, Target, Writer
from autopilot.spec.chaos.faults import Partition
from autopilot.spec.chaos.scope import Scope

OPERATION = "meshautopilot.io/operation"
"""Annotation: whose it is, since a label may not hold a workflow id."""
WRITE = "meshautopilot.io/write"
"""Annotation: number of the operation's write that laid it."""
_TYPES = {"ingress": ["Ingress"], "egress": ["Egress"], "both": ["Ingress", "Egress"]}

Labels = Callable[[str, str, str | None], dict[str, str]]
"""What the pods of a namespace's service bear, or those of one version of it."""


class Partitions:
    """NetworkPolicies of one mesh in one cluster. `labels` finds the pods."""

    def __init__(self, api: KubeApi, labels: Labels) -> None:
        self._api = api
        self._labels = labels

    def bodies(self, target: Target, holder: Holder, injected: Sequence[InjectFault], deadline: float) -> list[Object]:
        """The policies that say the partitions among these faults.

        Raises:
            InvalidChange: the scope means some of the requests, or pods that cannot be told.
        """
        found = []
        for number, (fault, scope) in enumerate((one.fault, one.scope) for one in injected):
            if not isinstance(fault, Partition):
                continue
            arm = _arm(scope)
            found.append(
                {
                    "apiVersion": NETWORK_POLICY.api_version,
                    "kind": NETWORK_POLICY.kind,
                    "metadata": {
                        "name": f"autopilot.{target.service}.{holder.fencing}.{number}",
                        "namespace": target.namespace,
                        "labels": {
                            **_labels_of(target),
                            FENCING: str(holder.fencing),
                            DEADLINE: str(int(deadline)),
                        },
                        "annotations": {OPERATION: holder.operation, WRITE: str(Writer.of(holder).write)},
                    },
                    "spec": {
                        "podSelector": {"matchLabels": self._labels(target.namespace, target.service, arm)},
                        "policyTypes": _TYPES[fault.direction],
                    },
                }
            )
        return found

    def check(self, target: Target, injected: Sequence[InjectFault]) -> None:
        """Refuses partitions that would not cut off what they say.

        Raises:
            InvalidChange: a policy of somebody else's allows it: policies add up, and none takes away from another.
        """
        for body in self.bodies(target, Holder(operation="planned", fencing=0), injected, 0.0):
            labels = body["spec"]["podSelector"]["matchLabels"]
            chosen = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
            pods = [one["metadata"].get("labels") or {} for one in self._api.list(POD, target.namespace, labels=chosen)]
            for policy in self._api.list(NETWORK_POLICY, target.namespace):
                if selects({"matchLabels": _OURS}, policy["metadata"].get("labels") or {}):
                    continue
                allowed = [kind for kind in body["spec"]["policyTypes"] if (policy.get("spec") or {}).get(kind.lower())]
                selector = (policy.get("spec") or {}).get("podSelector")
                if allowed and any(selects(selector, one) for one in pods or [labels]):
                    raise InvalidChange(
                        f"NetworkPolicy {target.namespace}/{policy['metadata']['name']} allows {allowed[0].lower()} "
                        f"for pods of {target.ref}, which a partition cannot take away; nearest: an abort "
                        "with status 503"
                    )

    def lay(
        self, target: Target, holder: Holder, injected: Sequence[InjectFault], deadline: float
    ) -> tuple[list[Route], list[str]]:
        """Writes the policies, and deletes what was laid before; says what was done, one sentence each.

        Raises:
            LeaseLost: a later holder has laid something, or a later write of this one (`StaleWrite`).
            Conflict: somebody wrote one of them meanwhile.
        """
        wanted = {body["metadata"]["name"]: body for body in self.bodies(target, holder, injected, deadline)}
        there = {str(body["metadata"]["name"]): body for body in self.of(target)}
        for name, body in there.items():
            if (unread := unread_of(body)) is not None:
                raise unread
            refuse_later(_mark(target, body), holder, f"NetworkPolicy {target.namespace}/{name}")
        written, done = [], []
        for name, body in wanted.items():
            known = there.pop(name, None)
            if known is not None and _says(known, body):
                written.append(Route(NETWORK_POLICY, known, ()))
                continue
            written.append(Route(NETWORK_POLICY, write_as_read(self._api, NETWORK_POLICY, body, known), ()))
            if known is None or known.get("spec") != body["spec"]:
                done.append(f"{written[-1].name} was missing or had been changed, and was written again")
        for name, body in there.items():
            self._api.delete(NETWORK_POLICY, name, target.namespace, version=version(body))
        return written, done

    def of(self, target: Target) -> list[Object]:
        """Every policy of ours for the target."""
        return self._api.list(NETWORK_POLICY, target.namespace, labels=selector(_labels_of(target)))

    def take_away(self, target: Target, fencing: int, *, write: int = LAST_WRITE) -> list[str]:
        """Deletes what this holder, or one before it, has laid; there is nothing that it could not."""
        for body in self.of(target):
            if unread_of(body) is None and _mark(target, body).order <= (fencing, write):
                self._api.delete(NETWORK_POLICY, str(body["metadata"]["name"]), target.namespace)
        return []

    def planned(
        self, target: Target, injected: Sequence[InjectFault], deadline: float
    ) -> list[tuple[Route | None, Object]]:
        """The policies that would be written, as the API server says they would be."""
        holder = Holder(operation="planned", fencing=0)
        bodies = self.bodies(target, holder, injected, deadline)
        return [(None, self._api.create(NETWORK_POLICY, body, dry_run=True)) for body in bodies]

    def refuse_unread(self, target: Target) -> None:
        """Refuses a target with policies of ours that cannot be read.

        Raises:
            UnreadableRecord: with its name.
        """
        for body in self.of(target):
            if (error := unread_of(body)) is not None:
                raise error

    def unread(self, mesh: str) -> list[UnreadableRecord]:
        """Policies of this mesh that cannot be read."""
        return [error for body in self._all_of(mesh) if (error := unread_of(body)) is not None]

    def _all_of(self, mesh: str) -> list[Object]:
        """Every policy of this mesh in the cluster."""
        try:
            return self._api.list(NETWORK_POLICY, labels=selector({**_OURS, MESH: mesh}))
        except Forbidden:  # who has not this right has laid nothing: it is asked for before. A lease's end says so
            return []

    def marked(self, mesh: str) -> list[Marked]:
        """Every policy of this mesh in the cluster, and whose it is."""
        found = []
        for body in self._all_of(mesh):
            if unread_of(body) is not None:
                continue  # whose it is, and so whether its lease is alive, cannot be told
            meta = body["metadata"]
            target = Target(mesh=mesh, namespace=meta["namespace"], service=meta["labels"].get(SERVICE, ""))
            found.append(Marked(target, Route(NETWORK_POLICY, body, ()), _mark(target, body)))
        return found


_OURS = {**MANAGED, FAULT: "partition"}


def _labels_of(target: Target) -> dict[str, str]:
    return {**_OURS, MESH: target.mesh, SERVICE: target.service}


def _arm(scope: Scope | None) -> str | None:
    if scope is None:
        return None
    narrower = [
        name
        for name, there in (
            ("percentage", scope.percentage not in (None, 100)),
            ("headers", scope.headers),
            ("cookie", scope.cookie),
            ("path", scope.path),
            ("method", scope.method),
            ("rule", scope.rule),
            ("users", scope.users),
            ("source", scope.source),
        )
        if there
    ]
    if narrower:
        raise InvalidChange(
            f"scope.{narrower[0]}: a partition cuts off whole pods from all callers; nearest: leave the scope out, or "
            "an abort with status 503"
        )
    return scope.arm


def _fencing(body: Object) -> int:
    told = str(body["metadata"]["labels"].get(FENCING, ""))
    return int(told) if told.isdigit() else 0


def unread_of(body: Object) -> UnreadableRecord | None:
    """What is wrong with what a policy of ours says of itself; None where it can be read."""
    meta = body["metadata"]
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    for name, said in ((FENCING, labels.get(FENCING, "")), (WRITE, notes.get(WRITE, "0"))):
        if not str(said).isdecimal():
            return UnreadableRecord(f"NetworkPolicy {meta['namespace']}/{meta['name']}", f"{name} is not a number")
    return None


def _mark(target: Target, body: Object) -> Mark:
    """Who laid it, and in which write."""
    told = str((body["metadata"].get("annotations") or {}).get(WRITE, ""))
    write = int(told) if told.isdigit() else 0
    return Mark(service=target.service, operation=_operation(body), fencing=_fencing(body), write=write)


def _operation(body: Object) -> str:
    return str((body["metadata"].get("annotations") or {}).get(OPERATION, "somebody"))


def _says(body: Object, wanted: Object) -> bool:
    same_labels = body["metadata"].get("labels") == wanted["metadata"]["labels"]
    there, new = ((one["metadata"].get("annotations") or {}).get(WRITE, "0") for one in (body, wanted))
    return bool(body.get("spec") == wanted["spec"] and same_labels and there == new)
