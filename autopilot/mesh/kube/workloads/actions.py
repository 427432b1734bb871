"""Actions on workloads and nodes. The restore guarantee does not cover them: they cannot be undone in full.

Each has a key of this action in this run, so that a retry does nothing twice. The pods are recorded before the first
one is ended; an annotation on a workload or node says who changed it, and its earlier state.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from autopilot.mesh.errors import InvalidChange, MeshError, MeshUnavailable
from autopilot.mesh.kube.client.api_errors import Conflict
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.json_patch import annotated, unannotated, unchanged
from autopilot.mesh.kube.client.resources import DEPLOYMENT, NODE, POD, STATEFUL_SET, Resource
from autopilot.mesh.kube.routes.base import is_ready, selector_of
from autopilot.mesh.kube.routes.istio import IstioRoutes
from autopilot.mesh.kube.state.store import KubeStore
from autopilot.mesh.kube.workloads.action_log import ActionLog
from autopilot.mesh.kube.workloads.irreplaceable_pods import evictable, refuse_losses
from autopilot.mesh.model import Target
from autopilot.operations.experiment_status import Acted
from autopilot.spec.chaos.experiment import Action, Cordon, Drain, PodKill, Scale

SCALED = "meshautopilot.io/scaled"
CORDONED = "meshautopilot.io/cordoned"
_KINDS: dict[str, Resource] = {"deployment": DEPLOYMENT, "statefulset": STATEFUL_SET}
_PATIENCE = 3
"""So many pods that cannot leave for now, and the others wait for the next try: each was asked for a few seconds."""


class Workloads:
    """Takes actions in one cluster, and puts back what can be put back.

    Synchronous, like every step in a cluster: call it from a thread.

    Args:
        api: the cluster.
        namespace: Autopilot's own, where it is written down which pods were meant.
    """

    def __init__(self, api: KubeApi, namespace: str = "autopilot") -> None:
        self._api = api
        self._kept = ActionLog(api, namespace)
        self._store = KubeStore(api, "", namespace)

    def act(self, target: Target, action: Action, key: str) -> Acted:
        """Takes the action; taken again with the same key, it does what is left of it.

        Raises:
            InvalidChange: what it names is not there, or not as it must be; nothing was done.
            MeshUnavailable: a disruption budget does not allow it now, or the API server does not answer: try again.
            Forbidden: we may not; the message names the verb and the resource.
        """
        match action:
            case PodKill():
                done = self._kill(target, action, key)
            case Scale():
                done = self._again(lambda: self._scale(target, action, key), action.workload)
            case Cordon():
                done = self._again(lambda: self._cordon(action.node, key), f"node {action.node}")
            case Drain():
                done = self._drain(action, key)
        return Acted(action=action.type, done=done)

    def check(self, target: Target, action: Action) -> None:
        """Looks whether the action could be taken now; writes nothing.

        Raises:
            InvalidChange: it names what is not there, or it would lose what its specification does not give up.
            Forbidden: we may not look; the message names the verb and the resource.
        """
        match action:
            case PodKill():
                self._killable(target, action)
            case Scale():
                self._workload(target, action.workload)
            case Cordon():
                self._node(action.node)
            case Drain():
                self._node(action.node)
                self._leaving(action)

    def undo(self, target: Target, action: Action, key: str) -> Acted:
        """Puts back what this very action changed, where it is still as the action left it; safe to repeat.

        Returns:
            `undone` says what was put back, or why nothing was; empty where nothing could be.

        Raises:
            MeshUnavailable: the API server does not answer: try again.
        """
        match action:
            case PodKill():
                undone = ""
            case Scale():
                undone = self._again(lambda: self._scale_back(target, action, key), action.workload)
            case Cordon() | Drain():
                undone = self._again(lambda: self._uncordon(action.node, key), f"node {action.node}")
        return Acted(action=action.type, done="", undone=undone)

    # Pods

    def _kill(self, target: Target, action: PodKill, key: str) -> str:
        def choose() -> list[Object]:
            return random.sample(self._killable(target, action), action.count)

        meant = self._kept.pods(key, choose)
        for pod in meant:
            try:
                self._api.delete(
                    POD,
                    pod.name,
                    pod.namespace,
                    uid=pod.uid,
                    grace=None if action.grace is None else round(action.grace),
                )
            except Conflict:
                continue  # another pod has this name: the recorded one has ended
        return f"killed {_listed([pod.name for pod in meant])}"

    def _killable(self, target: Target, action: PodKill) -> list[Object]:
        """The ready pods that the action may choose from.

        Raises:
            InvalidChange: there are too few, or one of them would be lost for good.
        """
        ready = [body for body in self._pods_of(target, action.arm) if is_ready(body)]
        whose = f"{target.ref} {action.arm}" if action.arm else target.ref
        if len(ready) < action.count:
            raise InvalidChange(
                f"{whose} has {len(ready)} ready pods, and the action would kill {action.count}; write a smaller "
                "count, or start more pods"
            )
        refuse_losses(action, ready, whose)
        return ready

    def _drain(self, action: Drain, key: str) -> str:
        node = action.node
        if not self._kept.has(key):
            self._node(node)
            self._leaving(action)  # refused before the cordon
        cordoned = self._again(lambda: self._cordon(node, key), f"node {node}")
        try:
            meant = self._kept.pods(key, lambda: self._leaving(action))
        except InvalidChange:  # such a pod came between the check and the cordon
            self._again(lambda: self._uncordon(node, key), f"node {node}")
            raise
        blocked: list[MeshError] = []
        for pod in meant:
            try:
                self._api.evict(pod.name, pod.namespace, pod.uid)
            except Conflict:
                continue  # another pod has this name: the recorded one has ended
            except MeshUnavailable as error:
                blocked.append(MeshUnavailable(f"{pod.namespace}/{pod.name} was not evicted from {node} yet: {error}"))
                if len(blocked) >= _PATIENCE:
                    break
        if blocked:
            raise blocked[0]
        return f"{cordoned}; evicted {_listed([f'{pod.namespace}/{pod.name}' for pod in meant])}"

    def _leaving(self, action: Drain) -> list[Object]:
        """The pods that leave the node.

        Raises:
            InvalidChange: some would be lost for good, and the action does not say that this is meant.
        """
        found = evictable(self._api.list(POD, fields=f"spec.nodeName={action.node}"))
        refuse_losses(action, found, f"node {action.node}")
        return found

    def _pods_of(self, target: Target, arm: str | None) -> list[Object]:
        if arm is None:
            labels = selector_of(self._api, target)
        else:
            try:
                labels = IstioRoutes(self._api).labels(target.namespace, target.service, arm)
            except InvalidChange:
                labels = selector_of(self._api, target.model_copy(update={"service": arm}))
        selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
        return self._api.list(POD, target.namespace, labels=selector)

    # Workloads

    def _scale(self, target: Target, action: Scale, key: str) -> str:
        resource, body = self._workload(target, action.workload)
        before = body["spec"].get("replicas", 1)
        known = _noted(body, SCALED)
        if known.get("key") == key:
            return f"set {action.workload} from {known['before']} replicas to {known['set']}"
        if known:
            raise InvalidChange(
                f"{action.workload} is scaled by another action ({known.get('key')}); wait until that has ended, or "
                f"remove the annotation {SCALED} if that action no longer runs"
            )
        note = json.dumps({"key": key, "before": before, "set": action.replicas})
        operations = [
            *unchanged(body),
            {"op": "add", "path": "/spec/replicas", "value": action.replicas},
            *annotated(body, SCALED, note),
        ]
        self._api.patch(resource, body["metadata"]["name"], target.namespace, operations)
        return f"set {action.workload} from {before} replicas to {action.replicas}"

    def _scale_back(self, target: Target, action: Scale, key: str) -> str:
        resource, body = self._workload(target, action.workload)
        known = _noted(body, SCALED)
        if known.get("key") != key:
            return ""
        now = body["spec"].get("replicas", 1)
        operations = [*unchanged(body), *unannotated(body, SCALED)]
        said = f"left {action.workload} at {now} replicas, since somebody else has set that meanwhile"
        if now == known["set"]:
            operations.append({"op": "replace", "path": "/spec/replicas", "value": known["before"]})
            said = f"set {action.workload} back to {known['before']} replicas"
        self._api.patch(resource, body["metadata"]["name"], target.namespace, operations)
        return said

    def _workload(self, target: Target, named: str) -> tuple[Resource, Object]:
        kind, name = named.split("/", 1)
        resource = _KINDS[kind]
        body = self._api.get(resource, name, target.namespace)
        if body is None:
            there = ", ".join(sorted(one["metadata"]["name"] for one in self._api.list(resource, target.namespace)))
            raise InvalidChange(f"namespace {target.namespace} has no {named}; it has {there or 'none of that kind'}")
        return resource, body

    # Nodes

    def _cordon(self, node: str, key: str) -> str:
        body = self._node(node)
        if _noted(body, CORDONED).get("key") == key:
            return f"cordoned {node}"
        if (body.get("spec") or {}).get("unschedulable"):
            return f"{node} was cordoned already and will stay cordoned"
        operations = [
            *unchanged(body),
            {"op": "add", "path": "/spec/unschedulable", "value": True},
            *annotated(body, CORDONED, json.dumps({"key": key})),
        ]
        self._api.patch(NODE, node, None, operations)
        return f"cordoned {node}"

    def _uncordon(self, node: str, key: str) -> str:
        body = self._node(node)
        if _noted(body, CORDONED).get("key") != key:
            return ""
        operations = [*unchanged(body), *unannotated(body, CORDONED)]
        said = f"left node {node} as it is, since somebody else has uncordoned it meanwhile"
        if (body.get("spec") or {}).get("unschedulable"):
            operations.append({"op": "remove", "path": "/spec/unschedulable"})
            said = f"uncordoned {node}"
        self._api.patch(NODE, node, None, operations)
        return said

    def _node(self, name: str) -> Object:
        body = self._api.get(NODE, name)
        if body is None:
            there = ", ".join(sorted(one["metadata"]["name"] for one in self._api.list(NODE))[:20])
            raise InvalidChange(f"the cluster has no node {name}; it has {there}")
        return body

    def _again(self, once: Any, what: str) -> str:
        """On what it is then, where somebody wrote meanwhile."""
        return str(self._store.persistently(once, what))


def _noted(body: Object, annotation: str) -> dict[str, Any]:
    """What an action wrote on an object; empty where there is nothing that can be read."""
    try:
        found = json.loads((body["metadata"].get("annotations") or {}).get(annotation) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return (shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")) if names else "no pod"
