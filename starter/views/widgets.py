"""What all pictures of operations are made of: headlines, facts, bars, timelines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from autopilot.operations.common import Event, Exposure, Outcome, Phase
from autopilot.spec.values.units import format_seconds

EVIDENCE_BAR = 12
OUTCOME_STYLE = {
    Outcome.PROMOTED: "bold green",
    Outcome.PASSED: "bold green",
    Outcome.REFUTED: "bold red",
    Outcome.VOID: "bold yellow",
    Outcome.ROLLED_BACK: "bold red",
    Outcome.ABORTED: "bold yellow",
    Outcome.TAKEN_OVER: "bold yellow",
    Outcome.INCONCLUSIVE: "bold yellow",
    Outcome.FAILED: "bold red",
}
PHASE_STYLE = {
    **dict.fromkeys((Phase.WAITING, Phase.PAUSED, Phase.UNDECIDED, Phase.HALTED, Phase.QUEUED), "bold yellow"),
    Phase.RESTORING: "bold red",
}


def exposure(value: Exposure) -> str:
    """What users met through the canary."""
    return f"{value.requests:,.0f} requests, {value.failures:,.0f} failed, {format_seconds(round(value.seconds, 1))}"


def clock(seconds: float) -> str:
    """Local time of day, with the date where it was not of late."""
    recent = time.time() - seconds < 12 * 3600
    return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S" if recent else "%Y-%m-%d %H:%M:%S")


def ago(seconds: float) -> str:
    """How long since a moment given in seconds since the epoch, as exactly as it matters."""
    passed = max(0.0, time.time() - seconds)
    grain = 1 if passed < 3600 else 60 if passed < 86400 else 3600
    return format_seconds(passed // grain * grain)


def bar(label: str, value: float, needed: float, style: str) -> Text:
    """How much of so much needed, as a bar and in numbers."""
    share = min(1.0, max(0.0, value / needed)) if needed > 0 else 0.0
    full = round(share * EVIDENCE_BAR)
    bar = (("━" * full, style), ("─" * (EVIDENCE_BAR - full), "dim"))
    return Text.assemble(f"{label} ", *bar, f" {value:.1f} of {needed:.1f} needed", no_wrap=True)


def headline(workflow_id: str, word: str, style: str, started: float) -> Text:
    """The first line: which operation, how it stands, and since when."""
    line = Text.assemble((workflow_id, "bold"), "  ", (str(word), style))
    return line.append(f"  started {clock(started)}, {ago(started)} ago", "dim") if started else line


def heading(text: str) -> Text:
    """The title of a part."""
    return Text(text, "bold")


def indented(picture: RenderableType) -> Padding:
    """The title of a part."""
    return Padding(picture, (0, 0, 0, 2))


def facts(rows: Sequence[tuple[str, RenderableType]]) -> Padding:
    """The first line: which operation, how it stands, and since when."""
    picture = Table.grid(padding=(0, 2))
    for name, value in rows:
        picture.add_row(Text(name, "dim"), value)
    return indented(picture)


def timeline_of(events: Sequence[Event], limit: int | None) -> list[RenderableType]:
    """How much of so much needed, as a bar and in numbers."""
    shown = events if limit is None else events[max(0, len(events) - limit) :]
    if not shown:
        return []
    picture = Table.grid(padding=(0, 2))
    for event in shown:
        picture.add_row(Text(clock(event.time), "dim"), line_of(event))
    return [heading("timeline"), indented(picture)]


def line_of(event: Event) -> Text:
    """What happened, and who asked for it."""
    return Text(event.text).append(f"  {event.who}" if event.who and event.who not in event.text else "", "dim")
