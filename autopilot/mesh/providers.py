"""Opens the mesh that a file describes, with the provider it names, which alone is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from autopilot.mesh.audit import AuditRecord
from autopilot.mesh.errors import MeshError
from autopilot.mesh.port import Mesh
from autopilot.spec.cluster import ClusterMesh, in_a_cluster
from autopilot.spec.errors import SpecError
from autopilot.spec.load import load_one
from autopilot.spec.yaml_source import read_documents

if TYPE_CHECKING:
    from autopilot.mesh.envoy.mesh import EnvoyMesh
    from autopilot.mesh.kube.mesh import KubeMesh

Told = Callable[[AuditRecord], None]


def open_mesh(path: Path, told: Told = lambda _: None) -> EnvoyMesh | KubeMesh:
    """Opens a mesh; `told` receives every audit record that is written through it.

    Raises:
        MeshError: the file is not a valid mesh file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        text = ""
    if not any(in_a_cluster(source.data) for source in read_documents(text, str(path))[0]):
        from autopilot.mesh.envoy.mesh import EnvoyMesh  # noqa: PLC0415

        return EnvoyMesh(path, told=told)  # says itself what is wrong with the file
    try:
        spec, _ = load_one(ClusterMesh, text, str(path))
    except SpecError as error:
        raise MeshError(str(error)) from error
    from autopilot.mesh.kube.mesh import KubeMesh  # noqa: PLC0415

    return KubeMesh(spec, path.resolve().parent, told=told)


def open_meshes(files: Iterable[Path], told: Told = lambda _: None) -> dict[str, Mesh]:
    """Opens every mesh, by name; `told` receives every audit record that is written through them.

    Raises:
        MeshError: a file is not a valid mesh file, or two describe meshes of the same name.
    """
    opened: dict[str, Mesh] = {}
    for path in files:
        mesh: Mesh = open_mesh(path, told)
        if mesh.name in opened:
            raise MeshError(
                f"{path} describes mesh {mesh.name!r}, and another file does too; give each mesh its own name"
            )
        opened[mesh.name] = mesh
    return opened
