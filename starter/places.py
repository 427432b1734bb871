"""Where things are on this machine: the running local stack, and the folder of reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autopilot.local.record import StackInfo


def local_stack() -> StackInfo | None:
    """The embedded stack that runs on this machine's state folder; None where none does."""
    from autopilot.local.layout import Layout  # noqa: PLC0415
    from autopilot.local.record import read  # noqa: PLC0415

    stack = read(Layout.find().record)
    return stack if stack is not None and stack.alive else None


def reports_folder() -> Path:
    """Where finished operations' reports are kept: in the state folder."""
    from autopilot.local.layout import Layout  # noqa: PLC0415

    return Layout.find().root / "reports"
