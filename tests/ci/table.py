"""The table that a run ends with: how long each part took, what grew, what is over its budget, the slowest tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.ci.record import Row, Tests, read

_GREW = 1.25
"""A part that takes this many times what it usually takes, and ten seconds more, has grown."""
_SLOWEST = 20


def draw(rows: Sequence[Row]) -> str:
    """The table, as text."""
    if not rows:
        return "no part was run"
    found = {row.name: read(Path(row.junit)) for row in rows if row.junit}
    lines = [("part", "seconds", "usual", "budget", "tests", "")]
    lines += [
        (
            row.name,
            f"{row.seconds:.0f}",
            f"{row.usual:.0f}",
            f"{row.budget:.0f}",
            _count(found.get(row.name)),
            _note(row),
        )
        for row in rows
    ]
    total, budget = sum(row.seconds for row in rows), sum(row.budget for row in rows)
    lines.append(("all", f"{total:.0f}", f"{sum(row.usual for row in rows):.0f}", f"{budget:.0f}", "", ""))
    slowest = sorted((one for tests in found.values() for one in tests.times), reverse=True)[:_SLOWEST]
    parts = [*_aligned(lines)]
    if slowest:
        parts += ["", f"the {len(slowest)} slowest tests, with their fixtures:"]
        parts += [f"{seconds:7.1f} s  {name}" for seconds, name in slowest]
    return "\n".join(parts)


def _figures(row: Row) -> tuple[str, str, str]:
    return f"{row.seconds:.0f}", f"{row.usual:.0f}", f"{row.budget:.0f}"


def _count(tests: Tests | None) -> str:
    if tests is None:
        return ""
    told = [f"{tests.passed} passed"]
    told += [f"{tests.failed} FAILED"] if tests.failed else []
    told += [f"{tests.skipped} skipped"] if tests.skipped else []
    return ", ".join(told)


def _note(row: Row) -> str:
    notes = [f"FAILED (exit code {row.code})"] if row.code else []
    if row.seconds > row.budget:
        notes.append(f"OVER ITS BUDGET by {row.seconds - row.budget:.0f} s")
    elif row.seconds > max(_GREW * row.usual, row.usual + 10):
        notes.append(f"grew by {row.seconds - row.usual:.0f} s")
    return ", ".join(notes)


def _aligned(lines: Iterable[Sequence[str]]) -> list[str]:
    """Columns: the first and the last two to the left, numbers to the right."""
    rows = list(lines)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = {0, len(widths) - 2, len(widths) - 1}
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
