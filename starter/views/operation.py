"""Draws an operation of a kind without a picture of its own: its phase or its end, and its timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from autopilot.spec.values.units import format_seconds
from starter.views.widgets import OUTCOME_STYLE, PHASE_STYLE, facts, headline, timeline_of

if TYPE_CHECKING:
    from starter.client.operation_watch import Snapshot


def snapshot(value: Snapshot, *, timeline: int | None) -> RenderableType:
    """The operation at one moment: its report where there is one, else its status."""
    if (report := value.report) is not None:
        took = format_seconds(round(report.ended - report.started, 1))
        return Group(
            headline(report.workflow_id, report.outcome, OUTCOME_STYLE[report.outcome], report.started),
            facts([("reason", Text(report.reason)), ("took", Text(took))]),
            *timeline_of(report.timeline, timeline),
        )
    if (status := value.status) is not None:
        return Group(
            headline(status.workflow_id, status.phase, PHASE_STYLE.get(status.phase, "bold cyan"), status.started),
            facts([("standing", Text(status.standing))] if status.standing else []),
            *timeline_of(status.timeline, timeline),
        )
    return Text(value.workflow_id)
