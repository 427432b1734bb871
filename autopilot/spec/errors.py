"""What is wrong with a file, said so that its author finds the place: one line a problem, all of them at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding in one place."""

    message: str
    file: str = ""
    line: int | None = None
    """From 1; None where the problem has no place (a file that cannot be read)."""
    column: int | None = None
    """From 1."""
    field: str = ""
    """Path as the user wrote it: `spec.steps[1].weight`."""
    hint: str = ""

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part not in ("", None))
        said = ": ".join(part for part in (where, self.field, self.message) if part)
        return f"{said} ({self.hint})" if self.hint else said


class SpecError(ValueError):
    """What was written cannot be used; `problems` has every finding, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda item: (item.line or 0, item.column or 0))
        super().__init__("\n".join(str(problem) for problem in self.problems))


Path = tuple[str | int, ...]
"""Where in a document: keys and indices from its top."""


def field_path(path: Path) -> str:
    """The path as people write it: `spec.steps[1].weight`, `metadata.labels["app.io/x"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "").replace("-", "").isalnum():
            text += f".{part}"
        else:
            text += f'["{part}"]'
    return text.removeprefix(".")
