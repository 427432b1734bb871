"""The map in docs/architecture.md is true: every name in it exists, and every arrow is an import."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from .conftest import ROOT

MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`([a-z_.]+:[A-Za-z_.]+)`", MAP)))
ROOMS = dict(re.findall(r'^ +(\w+)\["<b>([\w.]+)</b>', MAP, re.MULTILINE))
ARROWS = sorted(set(re.findall(r"^ +(\w+) --> ?(?:\|[^|]*\| ?)?(\w+)$", MAP, re.MULTILINE)))
FLOORS = {room: parts.split(" · ") for room, parts in re.findall(r"<b>([\w.]+)</b><br/>([\w ·]+)\"", MAP)}


def _folder(room: str) -> Path:
    return ROOT / room.replace(".", "/")


@pytest.mark.parametrize("name", NAMES)
def test_each_stop_of_both_walks_exists(name: str) -> None:
    module, _, path = name.partition(":")
    found = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    assert callable(found)


def test_each_room_is_a_folder_with_the_floors_that_the_map_shows() -> None:
    assert len(ROOMS) == 11
    for room in ROOMS.values():
        assert (_folder(room) / "__init__.py").is_file(), room
    for room, floors in FLOORS.items():
        shown = [floor for floor in floors if re.fullmatch(r"[a-z_]+", floor)]
        there = {entry.stem for entry in _folder(room).iterdir()}
        assert set(shown) <= there, room


@pytest.mark.parametrize(("above", "below"), ARROWS)
def test_each_arrow_is_an_import(above: str, below: str) -> None:
    wanted = ROOMS[below]
    for file in _folder(ROOMS[above]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{wanted}."):
                return
    pytest.fail(f"nothing in {ROOMS[above]} imports {wanted}")


def test_each_import_between_rooms_is_an_arrow_or_goes_the_same_way() -> None:
    """What the map shows upside down, or does not connect at all, would mislead."""
    downward = {(ROOMS[above], ROOMS[below]) for above, below in ARROWS}
    while more := {(a, d) for a, b in downward for c, d in downward if b == c} - downward:
        downward |= more
    for above in ROOMS.values():
        for file in _folder(above).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.ImportFrom) or node.module is None:
                    continue
                rooms = [room for room in ROOMS.values() if f"{node.module}.".startswith(f"{room}.")]
                below = max(rooms, key=len, default=above)
                assert below == above or (above, below) in downward, f"{file.relative_to(ROOT)} imports {node.module}"
