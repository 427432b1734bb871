"""Puts a benchmark into the lab: it starts itself again inside one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def reexecuted() -> None:
    """Returns inside a lab only; elsewhere this process becomes the lab that runs the same command."""
    if "AUTOPILOT_LAB" not in os.environ:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "tests.lab", "run", "--", sys.executable, *sys.argv])  # noqa: S606
    sys.path.insert(0, str(ROOT))
