"""Draws the embedded stack: its parts as they come and go, where everything is, and what to try next."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from autopilot.local.record import StackEvent, StackInfo


def tell(out: Console, event: StackEvent) -> None:
    """One line for every part that came up or went down."""
    from rich.markup import escape  # noqa: PLC0415

    from autopilot.local.record import Condition  # noqa: PLC0415

    part = event.part
    if part is None:
        if event.kind in {"note", "stopping", "stopped"}:
            out.print(f"  [yellow]·[/] {escape(event.text or event.kind)}")
    elif part.condition is Condition.READY:
        out.print(f"  [green]✓[/] {part.name:<18} [dim]ready after {part.seconds or 0:.1f} s[/]")
    elif part.condition in {Condition.FAILED, Condition.RESTARTING}:
        out.print(f"  [red]✗[/] {part.name:<18} {escape(part.detail)} [dim]· {escape(str(part.log))}[/]")


def panel(info: StackInfo, *, title: str, stop: str) -> RenderableType:
    """Where everything is, and what to try next."""
    from rich.console import Group  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.panel import Panel  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from autopilot.local.record import Condition  # noqa: PLC0415

    rows = {
        "shop": info.ingress,
        "load": f"{info.load}/counts" if info.load else None,
        "Temporal UI": info.ui,
        "Temporal": info.temporal,
        "Prometheus": info.prometheus,
        "mesh": str(info.mesh_file),
        "state": f"{info.root} (logs in {info.logs.name}/)",
        **{part.name: f"{part.condition}: {part.detail}" for part in info.parts.values() if _troubled(part.condition)},
        "stack": None if info.condition is Condition.READY else f"is {info.condition}",
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            table.add_row(name, escape(value))
    for note in info.notes:
        table.add_row("note", escape(note))
    following = ["Next:  autopilot apply -f examples/canary.yaml --wait"] if "worker" in info.parts else []
    return Panel(Group(table, "", *following, f"Stop:  {stop}"), title=f"the stack {title}", expand=False)


def _troubled(condition: str) -> bool:
    from autopilot.local.record import Condition  # noqa: PLC0415

    return condition not in {Condition.READY, Condition.STARTING}
