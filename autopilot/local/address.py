"""Where the running stack's Temporal answers, read without the models of `record`: commands must start at once."""

from __future__ import annotations

import json
from pathlib import Path

from autopilot.local.processes import is_alive


def temporal_address(record: Path) -> str | None:
    """`host:port` of the Temporal that this record names; None where the stack does not run or has no Temporal."""
    try:
        kept = json.loads(record.read_bytes())
        running = is_alive(int(kept["pid"]), int(kept["started"]))
        address = kept.get("temporal") if running else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return address if isinstance(address, str) else None
