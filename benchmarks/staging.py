"""The embedded stack, in a folder of its own, for as long as a benchmark measures on it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from autopilot.local import stack
from autopilot.local.parts import GROUPS
from autopilot.local.record import StackInfo

TOOLS = Path(__file__).parents[1] / ".autopilot" / "tools"
"""Where `make install` put Prometheus: nobody wants it fetched again."""


@contextlib.contextmanager
def staged(parts: Sequence[str] = GROUPS, *, rate: float = 100.0) -> Iterator[StackInfo]:
    """Brings up the parts with so many requests a second, and takes them down."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AUTOPILOT_HOME"] = folder
        os.environ.setdefault("AUTOPILOT_TOOLS", str(TOOLS))
        started = stack.start(Path(folder), parts=parts, rate=rate)
        try:
            yield started.info
        finally:
            started.stop()
