"""What every benchmark prints and keeps: a table for people, and `benchmarks/results/NAME.json` for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Processor, cores and versions, without anything that names a host."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    release = ".".join(platform.release().split(".")[:2])
    return f"{os.cpu_count()} cores of {model}, Linux {release}, Python {platform.python_version()}"


def show(rows: Sequence[tuple[str, ...]], title: str) -> None:
    """Prints the rows (the first is the heading)."""
    table = Table(title=title, title_justify="left")
    for heading in rows[0]:
        table.add_column(heading)
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)


def before(name: str) -> tuple[dict[str, float], dict[str, list[str]]]:
    """The figures and the lists that were kept last, by key; none where there is no such file."""
    file = RESULTS / f"{name}.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return kept.get("figures", {}), kept.get("lists", {})


def record(  # noqa: PLR0917 - what is kept, in the order in which it is kept
    name: str,
    command: str,
    figures: Mapping[str, float],
    rows: Sequence[tuple[str, ...]],
    title: str,
    lists: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Prints the rows (the first is the heading) and writes the figures, and lists of names where there are any."""
    show(rows, title)
    Console().print(f"{command}; {machine()}", soft_wrap=True)
    RESULTS.mkdir(exist_ok=True)
    kept = {"name": name, "command": command, "machine": machine(), "figures": dict(figures)}
    if lists is not None:
        kept["lists"] = {key: list(names) for key, names in lists.items()}
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
