"""Details of an operation in Temporal's UI: markdown, made from its status alone."""

from __future__ import annotations

from datetime import UTC, datetime

from autopilot.evidence.model import Evidence
from autopilot.operations.canary_status import CanaryStatus
from autopilot.operations.common import Event
from autopilot.operations.experiment_status import ExperimentStatus

LINES = 12
"""Lines of the timeline, and records of probes, that are shown."""


def canary_details(status: CanaryStatus) -> str:
    """Weights, what the rollout waits for, evidence, and the last lines of the timeline."""
    walk = " → ".join(
        f"**{weight:g} %**" if number == status.step else f"{weight:g} %"
        for number, weight in enumerate(status.steps, start=1)
    )
    lines = [
        f"### {status.service}: {status.stable} → {status.canary}",
        f"**{status.outcome.value if status.outcome else status.phase.value}**"
        + (f": {status.reason}" if status.reason else ""),
        "",
        f"Weight of {status.canary}: {status.weight:g} %  (steps: {walk})",
    ]
    if status.waiting_for:
        lines += ["", f"Waiting for {status.waiting_for}"]
    if status.evidence:
        live = f"`autopilot get {status.workflow_id}` shows it live"
        lines += ["", f"Evidence as of {_clock(status.evidence_time)}; {live}."]
        lines += [
            "",
            "| metric | canary | stable | evidence of harm | harm excluded |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {item.metric} | {_share(item.canary)} | {_share(item.stable)} "
            f"| {max(0.0, item.harm):.1f} of {item.harm_needed:.1f} needed | {_excluded(item)} |"
            for item in status.evidence
        ]
    lines += ["", *(_line(event) for event in status.timeline[-LINES:])]
    return "\n".join(lines)


def experiment_details(status: ExperimentStatus) -> str:
    """Method, effects of the faults, probes of the hypothesis, and the last lines of the timeline."""
    walk = " → ".join(
        f"**{name}**" if number == status.step else name for number, name in enumerate(status.steps, start=1)
    )
    word = status.verdict.value if status.verdict else status.phase.value
    lines = [
        f"### {status.service}: {status.title or 'experiment'}",
        f"**{word}**" + (f": {status.reason}" if status.reason else ""),
        "",
        f"Method: {walk}",
    ]
    if status.effects:
        lines += ["", "| fault | scope | applied to |", "| --- | --- | --- |"]
        lines += [
            f"| {one.fault} | {one.scope} | {one.requests:.0f} of {one.of:.0f} requests |" for one in status.effects
        ]
    if status.probes:
        lines += ["", "| probe | when | verdict |", "| --- | --- | --- |"]
        lines += [f"| {one.name} | {one.phase} | {one.verdict} {one.reason} |" for one in status.probes[-LINES:]]
    lines += ["", *(_line(event) for event in status.timeline[-LINES:])]
    return "\n".join(lines)


def _excluded(item: Evidence) -> str:
    if item.excluded is None or item.excluded_needed is None:
        return "-"
    return f"{max(0.0, item.excluded):.1f} of {item.excluded_needed:.1f} needed"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _line(event: Event) -> str:
    return f"* {_clock(event.time)} {event.text}" + (
        f" ({event.who})" if event.who and event.who not in event.text else ""
    )


def _clock(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%H:%M:%S")
