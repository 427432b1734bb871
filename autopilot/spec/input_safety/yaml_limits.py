"""YAML nodes, with an end to it: what is too deep, too wide or too often repeated is given up early.

ruamel.yaml builds whatever a file asks for, and its scanner takes quadratic time over brackets that nest. Here depth
and size are counted while a file is being read, before either costs time or memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import Node
from ruamel.yaml.scanner import Scanner

MAX_BYTES = 1 << 20
"""Bytes of one file, and characters of all its values once aliases are followed: far more than people write by hand."""
MAX_NODES = 25_000
"""Values of one file, once aliases are followed: a mesh of about a thousand services."""
MAX_DOCUMENTS = 1_000
MAX_DEPTH = 100


class TooMuch(MarkedYAMLError):
    """The file goes beyond a limit; `problem` says which."""


class Composed:
    """The documents of one text as nodes, one at a time.

    Args:
        text: YAML of one or several documents.

    Raises (while iterated):
        TooMuch: beyond a limit.
        YAMLError, ValueError, AssertionError, AttributeError, IndexError, KeyError, TypeError: it is no YAML; the
            parser stumbles over some junk instead of reporting it.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._yaml: Any = YAML(typ="safe", pure=True)
        self._yaml.Scanner, self._yaml.Composer = _Scanner, _Composer
        self.constructor = self._yaml.constructor
        """Turns scalars into values."""

    def __iter__(self) -> Iterator[Node]:
        for number, node in enumerate(self._yaml.compose_all(self._text)):
            if number >= MAX_DOCUMENTS:
                raise TooMuch(
                    problem=f"more than {MAX_DOCUMENTS:,} documents in one file", problem_mark=node.start_mark
                )
            yield node

    def is_aliased(self, node: Node) -> bool:
        """Whether an alias (`*name`) repeats the node elsewhere."""
        return id(node) in self._yaml.composer.aliased


class _Scanner(Scanner):
    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:  # noqa: N803 - the parser's own name
        if self.flow_level > MAX_DEPTH:
            raise TooMuch(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)


class _Composer(Composer):
    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader=loader)
        self.warn_double_anchors = False  # the parser's taste (a reused anchor) is no problem of the author's
        self.aliased: set[int] = set()
        self._kept: list[Node] = []
        self._nodes = self._level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._nodes += 1
        self._level += 1
        if self._level > MAX_DEPTH + 1 or self._nodes > MAX_NODES:
            deep = self._level > MAX_DEPTH + 1
            said = f"nested more than {MAX_DEPTH} deep" if deep else f"more than {MAX_NODES:,} values in one file"
            raise TooMuch(problem=said, problem_mark=self.parser.peek_event().start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._level -= 1

    def return_alias(self, a: Any) -> Any:
        self._kept.append(a)  # alive, so that its id stays its own
        self.aliased.add(id(a))
        return a
