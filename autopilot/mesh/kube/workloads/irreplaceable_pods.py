"""Which pods an action would lose for good: those that no controller starts again, and those that hold data on a node.

The restore guarantee does not cover actions, so a refusal before the first write is the only protection there is. The
rules are those of `kubectl drain`, and so are the names of the fields that override them.
"""

from __future__ import annotations

from collections.abc import Sequence

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.kube.client.client import Object
from autopilot.spec.chaos.experiment import Drain, PodKill
from autopilot.spec.values.units import listed

_MIRROR = "kubernetes.io/config.mirror"
_ENDED = ("Succeeded", "Failed")
_SHOWN = 10
"""Pods that a message names at the most."""


def evictable(bodies: Sequence[Object]) -> list[Object]:
    """Pods that can leave a node: not what a DaemonSet or the node itself puts there, and not what has ended."""
    found = []
    for body in bodies:
        meta = body["metadata"]
        owners = {owner["kind"] for owner in meta.get("ownerReferences") or []}
        stays = owners & {"DaemonSet", "Node"} or _MIRROR in (meta.get("annotations") or {})
        ended = body.get("status", {}).get("phase") in _ENDED or "deletionTimestamp" in meta
        if not (stays or ended):
            found.append(body)
    return found


def refuse_losses(action: PodKill | Drain, bodies: Sequence[Object], whose: str) -> None:
    """Refuses an action that would lose what its specification does not give up.

    Args:
        action: the action.
        bodies: the pods that it may end.
        whose: what it acts on, for the message.

    Raises:
        InvalidChange: names the pods, why each would be lost, and what to write if that is meant.
    """
    reasons, remedies = [], []
    if not action.force and (bare := [_name(body) for body in bodies if not _is_controlled(body)]):
        reasons.append(f"no controller would start {listed(bare, _SHOWN)} again")
        remedies.append("force: true to lose pods without a controller")
    if isinstance(action, Drain) and not action.delete_empty_dir_data:
        holding = [f"{_name(body)} (emptyDir {listed(kept)})" for body in bodies if (kept := _empty_dirs(body))]
        if holding:
            reasons.append(f"data in emptyDir volumes would be deleted with {listed(holding, _SHOWN)}")
            remedies.append("deleteEmptyDirData: true to lose such data")
    if reasons:
        raise InvalidChange(
            f"{action.type} of {whose} would lose what cannot be restored: {'; '.join(reasons)}. Nothing was changed. "
            f"Move these pods first, or write in the action {' and '.join(remedies)}"
        )


def _name(body: Object) -> str:
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"


def _is_controlled(body: Object) -> bool:
    """Whether one of its owners is its controller; another owner only deletes it when it goes itself."""
    return any(owner.get("controller") for owner in body["metadata"].get("ownerReferences") or [])


def _empty_dirs(body: Object) -> list[str]:
    return [one["name"] for one in (body.get("spec") or {}).get("volumes") or [] if "emptyDir" in one]
