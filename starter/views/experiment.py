"""Draws an experiment for people: what is done, what it meets, what the hypothesis says, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autopilot.operations.common import Phase
from autopilot.operations.experiment_status import Verdict
from autopilot.spec.values.units import format_seconds
from starter.views.output import table
from starter.views.widgets import PHASE_STYLE, exposure, facts, heading, headline, indented, timeline_of

if TYPE_CHECKING:
    from autopilot.evidence.chaos.hypothesis import Look
    from autopilot.operations.experiment_status import ChaosProgress, Effect, ExperimentStatus, ProbeRecord
    from autopilot.reports.experiment import Amplification, ExperimentReport, StepFinding
    from starter.client.operation_watch import Snapshot

BAR = 20
_SEEN = 0.02
"""Tries a request more than before that are worth a line."""
VERDICT_STYLE = {
    Verdict.PASS: "bold green",
    Verdict.FAIL: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
    Verdict.VOID: "bold yellow",
    Verdict.ABORTED: "bold yellow",
}
_PROBE_STYLE = {"pass": "green", "fail": "red", "inconclusive": "yellow"}
_MARKS = {True: ("●", "green"), False: ("●", "red"), None: ("○", "yellow")}


def snapshot(value: Snapshot, *, timeline: int | None) -> RenderableType:
    """An experiment at one moment: its report where there is one, else its status."""
    if value.report is not None:
        return report(cast("ExperimentReport", value.report), timeline=timeline)
    progress = cast("ChaosProgress | None", value.progress)
    return status(cast("ExperimentStatus", value.status), progress, timeline=timeline)


def status(value: ExperimentStatus, progress: ChaosProgress | None, *, timeline: int | None) -> Group:
    """An experiment under way."""
    rows: list[tuple[str, RenderableType]] = [
        ("service", Text(f"{value.namespace}/{value.service} on {value.mesh}")),
        ("method", _walk(value)),
    ]
    if value.title:
        rows.insert(1, ("hypothesis", Text(value.title)))
    if progress:
        rows.append(("held", _held(progress)))
        if progress.failures:
            rows.append(("failures", Text(f"{progress.failures:,.0f} beyond the normal number", "red")))
        if progress.burn is not None:
            rows.append(("budget", Text(f"burns {progress.burn:.1f} times too fast" if progress.burn > 1 else "holds")))
    if value.reason:
        rows.append(("reason", Text(value.reason)))
    if value.paused_by:
        rows.append(("paused by", Text(value.paused_by, "yellow")))
    rows.append(("next", Text(_next(value))))
    parts: list[RenderableType] = [
        headline(value.workflow_id, value.phase, PHASE_STYLE.get(value.phase, "bold cyan"), value.started),
        facts(rows),
    ]
    effects = progress.effects if progress and progress.effects else value.effects
    if effects:
        parts += [heading("faults"), indented(_effects(effects))]
    probes = (*value.probes, *(progress.probes if progress else ()))
    if probes:
        parts += [heading("probes"), indented(_probes(probes))]
    parts += timeline_of(value.timeline, timeline)
    return Group(*parts)


def report(value: ExperimentReport, *, timeline: int | None) -> Group:
    """An experiment that has ended."""
    rows: list[tuple[str, RenderableType]] = [
        ("service", Text(f"{value.namespace}/{value.service} on {value.mesh}")),
        ("reason", Text(value.reason)),
        ("took", Text(format_seconds(round(value.ended - value.started, 1)))),
        ("exposure", Text(exposure(value.exposure))),
    ]
    if value.burn is not None:
        rows.append(("budget", Text(f"burned at most {value.burn:.1f} times as fast as allowed")))
    if value.restore_seconds is not None:
        rows.append(("restored in", Text(format_seconds(round(value.restore_seconds, 3)))))
    rows += [("left", Text(each, "yellow")) for each in value.left]
    parts: list[RenderableType] = [
        headline(value.workflow_id, f"{value.verdict} ({value.outcome})", VERDICT_STYLE[value.verdict], value.started),
        facts(rows),
    ]
    for step in value.steps:
        parts += _step(step)
    if value.probes:
        parts += [heading("probes"), indented(_probes(value.probes))]
    parts += timeline_of(value.timeline, timeline)
    return Group(*parts)


def _step(step: StepFinding) -> list[RenderableType]:
    took = "" if step.ended is None else f", {format_seconds(round(step.ended - step.started, 1))}"
    parts: list[RenderableType] = [heading(f"step {step.number}: {step.name}{took}: {step.reason}")]
    if step.effects:
        parts.append(indented(_effects(step.effects)))
    changed = [
        hop for hop in step.amplification if hop.during is not None and hop.during - (hop.before or 1.0) >= _SEEN
    ]
    if changed:
        parts.append(indented(_hops(changed)))
    parts += [indented(Text(acted.undone or acted.done)) for acted in step.actions]
    return parts


def _effects(values: Sequence[Effect]) -> Table:
    picture = Table.grid(padding=(0, 2))
    for one in values:
        share = one.share or 0.0
        full = round(share / 100 * BAR)
        bar = Text.assemble(("━" * full, "red"), ("─" * (BAR - full), "dim"))
        seen = Text(f"{one.requests:,.0f} of {one.of:,.0f} requests, {share:.1f} %", "" if one.requests else "yellow")
        tier = Text(f"tier {one.tier}" if one.tier else "", "dim")
        picture.add_row(Text(one.fault), Text(one.scope, "dim"), bar, seen, tier)
    return picture


def _probes(values: Sequence[ProbeRecord]) -> Table:
    picture = Table.grid(padding=(0, 2))
    for one in values:
        when = f"step {one.step}" if one.phase == "during" else one.phase
        verdict = Text(one.verdict, _PROBE_STYLE[one.verdict])
        kind = Text("abort condition" if one.guard else one.type, "dim")
        picture.add_row(Text(one.name), kind, Text(when, "dim"), _looks(one.samples), verdict, Text(one.reason))
    return picture


def _looks(samples: Sequence[Look]) -> Text:
    return Text.assemble(*(_MARKS[look.ok] for look in samples))


def _hops(values: Sequence[Amplification]) -> Table:
    return table(
        ("hop", "tries per request before", "during the fault"),
        [
            (
                f"{one.caller} → {one.service}",
                "-" if one.before is None else f"{one.before:.2f}",
                "-" if one.during is None else f"{one.during:.2f}",
            )
            for one in values
        ],
    )


def _walk(value: ExperimentStatus) -> Text:
    line = Text()
    for number, name in enumerate(value.steps, start=1):
        line.append(" → " if number > 1 else "")
        if number < value.step:
            line.append(f"✓ {name}", "green")
        elif number == value.step:
            line.append(f"▶ {name}", "bold cyan")
        else:
            line.append(name, "dim")
    return line


def _held(progress: ChaosProgress) -> Text:
    if not progress.hold:
        return Text(format_seconds(round(progress.held)))
    full = round(min(1.0, progress.held / progress.hold) * BAR)
    bar = (("━" * full, "cyan"), ("─" * (BAR - full), "dim"))
    return Text.assemble(*bar, f" {format_seconds(round(progress.held))} of {format_seconds(progress.hold)}")


def _next(value: ExperimentStatus) -> str:
    if value.paused_by:
        return f"holds until `autopilot resume {value.workflow_id}`; abort conditions still end it"
    if value.phase is Phase.RESTORING:
        return "the base configuration is being restored"
    if value.phase is Phase.CHECKING:
        return "the method" if not value.step else "the verdict"
    rest = value.steps[value.step :]
    return rest[0] if rest else "restore, then the hypothesis again"
