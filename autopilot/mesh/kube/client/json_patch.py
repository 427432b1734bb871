"""JSON patches: one annotation written or removed, and that nobody wrote the object meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from autopilot.mesh.kube.client.client import Object, Operation


def annotated(body: Object, name: str, text: str) -> list[Operation]:
    """Writes one annotation."""
    if body["metadata"].get("annotations") is None:
        return [{"op": "add", "path": "/metadata/annotations", "value": {name: text}}]
    return [{"op": "add", "path": _place(name), "value": text}]


def unannotated(body: Object, name: str) -> list[Operation]:
    """Removes one annotation, and all with it where it was the only one."""
    annotations = body["metadata"].get("annotations") or {}
    if name not in annotations:
        return []
    return [{"op": "remove", "path": "/metadata/annotations" if len(annotations) == 1 else _place(name)}]


def changes(operations: Sequence[Operation]) -> bool:
    """Whether a patch does anything but test."""
    return any(operation["op"] != "test" for operation in operations)


def version(body: Object) -> str:
    """Its resourceVersion."""
    return str(body["metadata"]["resourceVersion"])


def unchanged(body: Object) -> list[Operation]:
    """The test that makes a patch hold for the version that was read, and for no other."""
    return [{"op": "test", "path": "/metadata/resourceVersion", "value": version(body)}]


def _place(name: str) -> str:
    return f"/metadata/annotations/{name.replace('~', '~0').replace('/', '~1')}"
