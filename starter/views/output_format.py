"""How a command prints: for people, or for a program."""

from __future__ import annotations

from enum import StrEnum


class Output(StrEnum):
    """How a command prints."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"

    @property
    def machine(self) -> bool:
        """Whether a program reads it."""
        return self in {Output.JSON, Output.YAML}
