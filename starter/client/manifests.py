"""From files to operations that may start: everything is read and checked before anything begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from autopilot.kinds import Kind, of_document
from autopilot.spec.errors import Problem, SpecError
from autopilot.spec.load import STDIN, Operation, load
from starter.client.errors import CommandError

if TYPE_CHECKING:
    from autopilot.mesh.port import Mesh


@dataclass(frozen=True, slots=True)
class Manifest:
    """One operation as asked for, and the file it came from."""

    file: str
    document: Operation
    kind: Kind

    @property
    def ref(self) -> str:
        """`namespace/name`."""
        return f"{self.document.metadata.namespace}/{self.document.metadata.name}"


def read(files: Sequence[Path]) -> list[Manifest]:
    """Every operation of the files.

    Raises:
        SpecError: something is wrong in any of them.
    """
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    for file in files:
        name = "<stdin>" if file == STDIN else str(file)
        try:
            documents = load(file, name)
        except SpecError as error:
            problems += error.problems
            continue
        for document in documents:
            if (kind := of_document(document.kind)) is not None:
                manifests.append(Manifest(name, cast("Operation", document), kind))
            else:
                where = f"{document.kind} {document.metadata.name} describes a mesh, not an operation"
                problems.append(Problem(where, name, hint=f"use it with `--mesh {name}`"))
    problems += _rivals(manifests)
    if problems:
        raise SpecError(problems)
    return manifests


def _rivals(manifests: Sequence[Manifest]) -> list[Problem]:
    """Operations on one service in one go: only one could have it."""
    seen: dict[tuple[str, str], Manifest] = {}
    problems = []
    for manifest in manifests:
        spec = manifest.document.spec
        if getattr(spec, "schedule", None) is not None:
            continue  # its runs come one by one
        target = (manifest.document.metadata.namespace, spec.target.service)
        if first := seen.get(target):
            message = f"{manifest.ref} and {first.ref} (in {first.file}) both want {'/'.join(target)}"
            problems.append(Problem(message, manifest.file, hint="apply one of them"))
        seen.setdefault(target, manifest)
    return problems


async def check_all(mesh: Mesh, manifests: Sequence[Manifest], *, queue: bool = False) -> None:
    """Looks whether the mesh can do all of it; who would `queue` may find its target held.

    Raises:
        CommandError: it cannot; every problem is named.
    """
    found = await problems_of(mesh, manifests, queue=queue)
    if found:
        raise CommandError(
            "\n".join(found),
            hint="nothing was started and nothing was written; see `autopilot plan` and `autopilot leases`",
        )


async def problems_of(mesh: Mesh, manifests: Sequence[Manifest], *, queue: bool = False) -> list[str]:
    """What stands against starting, one line each."""
    found = []
    for manifest in manifests:
        problems = await manifest.kind.load("check")(mesh, manifest.document, queue=queue)
        found += [f"{manifest.file}: {manifest.ref}: {problem}" for problem in problems]
    return found
