"""Names of Temporal's task queues: three a mesh, so that a worker takes only what concerns meshes that it drives.

A restore has a queue that runs nothing else: it never waits for a slot that a count or a preflight holds.
"""

from __future__ import annotations

EARLIER_QUEUE = "autopilot"
"""Workflows and short effects of operations and schedules that an earlier version started, whatever their mesh."""
EARLIER_WATCH_QUEUE = "autopilot-watch"
"""Long watches of those."""


def operation_queue(mesh: str) -> str:
    """Workflows, and the short effects of each."""
    return f"autopilot.{mesh}"


def restore_queue(mesh: str) -> str:
    """Restores, and nothing else."""
    return f"autopilot-restore.{mesh}"


def watch_queue(mesh: str) -> str:
    """Long watches."""
    return f"autopilot-watch.{mesh}"
