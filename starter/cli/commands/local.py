"""`autopilot up`, `down` and `demo`: the embedded stack on this machine.

Only what `--help` needs is imported at the top; the rest loads when a command runs.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.options import OutputOption
from starter.views.output import console
from starter.views.output_format import Output
from starter.views.stack import panel, tell

if TYPE_CHECKING:
    from rich.console import Console

    from autopilot.local import stack

INTERRUPTED = 130

State = Annotated[
    Path | None,
    typer.Option(
        "--state", help="State directory. Default: $AUTOPILOT_HOME, else .autopilot here.", show_default=False
    ),
]


def up(
    state: State = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all parts are ready; stop with `autopilot down`.")
    ] = False,
    only: Annotated[
        str, typer.Option("--only", help="Comma-separated: mesh, temporal, prometheus, worker, guard. Default: all.")
    ] = "",
    rate: Annotated[float, typer.Option("--rate", min=0, max=5000, help="Requests a second of sample load.")] = 100.0,
) -> int:
    """Start a mesh of Envoys with a sample shop and load, Temporal, Prometheus, the worker and the guard.

    Ctrl-C stops everything. Exit code 0: stopped as asked, ready (--detach), or it runs already; 1: a part failed;
    130: interrupted before all was ready.
    """
    from autopilot.local import stack  # noqa: PLC0415
    from autopilot.local.parts import GROUPS, check_groups  # noqa: PLC0415

    out = console()
    groups = check_groups(tuple(filter(None, (name.strip() for name in only.split(",")))) or GROUPS)
    with ends_like_ctrl_c():
        try:
            running = stack.start(
                state, detach=detach, parts=groups, rate=rate, on_event=lambda event: tell(out, event)
            )
        except stack.StackRunning as already:
            out.print(panel(already.info, title="runs already", stop="autopilot down"))
            return 0
        except KeyboardInterrupt:
            return INTERRUPTED
        if detach:
            out.print(panel(running.info, title="is ready", stop="autopilot down"))
            return 0
        return _follow(running, out)


def _follow(running: stack.Stack, out: Console) -> int:
    """Tells what happens until it ends, by Ctrl-C, by `autopilot down`, or by itself."""
    from autopilot.local import stack  # noqa: PLC0415

    asked = False
    try:
        out.print(panel(running.info, title="is ready", stop="Ctrl-C"))
        for event in running.events():
            tell(out, event)
            asked = asked or event.kind == "stopped"
    except KeyboardInterrupt:
        out.print("stopping; Ctrl-C again stops at once")
        running.stop(lambda event: tell(out, event))
        return 0
    if not asked:
        raise stack.StackError("another process ended the stack; start it again with `autopilot up`")
    return 0


def down(state: State = None) -> int:
    """Stop the stack that `autopilot up` started in this state directory."""
    from autopilot.local import stack  # noqa: PLC0415
    from autopilot.local.layout import Layout  # noqa: PLC0415

    stopped = stack.stop(state)
    if stopped is None:
        print(f"nothing runs in {Layout.find(state).root}")
    else:
        print(f"stopped {len(stopped.parts)} parts; state and logs stay in {stopped.root}")
    return 0


def demo(
    scenario: Annotated[
        list[str] | None, typer.Argument(metavar="[SCENARIO]...", help="Scenarios to run; default: all. See --list.")
    ] = None,
    state: State = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running afterwards.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the scenarios and exit.")] = False,
    output: OutputOption = Output.TABLE,
) -> int:
    """Show good and bad versions under real traffic, on real Envoys.

    Starts the stack if it does not run, and stops it afterwards. Exit code 0: every scenario ended as it should;
    1: one did not.
    """
    from starter.demo.scenarios import choose  # noqa: PLC0415

    chosen = choose(scenario or [])
    if list_:
        for item in chosen:
            print(f"{item.name:<22} {item.story}")
        return 0
    from starter.demo import runner as demonstration  # noqa: PLC0415

    with ends_like_ctrl_c():
        try:
            return demonstration.main(chosen, state=state, keep=keep, output=output)
        except KeyboardInterrupt:
            return INTERRUPTED


@contextmanager
def ends_like_ctrl_c() -> Iterator[None]:
    """A terminal that closes, or `kill`, ends a command in the same clean way as Ctrl-C."""
    before = {signum: signal.signal(signum, signal.default_int_handler) for signum in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
