"""README and docs render as they are meant: no row of a table as raw text, no link that leads nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from .conftest import ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(ROOT.glob("docs/*.md"))
PICTURES = sorted(ROOT.glob("docs/*.svg"))
CELLS = ("th_open", "td_open")
PARSER = MarkdownIt("commonmark").enable("table")


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_row_of_a_table_is_in_a_table(page: Path) -> None:
    assert stray_rows(page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_row_has_as_many_cells_as_its_heading(page: Path) -> None:
    assert uneven_rows(page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in links(page.read_text()):
        name, _, anchor = target.partition("#")
        file = page.parent / unquote(name) if name else page
        assert file.resolve().is_relative_to(ROOT), target
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("picture", PICTURES, ids=names(PICTURES))
def test_every_picture_is_whole_by_itself(picture: Path) -> None:
    """No font, style, script or image from another host: a reader's browser asks nobody else."""
    text = picture.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert re.findall(r"https?:|//\w|@import|@font-face|url\((?!#)|<script|<image|href=", text) == []


def test_a_paragraph_between_rows_is_noticed() -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert stray_rows(table) == []
    assert stray_rows(f"{table}\nA paragraph.\n\n| 3 | 4 |\n| 5 | 6 |\n") == ["| 3 | 4 |", "| 5 | 6 |"]
    assert stray_rows("A paragraph\n| 3 | 4 |\n") == ["| 3 | 4 |"]
    assert stray_rows("* an item\n\n  | 3 | 4 |\n") == ["| 3 | 4 |"]
    assert stray_rows("    | code |\n") == []


def test_a_cell_too_many_is_noticed() -> None:
    assert uneven_rows("| a | b |\n|---|---|\n| 1 | `x|y` |\n| 1 | `x\\|y` |\n") == ["| 1 | `x|y` |"]


def test_links_and_headings_are_found() -> None:
    text = "[a](b.md#c-d) ![e](f.svg) [g](https://h.example) <https://i.example>\n\n## Who did `what`, and when?\n"
    assert list(links(text)) == ["b.md#c-d", "f.svg"]
    assert list(links('<p><img src="j.svg"><a href="k.md">l</a></p>\n')) == ["j.svg", "k.md"]
    assert anchors(text) == {"who-did-what-and-when"}


def stray_rows(text: str) -> list[str]:
    """Lines that look like a table's row, and are shown as text."""
    tokens = PARSER.parse(text)
    shown = [
        token
        for before, token in zip([None, *tokens], tokens, strict=False)
        if token.type == "inline" and (before is None or before.type not in CELLS)
    ]
    return [line.strip() for token in shown for line in token.content.splitlines() if line.lstrip().startswith("|")]


def uneven_rows(text: str) -> list[str]:
    """Rows whose cells are more or fewer than their heading's: a browser drops some, or shows empty ones."""
    lines, found = text.splitlines(), []
    for token in PARSER.parse(text):
        if token.type == "table_open" and token.map:
            rows = lines[slice(*token.map)]
            found += [row for row in rows if _bars(row) != _bars(rows[0])]
    return found


def _bars(row: str) -> int:
    return len(re.findall(r"(?<!\\)\|", row))


def links(text: str) -> Iterator[str]:
    """What links and images point at, in this repository."""
    for token in _flat(PARSER.parse(text)):
        found = [str(token.attrs[name]) for name in ("href", "src") if name in token.attrs]
        if token.type.startswith("html_"):
            found = re.findall(r'(?:href|src|srcset)="([^"]+)"', token.content)
        yield from (target for target in found if not re.match(r"[a-z]+:", target))


def anchors(text: str) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    tokens = PARSER.parse(text)
    titles = [after.content for before, after in pairwise(tokens) if before.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or [])
