"""From files to operations that may start: everything is read and checked before anything begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autopilot.spec.canary import MeshCanary
from autopilot.spec.chaos.experiment import ExperimentSpec, MeshExperiment
from autopilot.spec.errors import Problem, SpecError
from autopilot.spec.load import STDIN, load
from starter.client.errors import CommandError

if TYPE_CHECKING:
    from autopilot.mesh.port import Mesh


@dataclass(frozen=True, slots=True)
class Wish:
    """One operation as asked for, and the file it came from."""

    file: str
    document: MeshCanary | MeshExperiment

    @property
    def ref(self) -> str:
        """`namespace/name`."""
        return f"{self.document.metadata.namespace}/{self.document.metadata.name}"


def read(files: Sequence[Path]) -> list[Wish]:
    """Every operation of the files.

    Raises:
        SpecError: something is wrong in any of them.
    """
    wishes: list[Wish] = []
    problems: list[Problem] = []
    for file in files:
        name = "<stdin>" if file == STDIN else str(file)
        try:
            documents = load(file, name)
        except SpecError as error:
            problems += error.problems
            continue
        for document in documents:
            if isinstance(document, MeshCanary | MeshExperiment):
                wishes.append(Wish(name, document))
            else:
                where = f"{document.kind} {document.metadata.name} describes a mesh, not an operation"
                problems.append(Problem(where, name, hint=f"use it with `--mesh {name}`"))
    problems += _rivals(wishes)
    if problems:
        raise SpecError(problems)
    return wishes


def _rivals(wishes: Sequence[Wish]) -> list[Problem]:
    """Operations on one service in one go: only one could have it."""
    seen: dict[tuple[str, str], Wish] = {}
    problems = []
    for wish in wishes:
        spec = wish.document.spec
        if isinstance(spec, ExperimentSpec) and spec.schedule is not None:
            continue  # its runs come one by one
        target = (wish.document.metadata.namespace, spec.target.service)
        if first := seen.get(target):
            message = f"{wish.ref} and {first.ref} (in {first.file}) both want {'/'.join(target)}"
            problems.append(Problem(message, wish.file, hint="apply one of them"))
        seen.setdefault(target, wish)
    return problems


async def check_all(mesh: Mesh, wishes: Sequence[Wish], *, queue: bool = False) -> None:
    """Looks whether the mesh can do all of it; who would `queue` may find its target held.

    Raises:
        CommandError: it cannot; every problem is named.
    """
    found = await problems_of(mesh, wishes, queue=queue)
    if found:
        raise CommandError(
            "\n".join(found),
            hint="nothing was started and nothing was written; see `autopilot plan` and `autopilot leases`",
        )


async def problems_of(mesh: Mesh, wishes: Sequence[Wish], *, queue: bool = False) -> list[str]:
    """What stands against starting, one line each."""
    from starter.client import preflight, prometheus  # noqa: PLC0415

    found = []
    for wish in wishes:
        if isinstance(wish.document, MeshExperiment):
            problems = await preflight.check_experiment(mesh, wish.document, queue=queue)
        else:
            problems = [
                *await preflight.check(mesh, wish.document, queue=queue),
                *await prometheus.check(mesh, wish.document),
            ]
        found += [f"{wish.file}: {wish.ref}: {problem}" for problem in problems]
    return found
