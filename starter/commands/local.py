"""`autopilot up` and `autopilot down`: the embedded stack on this machine.

Only what `--help` needs is imported at the top; the rest loads when a command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from autopilot.local.record import StackEvent, StackInfo

STATE = typer.Option(
    "--state", help="State directory. Default: $AUTOPILOT_HOME, else .autopilot here.", show_default=False
)


def up(
    state: Annotated[Path | None, STATE] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once all is ready; `autopilot down` ends it.")
    ] = False,
    only: Annotated[
        str, typer.Option("--only", help="Comma-separated: mesh, temporal, prometheus, worker, guard. Default: all.")
    ] = "",
    rate: Annotated[float, typer.Option("--rate", min=0, max=5000, help="Requests a second of sample load.")] = 100.0,
) -> None:
    """Starts a mesh of Envoys with a sample shop and load, Temporal, Prometheus, the worker and the guard.

    Ctrl-C stops everything. Exit code 0: stopped as asked, ready (--detach), or it runs already; 1: a part failed.
    """
    import signal  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415

    from autopilot.local import stack  # noqa: PLC0415
    from autopilot.local.parts import GROUPS, UnknownPart  # noqa: PLC0415

    console = Console(stderr=False, highlight=False)
    # A terminal that closes, or `kill`, ends it as Ctrl-C does.
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
    groups = tuple(filter(None, (name.strip() for name in only.split(",")))) or GROUPS
    try:
        running = stack.start(
            state, detach=detach, parts=groups, rate=rate, on_event=lambda event: _tell(console, event)
        )
        console.print(_panel(running.info, detached=detach))
        if detach:
            return
        try:
            for event in running.events():
                _tell(console, event)
        except KeyboardInterrupt:
            console.print("stopping (Ctrl-C again: at once)")
            running.stop(lambda event: _tell(console, event))
    except stack.StackRunning as running_already:
        console.print(_panel(running_already.info, detached=True, title="runs already"))
    except UnknownPart as error:
        raise typer.BadParameter(str(error), param_hint="--only") from None
    except stack.StackError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]autopilot up:[/] {_plain(str(error))}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def down(state: Annotated[Path | None, STATE] = None) -> None:
    """Stops whatever `autopilot up` started in this state directory; says so where nothing runs."""
    from rich.console import Console  # noqa: PLC0415

    from autopilot.local import stack  # noqa: PLC0415
    from autopilot.local.layout import Layout  # noqa: PLC0415

    console = Console(highlight=False)
    try:
        stopped = stack.stop(state)
    except stack.StackError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]autopilot down:[/] {_plain(str(error))}")
        raise typer.Exit(1) from None
    if stopped is None:
        console.print(f"nothing runs in {_plain(str(Layout.find(state).root))}")
    else:
        console.print(f"stopped {len(stopped.parts)} parts; state and logs stay in {_plain(str(stopped.root))}")


def _plain(text: str) -> str:
    from rich.markup import escape  # noqa: PLC0415

    return escape(text)


def _tell(console: Console, event: StackEvent) -> None:
    """One line for every part that came up or went down."""
    from autopilot.local.record import Condition  # noqa: PLC0415

    if event.part is None:
        if event.kind in {"note", "stopping"}:
            console.print(f"  [yellow]·[/] {_plain(event.text or 'stopping')}")
        elif event.kind == "stopped":
            console.print("stopped")
        return
    part = event.part
    match part.condition:
        case Condition.READY:
            console.print(f"  [green]✓[/] {part.name:<18} [dim]ready after {part.seconds or 0:.1f} s[/]")
        case Condition.FAILED | Condition.RESTARTING:
            console.print(f"  [red]✗[/] {part.name:<18} {_plain(part.detail)}  [dim]{_plain(str(part.log))}[/]")
        case _:
            pass


def _panel(info: StackInfo, *, detached: bool, title: str = "ready") -> object:
    """Where everything is, and what to try next."""
    from rich.console import Group  # noqa: PLC0415
    from rich.panel import Panel  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from autopilot.local.record import Condition  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = {
        "shop": info.ingress,
        "load": f"{info.load}/counts" if info.load else None,
        "Temporal UI": info.ui,
        "Temporal": info.temporal,
        "Prometheus": info.prometheus,
        "mesh": str(info.mesh_file),
        "logs": str(info.logs),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, _plain(value))
    troubled = [part for part in info.parts.values() if part.condition not in {Condition.READY, Condition.STARTING}]
    for part in troubled:
        table.add_row(part.name, f"[red]{part.condition}[/] {_plain(part.detail)}")
    for note in info.notes:
        table.add_row("note", _plain(note))
    steps = ["Next: autopilot apply -f examples/canary.yaml --wait"] if info.temporal else []
    steps.append("Stop: autopilot down" if detached else "Stop: Ctrl-C, or autopilot down elsewhere")
    state = str(info.condition) if title != "ready" and info.condition is not Condition.READY else ""
    return Panel(Group(table, "", *steps), title=f"autopilot {title} {state}".strip(), expand=False)
