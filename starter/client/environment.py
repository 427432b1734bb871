"""Where things are on this machine: the running local stack, and the folder of reports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autopilot.local.record import StackInfo


HEARTBEAT = 30.0
EMBEDDED_HEARTBEAT = 5.0


def heartbeat_timeout() -> float:
    """Seconds after which a silent watch is started elsewhere: short on the embedded stack, where beats are free."""
    embedded = "TEMPORAL_ADDRESS" not in os.environ and local_stack() is not None
    return EMBEDDED_HEARTBEAT if embedded else HEARTBEAT


def local_stack(state: Path | None = None) -> StackInfo | None:
    """The embedded stack that runs in this state folder (default: this machine's); None where none does."""
    from autopilot.local.layout import Layout  # noqa: PLC0415

    file = Layout.find(state).record
    if not file.exists():
        return None
    from autopilot.local.record import read  # noqa: PLC0415

    stack = read(file)
    return stack if stack is not None and stack.alive else None


def reports_folder() -> Path:
    """Where finished operations' reports are kept: in the state folder."""
    from autopilot.local.layout import Layout  # noqa: PLC0415

    return Layout.find().root / "reports"
