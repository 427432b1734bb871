"""Which mesh a command means, and whether it can do what a spec asks for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

from autopilot.kinds import of_document
from autopilot.mesh.errors import InvalidChange, MeshError, MeshUnavailable
from autopilot.mesh.model import Receipt, Target
from autopilot.mesh.port import Mesh
from autopilot.spec.load import Operation
from starter.client.environment import local_stack


def mesh_file(path: Path | None = None, state: Path | None = None) -> Path:
    """The mesh file that is meant: the one given, else `$AUTOPILOT_MESH`, else the running embedded stack's.

    Raises:
        MeshError: none is.
    """
    if path is not None:
        return path
    if from_environment := os.environ.get("AUTOPILOT_MESH"):
        return Path(from_environment)
    running = local_stack(state)
    if running is not None:
        return running.mesh_file
    raise MeshError(
        "no mesh is configured: give its file with --mesh or AUTOPILOT_MESH, "
        "or start the embedded one with `autopilot up`"
    )


@contextlib.asynccontextmanager
async def open_meshes(paths: Sequence[Path] | None = None) -> AsyncIterator[list[Mesh]]:
    """Opens the meshes that are meant: those named, else the one that every command means.

    Raises:
        MeshError: none is, or a file describes no mesh.
    """
    async with contextlib.AsyncExitStack() as stack_of:
        files = list(paths) if paths else [mesh_file()]
        yield [await stack_of.enter_async_context(open_mesh(path)) for path in files]


@contextlib.asynccontextmanager
async def open_mesh(path: Path | None = None) -> AsyncIterator[Mesh]:
    """Opens the mesh that is meant.

    Raises:
        MeshError: none is, or its file describes no mesh.
    """
    from autopilot.mesh import providers  # noqa: PLC0415

    mesh = providers.open_mesh(mesh_file(path))
    try:
        yield mesh
    finally:
        await mesh.close()


async def at_the_proxies(mesh: Mesh, receipt: Receipt) -> str:
    """How a restore stands, in words: what was written counts, whether or not a proxy answers."""
    try:
        await mesh.verify(receipt)
    except MeshUnavailable as error:
        return f"restored, as far as files go, but {error}"
    return "restored, the proxies say so"


def other_mesh(mesh: Mesh, wanted: str | None) -> str:
    """What stands against a document that names another mesh; empty where it does not."""
    if wanted in (None, mesh.name):
        return ""
    return f"spec.target.mesh is {wanted!r}, and this mesh is {mesh.name!r}; choose with --mesh"


def held(target: Target, holders: Iterable[str], own: str) -> list[str]:
    """Who holds a target that the operation `own` wants, one sentence each."""
    return [
        f"{target.ref} is held by {holder}; wait for its end, `--queue` to start after it, "
        f"or end it with `autopilot abort {holder}`"
        for holder in holders
        if holder != own
    ]


async def check_target(mesh: Mesh, document: Operation, *, queue: bool = False) -> list[str]:
    """What stands against starting an operation of a kind without a check of its own, one sentence each."""
    if other := other_mesh(mesh, document.spec.target.mesh):
        return [other]
    target = Target(mesh=mesh.name, namespace=document.metadata.namespace, service=document.spec.target.service)
    try:
        state = await mesh.observe(target)
    except InvalidChange as error:
        return [f"spec.target.service: {error}"]
    kind = of_document(document.kind)
    own = f"{kind.name if kind else document.kind}/{mesh.name}/{target.namespace}/{document.metadata.name}"
    refused = await mesh.refused(target, own)
    found = [refused] if refused else []
    return found if queue else [*found, *held(target, state.holders, own)]
