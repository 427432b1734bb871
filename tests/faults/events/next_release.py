"""Records as the next release may write them, beside those of a standalone mesh: this release must leave them alone."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autopilot.mesh.envoy.state.store import Store
from autopilot.mesh.model import Target

CHANGE = {"kind": "ShapeTraffic", "profile": "of the next release"}
"""A change that this release does not know."""


@dataclass(frozen=True)
class Written:
    """The files that were written, and their bytes."""

    files: dict[Path, bytes]

    def changed(self) -> list[str]:
        """The files that are gone or have other bytes now."""
        return [str(path) for path, content in self.files.items() if not path.is_file() or path.read_bytes() != content]

    def remove(self) -> None:
        """Takes them away again."""
        for path in self.files:
            path.unlink(missing_ok=True)


def lease(target: Target, *, fencing: int = 1, ttl: float = 3600, **more: Any) -> dict[str, Any]:
    """A lease of the next release, with a field that this one does not know."""
    held = {
        "target": {**target.model_dump(), "zone": "a"},
        "aspects": ["traffic"],
        "holder": {"operation": "canary/of/the/next-release", "fencing": fencing},
        "ttl": ttl,
        "max_unattended": ttl,
        "quorum": 3,
    }
    return held | more


def overlay(target: Target, *, deadline: float, fencing: int = 1, **more: Any) -> dict[str, Any]:
    """An overlay record whose change this release does not know."""
    return {"lease": lease(target, fencing=fencing), "changes": [CHANGE], "deadline": deadline, **more}


def record(target: Target, *, fencing: int = 1, **more: Any) -> dict[str, Any]:
    """A lease record that this release can read."""
    now = time.time()
    held = lease(target, fencing=fencing, **more)
    return {"lease": held, "token": "run", "acquired": now, "renewed": now, "beats": 1, "witnesses": ["x"]}


def write(mesh_file: Path, service: str = "of-the-next-release", namespace: str = "shop") -> Written:
    """Writes one record of every kind that the next release may leave, all of one service.

    Args:
        mesh_file: of the standalone mesh.
        service: whose; by default one that no proxy serves, so that nothing else is concerned.
        namespace: of the service.
    """
    store = Store(mesh_file)
    target = Target(mesh=store.mesh.metadata.name, namespace=namespace, service=service)
    own = store.directory / "autopilot"
    name = f"{namespace}.{service}"
    hidden = record(target, aspects=["capacity"])
    contents: dict[str, object] = {
        f"leases/{name}.1.json": hidden,
        f"overlays/{name}.1.json": overlay(target, deadline=time.time() + 3600),
        f"spares/{name}.1.json": {"lease": lease(target), "changes": [CHANGE]},
        f"fencing/{name}.condemned": {"operations": ["canary/of/the/next-release"]},
        f"orders/tombstone.{name}.json": {"targets": [target.model_dump()]},
        f"orders/ticket.{name}.1.json": {"numbers": [1]},
    }
    files = {}
    for place, content in contents.items():
        path = own / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
        files[path] = path.read_bytes()
    return Written(files)
