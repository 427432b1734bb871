"""Reads what users write: YAML files of one or several documents, all of them right or none of them used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autopilot.spec.base import API_VERSION
from autopilot.spec.canary import MeshCanary
from autopilot.spec.errors import Problem, SpecError
from autopilot.spec.explain import explain, nearest
from autopilot.spec.mesh import Mesh
from autopilot.spec.text import Source, read_documents

Document = MeshCanary | Mesh
"""Any kind that may stand in a file."""

KINDS: dict[str, type[MeshCanary | Mesh]] = {
    "MeshCanary": MeshCanary,
    "Mesh": Mesh,
}
"""Every kind by its name; a new one joins here and in `Document`."""

STDIN = Path("-")


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
    raw = sys.stdin.buffer.read() if source == STDIN else _read(source, name)
    return _load(_decode(raw, name), name)


def _load(text: str, file: str) -> list[Document]:
    sources, problems = read_documents(text, file)
    if not sources and not problems:
        raise SpecError([Problem("is empty", file, hint=f"write a document of kind {' or '.join(KINDS)}")])
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
            message = f"{document.kind} {'/'.join(identity[1:])} is there twice; first in line {seen[identity]}"
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
    envelope = _envelope(data, source)
    model = KINDS.get(str(data.get("kind")))
    if model is None:
        problems.extend(envelope)
        return None
    try:
        document = model.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        inner = [item for item in error.errors(include_url=False) if item["loc"] not in {("apiVersion",), ("kind",)}]
        problems.extend(envelope + explain(model, inner, source))
        return None
    problems.extend(envelope)
    return None if envelope else document


def _envelope(data: dict[str, Any], source: Source) -> list[Problem]:
    """What is wrong with apiVersion and kind."""
    problems = []
    version, kind = data.get("apiVersion"), data.get("kind")
    if version is None:
        problems.append(source.problem(("apiVersion",), "is missing", hint=f"write apiVersion: {API_VERSION}"))
    elif version != API_VERSION:
        problems.append(source.problem(("apiVersion",), f"{version!r} is not known", hint=f"write {API_VERSION}"))
    if kind is None:
        problems.append(source.problem(("kind",), "is missing", hint=f"known: {', '.join(KINDS)}"))
    elif kind not in KINDS:
        problems.append(source.problem(("kind",), f"{kind!r} is not known", hint=nearest(str(kind), list(KINDS))))
    return problems


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError([Problem(f"cannot be read: {error.strerror or error}", name)]) from error


def _decode(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SpecError([Problem("is not UTF-8 text", name, line, hint="save the file as UTF-8")]) from error
