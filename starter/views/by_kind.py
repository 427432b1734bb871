"""Draws an operation for people: with the module of its kind, which alone is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from autopilot.kinds import of_operation
from starter.views import operation

if TYPE_CHECKING:
    from rich.console import RenderableType

    from starter.client.operation_watch import Snapshot

TIMELINE = 8


def snapshot(value: Snapshot, *, timeline: int | None = TIMELINE) -> RenderableType:
    """An operation at one moment.

    Args:
        value: what was seen.
        timeline: how many of the newest lines of its timeline to show; None for all.
    """
    if value.report is None and value.status is None:
        return Text.assemble((value.workflow_id, "bold"), "  ", (value.note, "yellow"))
    kind = of_operation(value.workflow_id)
    picture: RenderableType = (kind.load("draw") if kind else operation.snapshot)(value, timeline=timeline)
    return picture
