"""Opens the mesh that a file describes, with the provider it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from autopilot.mesh.audit import AuditRecord
from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.errors import MeshError
from autopilot.mesh.port import Mesh


def open_meshes(files: Iterable[Path], told: Callable[[AuditRecord], None] = lambda _: None) -> dict[str, Mesh]:
    """Opens every mesh, by name; `told` hears of every audit record that is written through them.

    Raises:
        MeshError: a file describes no mesh, or two describe meshes of the same name.
    """
    opened: dict[str, Mesh] = {}
    for path in files:
        mesh: Mesh = EnvoyMesh(path, told=told)
        if mesh.name in opened:
            raise MeshError(f"{path} describes a mesh {mesh.name!r}, and so does another file; rename one")
        opened[mesh.name] = mesh
    return opened
