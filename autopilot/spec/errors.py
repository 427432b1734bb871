"""What is wrong with a file, said so that its author finds the place: one line a problem, all of them at once.

Problems end in terminals, logs and tickets: no credential is ever repeated in one, and no character goes out that a
terminal would obey.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from autopilot.spec.input_safety.credentials import redacted
from autopilot.spec.input_safety.invisible_characters import visible

MAX_PROBLEMS = 100
"""Maximum number of problems in one message."""
_LONGEST_KEY = 80


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

    def __post_init__(self) -> None:
        for name in ("message", "field", "hint"):
            object.__setattr__(self, name, visible(redacted(getattr(self, name))))

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part not in ("", None))
        said = ": ".join(part for part in (where, self.field, self.message) if part)
        return f"{said} ({self.hint})" if self.hint else said


class SpecError(ValueError):
    """What was written cannot be used; `problems` has every finding, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda item: (item.line or 0, item.column or 0))
        lines = [str(problem) for problem in self.problems[:MAX_PROBLEMS]]
        if (more := len(problems) - MAX_PROBLEMS) > 0:
            lines.append(f"and {more:,} problems more")
        super().__init__("\n".join(lines))


Path = tuple[str | int, ...]
"""Where in a document: keys and indices from its top."""


def field_path(path: Path) -> str:
    """The path as people write it: `spec.steps[1].weight`, `metadata.labels["app.io/x"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isascii() and len(part) <= _LONGEST_KEY and part.replace("_", "").replace("-", "").isalnum():
            text += f".{part}"
        else:
            # Written out, so that a letter that looks like another is told from it.
            clean = redacted(part)
            clean = clean if len(clean) <= _LONGEST_KEY else clean[: _LONGEST_KEY - 3] + "..."
            text += f"[{json.dumps(clean)}]"
    return text.removeprefix(".")
