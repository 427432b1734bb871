"""Draws a rollout for people: how it stands, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autopilot.operations.common import Phase
from autopilot.spec.values.units import format_seconds
from starter.views.output import table
from starter.views.widgets import (
    OUTCOME_STYLE,
    PHASE_STYLE,
    bar,
    exposure,
    facts,
    heading,
    headline,
    indented,
    timeline_of,
)

if TYPE_CHECKING:
    from autopilot.evidence.model import Evidence
    from autopilot.operations.canary_status import CanaryStatus, Progress
    from autopilot.reports.canary import CanaryReport, StepReport
    from starter.client.operation_watch import Snapshot

BAR = 20

_NEXT = {
    Phase.HALTED: "holds until the halt is released; harm still rolls back",
    Phase.QUEUED: "starts after the operations queued before it",
    Phase.RESTORING: "the base configuration is being restored",
}


def snapshot(value: Snapshot, *, timeline: int | None) -> RenderableType:
    """A rollout at one moment: its report where there is one, else its status."""
    if value.report is not None:
        return report(cast("CanaryReport", value.report), timeline=timeline)
    return status(cast("CanaryStatus", value.status), cast("Progress | None", value.progress), timeline=timeline)


def status(value: CanaryStatus, progress: Progress | None, *, timeline: int | None) -> Group:
    """A rollout under way."""
    parts: list[RenderableType] = [
        headline(value.workflow_id, value.phase, PHASE_STYLE.get(value.phase, "bold cyan"), value.started),
        facts(_state(value, progress)),
    ]
    evidence = progress.evidence if progress and progress.evidence else value.evidence
    if evidence:
        parts += [heading("evidence"), indented(evidences(evidence))]
    parts += timeline_of(value.timeline, timeline)
    return Group(*parts)


def _state(value: CanaryStatus, progress: Progress | None) -> list[tuple[str, RenderableType]]:
    rows: list[tuple[str, RenderableType]] = [
        ("service", Text(f"{value.namespace}/{value.service} on {value.mesh}: {value.stable} → {value.canary}")),
        ("steps", _steps(value)),
        ("weight", _weight(value, progress)),
    ]
    if progress:
        rows.append(("requests", _requests(progress)))
    if progress and progress.silent >= 5:
        rows.append(("telemetry", Text(f"no data for {format_seconds(round(progress.silent))}", "yellow")))
    if value.exposure.requests:
        rows.append(("exposure", Text(f"{exposure(value.exposure)} in earlier steps")))
    if value.reason:
        rows.append(("reason", Text(value.reason)))
    if value.paused_by:
        rows.append(("paused by", Text(value.paused_by, "yellow")))
    rows.append(("next", Text(_next(value))))
    return rows


def _next(value: CanaryStatus) -> str:
    if value.waiting_for:
        return value.waiting_for
    if value.phase is Phase.PAUSED or value.paused_by:
        return f"holds until `autopilot resume {value.workflow_id}`; harm still rolls back"
    if value.phase in _NEXT:
        return _NEXT[value.phase]
    rest = value.steps[value.step :]
    committing = value.phase is Phase.COMMITTING or not rest
    return f"{value.canary} becomes the base" if committing else f"{rest[0]:g} %"


def report(value: CanaryReport, *, timeline: int | None) -> Group:
    """A rollout that has ended."""
    rows: list[tuple[str, RenderableType]] = [
        ("service", Text(f"{value.namespace}/{value.service} on {value.mesh}: {value.stable} → {value.canary}")),
        ("reason", Text(value.reason)),
        ("took", Text(format_seconds(round(value.ended - value.started, 1)))),
        ("exposure", Text(exposure(value.exposure))),
    ]
    if value.restore_seconds is not None:
        rows.append(("restored in", Text(format_seconds(round(value.restore_seconds, 3)))))
    parts: list[RenderableType] = [
        headline(value.workflow_id, value.outcome, OUTCOME_STYLE[value.outcome], value.started),
        facts(rows),
    ]
    if value.steps:
        parts += [heading("steps"), indented(steps(value.steps))]
    if value.evidence:
        parts += [heading("evidence"), indented(evidences(value.evidence))]
    parts += timeline_of(value.timeline, timeline)
    return Group(*parts)


def steps(values: Sequence[StepReport]) -> Table:
    """The steps as they went."""
    return table(
        ("#", "weight", "took", "verdict", "exposure", "reason"),
        [
            (
                str(step.number),
                f"{step.weight:g} %",
                format_seconds(round(step.ended - step.started, 1)) if step.ended is not None else "-",
                Text(step.verdict or "-", {"harm": "red", "advance": "green"}.get(step.verdict, "")),
                exposure(step.exposure),
                step.reason,
            )
            for step in values
        ],
    )


def evidences(values: Sequence[Evidence]) -> Table:
    """Evidence as evidence: how much of what is needed, never a probability."""
    picture = Table.grid(padding=(0, 2))
    for value in values:
        good = Text()
        if value.excluded is not None and value.excluded_needed is not None:
            good = bar("harm excluded", value.excluded, value.excluded_needed, "green")
            if value.more:
                good.append(f", about {value.more:,.0f} requests more", "dim")
        elif value.good is not None and value.good_needed is not None:
            good = bar("good", value.good, value.good_needed, "green")
        shares = [
            f"{arm} {share:.2%}"
            for arm, share in (("canary", value.canary), ("stable", value.stable))
            if share is not None
        ]
        row = (Text(value.metric), bar("harm", value.harm, value.harm_needed, "red"), good, Text(" · ".join(shares)))
        picture.add_row(*row, Text(value.note, "dim"))
    return picture


def _steps(value: CanaryStatus) -> Text:
    line = Text()
    for number, weight in enumerate(value.steps, start=1):
        line.append(" → " if number > 1 else "")
        if number < value.step:
            line.append(f"✓ {weight:g}", "green")
        elif number == value.step:
            line.append(f"▶ {weight:g}", "bold cyan")
        else:
            line.append(f"{weight:g}", "dim")
    return line.append(" %")


def _weight(value: CanaryStatus, progress: Progress | None) -> Text:
    full = round(value.weight / 100 * BAR)
    line = Text.assemble(("━" * full, "cyan"), ("─" * (BAR - full), "dim"), f" {value.weight:g} % set")
    if progress and progress.measured is not None:
        line.append(f" · {progress.measured:.1f} % measured")
    return line


def _requests(progress: Progress) -> Text:
    line = Text(f"canary {progress.requests:,.0f} (")
    line.append(f"{progress.failures:,.0f} failed", "red" if progress.failures else "")
    return line.append(f"), stable {progress.stable_requests:,.0f}, in {format_seconds(round(progress.seconds, 1))}")
