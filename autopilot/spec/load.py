"""Reads what users write: YAML files of one or several documents, all of them right or none of them used."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from autopilot.kinds import kinds
from autopilot.spec.base import API_VERSION, SpecModel
from autopilot.spec.canary import MeshCanary
from autopilot.spec.chaos.experiment import MeshExperiment
from autopilot.spec.cluster import ClusterMesh, in_a_cluster
from autopilot.spec.errors import Problem, SpecError
from autopilot.spec.forbidden_content import unclean
from autopilot.spec.input_safety.yaml_limits import MAX_BYTES
from autopilot.spec.mesh import Mesh
from autopilot.spec.validation_messages import explain, nearest
from autopilot.spec.values.units import WRITTEN, shown
from autopilot.spec.yaml_source import Source, read_documents

Operation = MeshCanary | MeshExperiment
"""Documents of the kinds of operations that are built in; those of others' kinds are like them."""
Document = Operation | Mesh | ClusterMesh
"""Any kind that may stand in a file."""

STDIN = Path("-")

_ENVELOPE = frozenset({"apiVersion", "kind"})
_Kind = TypeVar("_Kind", bound=SpecModel)


def models() -> dict[str, type[Document]]:
    """The model of every kind of document, by its name."""
    return {kind.document: kind.load("model") for kind in kinds()} | {"Mesh": Mesh}


def load(source: Path | str, source_name: str | None = None) -> list[Document]:
    """Reads and checks every document of a file or of a text.

    Args:
        source: a `Path` is a file (`Path("-")` is standard input), a `str` is the YAML itself.
        source_name: what messages call it; by default the path, or `<text>`.

    Raises:
        SpecError: anything is wrong; it names every problem of every document, and nothing is returned.
    """
    if isinstance(source, str):
        return _load(source, source_name or "<text>")
    name = source_name or ("<stdin>" if source == STDIN else str(source))
    return _load(_decode(_read(source, name), name), name)


def load_one(model: type[_Kind], text: str, file: str) -> tuple[_Kind, Source]:
    """Reads a text that holds one document of a kind that is known; apiVersion and kind may be left out.

    Returns:
        The document, and where its parts stand in the text.

    Raises:
        SpecError: as `load`.
    """
    _refuse_large(len(text), file)
    sources, problems = read_documents(text, file)
    problems += [problem for source in sources for problem in source.problems]
    if not problems and len(sources) != 1:
        problems.append(Problem(f"must have one document, has {len(sources)}", file))
    if problems:
        raise SpecError(problems)
    document = _validated(model, sources[0], problems)
    if document is None:
        raise SpecError(problems)
    return document, sources[0]


def _load(text: str, file: str) -> list[Document]:
    _refuse_large(len(text), file)
    sources, problems = read_documents(text, file)
    if not sources and not problems:
        raise SpecError([Problem("is empty", file, hint=f"write a document of kind {' or '.join(models())}")])
    documents: list[Document] = []
    seen: dict[tuple[str, str, str], int] = {}
    for source in sources:
        if source.problems:
            problems.extend(source.problems)
            continue
        document = _document(source, problems)
        if document is None:
            continue
        identity = (document.kind, document.metadata.namespace, document.metadata.name)
        line = source.values[()][0]
        if identity in seen:
            message = f"{document.kind} {'/'.join(identity[1:])} is defined twice; first in line {seen[identity]}"
            problems.append(source.problem(("metadata", "name"), message))
        seen.setdefault(identity, line)
        documents.append(document)
    if problems:
        raise SpecError(problems)
    return documents


def _document(source: Source, problems: list[Problem]) -> Document | None:
    """The document as its kind's model; None where it has problems, which are added to the list."""
    data = source.data
    if not isinstance(data, dict):
        problems.append(source.problem((), "a document must be a mapping that begins with apiVersion and kind"))
        return None
    known = models()
    envelope = _envelope(data, source, known)
    problems.extend(envelope)
    kind = data.get("kind")
    model = known.get(kind) if isinstance(kind, str) else None
    if model is Mesh and in_a_cluster(data):
        model = ClusterMesh
    if model is None:
        problems.extend(unclean(source))
        return None
    document = _validated(model, source, problems, told=_ENVELOPE)
    return None if envelope else document


def _validated(
    model: type[_Kind], source: Source, problems: list[Problem], *, told: frozenset[str] = frozenset()
) -> _Kind | None:
    """The document as its model; None where something is wrong, which is added to the list but for fields `told` of."""
    found = unclean(source)
    document: _Kind | None = None
    try:
        document = model.model_validate(source.data, by_alias=True, by_name=False, context=WRITTEN)
    except ValidationError as error:
        inner = [item for item in error.errors(include_url=False) if told.isdisjoint(item["loc"][:1])]
        found += explain(model, inner, source)
    problems.extend(found)
    return None if found else document


def _envelope(data: dict[str, Any], source: Source, known: Collection[str]) -> list[Problem]:
    """What is wrong with apiVersion and kind."""
    problems = []
    version, kind = data.get("apiVersion"), data.get("kind")
    if version is None:
        problems.append(source.problem(("apiVersion",), "is missing", hint=f"write apiVersion: {API_VERSION}"))
    elif version != API_VERSION:
        problems.append(source.problem(("apiVersion",), f"{shown(version)} is not known", hint=f"write {API_VERSION}"))
    if kind is None:
        problems.append(source.problem(("kind",), "is missing", hint=f"known: {', '.join(known)}"))
    elif not isinstance(kind, str):
        problems.append(source.problem(("kind",), f"expects text, got {shown(kind)}"))
    elif kind not in known:
        problems.append(source.problem(("kind",), f"{shown(kind)} is not known", hint=nearest(kind, list(known))))
    return problems


def _read(path: Path, name: str) -> bytes:
    """The bytes of a file or of standard input, and no more of them than are allowed."""
    try:
        if path == STDIN:
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in a path
        reason = getattr(error, "strerror", None) or error
        raise SpecError([Problem(f"cannot be read: {reason}", name)]) from error
    _refuse_large(len(raw), name)
    return raw


def _refuse_large(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise SpecError([Problem(f"is larger than {MAX_BYTES >> 20} MiB", name, hint="split it into several files")])


def _decode(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SpecError([Problem("is not UTF-8 text", name, line, hint="save the file as UTF-8")]) from error
