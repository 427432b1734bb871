"""What pictures of plans share: who restores, and diffs in colours."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from autopilot.mesh.model import Tier

TIERS = {
    Tier.PROXY: "A: the proxies restore the base themselves when the deadline passes",
    Tier.GUARD: "B: any live guard restores",
    Tier.CONTROLLER: "C: restored when a controller returns",
}


def diff_of(text: str) -> Text:
    """A unified diff, coloured."""
    picture = Text()
    for line in text.splitlines(keepends=True):
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        picture.append(line, "bold" if line.startswith(("+++", "---")) else style)
    return picture


def outlook(tier: Tier | None, holders: Sequence[str], problems: Sequence[str]) -> list[RenderableType]:
    """Who restores, who holds the target, and what stands against starting."""
    parts: list[RenderableType] = []
    if tier is not None:
        parts.append(Text(f"  if worker, guard and Temporal all die: tier {TIERS[tier]}"))
    if holders:
        parts.append(Text(f"  held by {', '.join(holders)}", "yellow"))
    return [*parts, *(Text(f"  would not start: {problem}", "red") for problem in problems)]


def written(what: str, diff: str, *, planned: bool) -> list[RenderableType]:
    """What would be written, as a diff."""
    parts: list[RenderableType] = []
    if diff:
        parts += [Text(f"  {what} writes", "dim"), Padding(diff_of(diff), (0, 0, 0, 2))]
    elif planned:
        parts.append(Text(f"  {what} changes nothing", "dim"))
    return [*parts, Text("")]
