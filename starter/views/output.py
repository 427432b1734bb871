"""Prints: pictures for people through rich, plain JSON or YAML for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from starter.views.output_format import Output

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table


def console() -> Console:
    """Standard output, as wide as it needs to be where nobody watches, so that no line is cut in a log."""
    from rich.console import Console  # noqa: PLC0415

    out = Console(highlight=False, soft_wrap=False)
    if not out.is_terminal:
        out.width = max(out.width, 160)
    return out


def jsonable(value: Any) -> Any:
    """Models, dataclasses and times as plain JSON values."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    return to_jsonable_python(value)


def emit(value: Any, output: Output) -> None:
    """Prints a value for a program."""
    plain = jsonable(value)
    if output is Output.YAML:
        from ruamel.yaml import YAML  # noqa: PLC0415

        writer = YAML(typ="safe", pure=True)
        writer.default_flow_style = False
        writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        writer.dump(plain, sys.stdout)
        return
    print(json.dumps(plain, indent=2, ensure_ascii=False))


def show(picture: RenderableType) -> None:
    """Prints a picture for people; into a pipe or a file without the blanks that fill up its lines."""
    out = console()
    if out.is_terminal:
        out.print(picture)
        return
    with out.capture() as captured:
        out.print(picture)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def note(text: str) -> None:
    """One line beside the result: to standard error, so that pipes get results alone."""
    print(text, file=sys.stderr)


def table(columns: Sequence[str], rows: Sequence[Sequence[RenderableType]]) -> Table:
    """A plain table; cells are text, not markup, unless they are renderables themselves."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    picture = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        picture.add_column(column, overflow="fold")
    for row in rows:
        picture.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return picture
