"""YAML text as plain data that remembers where every key and value stood.

Composes nodes with ruamel.yaml's safe, pure-Python loader and turns them into plain values here, so that duplicate
keys, tags, endless aliases and junk become findings with a place instead of exceptions from inside a parser.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from autopilot.spec.errors import Path, Problem, SpecError, field_path
from autopilot.spec.input_safety.invisible_characters import complaint, unseen
from autopilot.spec.input_safety.yaml_limits import MAX_BYTES, MAX_NODES, Composed, TooMuch
from autopilot.spec.values.units import shown

_LARGEST = 2**63
"""No number that anyone means is larger."""
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"


@dataclass(slots=True)
class Source:
    """One document: its data, where its parts stood, and what was wrong with it before any meaning."""

    data: Any
    file: str
    node: Node | None = None
    """What the data was made of, for whoever changes the text in place."""
    composed: Composed | None = None
    """Where the node came from."""
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Line and column (from 1) of each key, by its path."""
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: Path, message: str, *, hint: str = "", at: str = "value") -> Problem:
        """A problem at a path; `at="key"` points to the field's name, and what is absent to what should hold it."""
        order = (self.keys, self.values) if at == "key" else (self.values, self.keys)
        shorter = path
        while True:
            place = next((marks[shorter] for marks in order if shorter in marks), None)
            if place is not None or not shorter:
                break
            order, shorter = (self.keys, self.values), shorter[:-1]
        line, column = place or (1, 1)
        return Problem(message, self.file, line, column, field_path(path), hint)


def read_documents(text: str, file: str) -> tuple[list[Source], list[Problem]]:
    """Every document of the text that is not empty, and the problems that belong to none of them (bad syntax)."""
    if found := unseen(text, whole_file=True):
        return [], [_unseen(text, found.start(), file)]
    sources: list[Source] = []
    try:
        _compose(text, file, sources)
    except SpecError as error:
        return sources, error.problems
    except MarkedYAMLError as error:
        return sources, [_syntax(error, file)]
    except RecursionError:
        return sources, [Problem("nested too deeply", file)]
    except (YAMLError, ValueError, AssertionError, AttributeError, IndexError, KeyError, TypeError) as error:
        # The parser stumbles over some junk instead of reporting it; for the author both mean the same.
        reason = str(error).strip().splitlines()
        return sources, [Problem(f"is not YAML: {reason[0] if reason else type(error).__name__}", file)]
    return sources, []


def _compose(text: str, file: str, sources: list[Source]) -> None:
    composed = Composed(text)
    allowance = _Allowance()
    nodes = (node for node in composed if not _is_empty(node))
    # One at a time: what stands before a syntax error is kept.
    sources.extend(
        _Reader(Source(None, file, node, composed), composed.constructor, allowance).read(node) for node in nodes
    )


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == f"{_TAG}null"


def _unseen(text: str, at: int, file: str) -> Problem:
    start = text.rfind("\n", 0, at) + 1
    return Problem(
        complaint(text[at]),
        file,
        text.count("\n", 0, at) + 1,
        at - start + 1,
        hint="remove it",
    )


def _syntax(error: MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
    if isinstance(error, TooMuch):
        return Problem(f"is too large: {error.problem}", file, line, column)
    message = str(error.problem or error.context or "cannot be parsed").strip()
    hint = "indent with spaces, not tabs" if "\\t" in message else ""
    if error.problem and error.context and mark is error.problem_mark:
        message = f"{message} {error.context}".strip()
    return Problem(f"YAML syntax: {message}", file, line, column, hint=hint)


@dataclass(slots=True)
class _Allowance:
    """What is left for a file once its aliases are followed: small files can ask for billions of values."""

    nodes: int = MAX_NODES
    characters: int = MAX_BYTES


class _Reader:
    """Turns one document's nodes into plain data."""

    def __init__(self, source: Source, constructor: Any, allowance: _Allowance) -> None:
        self.source, self.constructor, self.left = source, constructor, allowance
        self.open: set[int] = set()

    def read(self, node: Node) -> Source:
        self.source.data = self._value(node, ())
        return self.source

    def _find(self, node: Node, path: Path, message: str, hint: str = "") -> None:
        line, column = _place(node)
        self.source.problems.append(Problem(message, self.source.file, line, column, field_path(path), hint))

    def _value(self, node: Node, path: Path) -> Any:
        absent = node.value == "" and path in self.source.keys  # `steps:` with nothing behind it
        self.source.values[path] = self.source.keys[path] if absent else _place(node)
        self.left.nodes -= 1
        self.left.characters -= len(node.value) if isinstance(node, ScalarNode) else 0
        if id(node) in self.open:
            self._find(node, path, "contains itself")
            return None
        if self.left.nodes < 0 or self.left.characters < 0:
            self._find(node, path, "is too large: aliases repeat it too often", "write the values out")
            raise SpecError(self.source.problems)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        self.open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path)
            if isinstance(node, SequenceNode):
                return self._sequence(node, path)
        finally:
            self.open.discard(id(node))
        return None  # pragma: no cover - there is no fourth kind of node

    def _sequence(self, node: SequenceNode, path: Path) -> list[Any]:
        self._only(node, path, "seq")
        return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        self._only(node, path, "map")
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                merged |= self._merge(value, path)
                continue
            if not isinstance(key, ScalarNode):
                self._find(key, path, "a field's name must be text")
                continue
            name = str(key.value)
            if name in result:
                first = self.source.keys[(*path, name)][0]
                self._find(key, (*path, name), f"is defined twice; first in line {first}")
                continue
            self.source.keys[(*path, name)] = _place(key)
            result[name] = self._value(value, (*path, name))
        return merged | result

    def _merge(self, value: Node, path: Path) -> dict[str, Any]:
        """What `<<: *anchor` (or a list of them) brings in; the earlier of a list wins."""
        nodes = list(value.value) if isinstance(value, SequenceNode) else [value]
        result: dict[str, Any] = {}
        for node in reversed(nodes):
            data = self._value(node, path)
            if isinstance(data, dict):
                result |= data
            else:
                self._find(node, path, "`<<` takes a mapping")
        return result

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        tag = str(node.tag or "").removeprefix(_TAG)
        if tag in {"str", "timestamp"}:
            return str(node.value)
        make = {
            "null": self.constructor.construct_yaml_null,
            "bool": self.constructor.construct_yaml_bool,
            "int": self.constructor.construct_yaml_int,
            "float": self.constructor.construct_yaml_float,
        }.get(tag)
        if make is None:
            self._find(node, path, f"the tag {_short(node.tag)} is not allowed here", hint="write plain YAML")
            return None
        try:
            made = make(node)
        except (ValueError, KeyError, IndexError, AttributeError, OverflowError):
            self._find(node, path, f"{shown(str(node.value))} is not a valid {tag}")
            return None
        if isinstance(made, int) and abs(made) >= _LARGEST:
            self._find(node, path, f"{shown(str(node.value))} is too large")
            return None
        return made

    def _only(self, node: Node, path: Path, tag: str) -> None:
        if node.tag != f"{_TAG}{tag}":
            self._find(node, path, f"the tag {_short(node.tag)} is not allowed here", hint="write plain YAML")


def _short(tag: object) -> str:
    return shown(str(tag)).strip("'")


def _place(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
