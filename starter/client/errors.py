"""Errors of commands: what is wrong, and what to do next."""

from __future__ import annotations

ERROR = 1


class CommandError(Exception):
    """A command cannot do what it was asked for.

    Args:
        message: what is wrong; several lines where there are several findings.
        hint: what to do about it.
        code: the exit code.
    """

    def __init__(self, message: str, *, hint: str = "", code: int = ERROR) -> None:
        super().__init__(message)
        self.message, self.hint, self.code = message, hint, code
