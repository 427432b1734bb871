"""`list`, `get`, `watch` and `status`: looking at operations, changing nothing."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starter.cli.options import Identity, OutputOption, Timeout
from starter.views.output import console, emit, note, show, table
from starter.views.output_format import Output

if TYPE_CHECKING:
    from temporalio.client import Client

    from starter.client.operation_watch import Snapshot

FOREVER = 366 * 86400.0


async def list_(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also those that have ended.")] = False,
    output: OutputOption = Output.TABLE,
) -> int:
    """List running operations; with --all, also ended ones that Temporal still retains."""
    from starter.client import operations  # noqa: PLC0415

    rows = await operations.list_operations(await operations.connect(), running_only=not everything)
    if output.machine:
        emit(rows, output)
        return 0
    if not rows:
        note(
            "no operation is running; start one with `autopilot apply -f FILE`"
            if not everything
            else "no operation has run yet"
        )
        return 0
    columns = ["id", "target", "phase", "outcome", "started"]
    columns += ["ended", "kind", "mesh"] if output is Output.WIDE else []
    show(table(columns, [_row(row, wide=output is Output.WIDE) for row in rows]))
    return 0


def _row(row: Any, *, wide: bool) -> list[str]:
    cells = [row.workflow_id, row.target, row.phase or "-", row.outcome or "-", _moment(row.started)]
    return [*cells, _moment(row.closed), row.kind, row.mesh] if wide else cells


def _moment(value: datetime | float | None) -> str:
    if value is None:
        return "-"
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


async def get(name: Identity, output: OutputOption = Output.TABLE) -> int:
    """Show one operation as it stands, or as it ended; -o wide shows its whole timeline."""
    from starter.client.operation_watch import look  # noqa: PLC0415

    client, workflow_id = await _find(name)
    snapshot = await look(client, workflow_id)
    if output.machine:
        emit(plain(snapshot), output)
    else:
        from starter.views import by_kind  # noqa: PLC0415

        show(by_kind.snapshot(snapshot, timeline=None if output is Output.WIDE else by_kind.TIMELINE))
    return 0


async def watch(name: Identity, timeout: Timeout = FOREVER) -> int:
    """Follow one operation live until it ends: weights set and measured, requests, evidence, what comes next.

    Ctrl-C stops watching; the operation continues. Exit codes: 0 promoted or passed, 1 error, 2 rolled back or refuted,
    3 undecided or void, 4 aborted.
    """
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from starter.client.operation_watch import Snapshot, follow  # noqa: PLC0415
    from starter.views import by_kind  # noqa: PLC0415

    client, workflow_id = await _find(name)
    out = console()
    snapshot = Snapshot(workflow_id)
    if not out.is_terminal:
        return await _log(client, workflow_id, timeout)
    with Live(Text(workflow_id), console=out, refresh_per_second=4, transient=False) as live:
        async for snapshot in follow(client, workflow_id, timeout=timeout):
            live.update(by_kind.snapshot(snapshot), refresh=True)
    return snapshot.code


async def _log(client: Client, workflow_id: str, timeout: float) -> int:
    """Where nobody's terminal is: one line an event, then how it ended."""
    from autopilot.operations.bounds import news  # noqa: PLC0415
    from starter.client.operation_watch import Snapshot, follow  # noqa: PLC0415
    from starter.views import by_kind  # noqa: PLC0415
    from starter.views.widgets import clock  # noqa: PLC0415

    snapshot, told, noted = Snapshot(workflow_id), None, ""
    async for snapshot in follow(client, workflow_id, timeout=timeout):
        if snapshot.note and snapshot.note != noted:
            note(f"{workflow_id}: {snapshot.note}")
        noted = snapshot.note
        events = snapshot.status.timeline if snapshot.status else snapshot.report.timeline if snapshot.report else ()
        for event in news(events, told):
            print(f"{clock(event.time)} {event.text}", flush=True)
        told = events[-1] if events else told
    show(by_kind.snapshot(snapshot, timeline=0))
    return snapshot.code


async def status(name: Identity, timeout: Timeout = 0.0, output: OutputOption = Output.TABLE) -> int:
    """Give an operation's outcome as an exit code; wait for its end up to --timeout (default: no wait).

    Exit codes: 0 promoted or passed, 1 error, 2 rolled back or refuted, 3 undecided (inconclusive, void, or still
    running at the timeout), 4 aborted.
    """
    from starter.client.operation_watch import UNDECIDED, Snapshot, follow  # noqa: PLC0415

    client, workflow_id = await _find(name)
    snapshot = Snapshot(workflow_id)
    async for latest in follow(client, workflow_id, timeout=timeout):
        snapshot = latest
    if output.machine:
        emit(plain(snapshot) | {"exit_code": snapshot.code}, output)
    elif output is Output.WIDE:
        from starter.views import by_kind  # noqa: PLC0415

        show(by_kind.snapshot(snapshot, timeline=None))
    else:
        print(_sentence(snapshot))
    if snapshot.code == UNDECIDED and snapshot.report is None and timeout:
        print(f"still running after {timeout:g} s; the operation continues", file=sys.stderr)
    return snapshot.code


def plain(snapshot: Snapshot) -> dict[str, Any]:
    """What a program reads: the report of an operation that has ended, else its status and the step under way."""
    if snapshot.report is not None:
        return {"running": False, **snapshot.report.model_dump(mode="json")}
    status_ = snapshot.status.model_dump(mode="json") if snapshot.status else {"note": snapshot.note}
    progress = snapshot.progress.model_dump(mode="json") if snapshot.progress else None
    return {"running": True, "workflow_id": snapshot.workflow_id, **status_, "progress": progress}


def _sentence(snapshot: Snapshot) -> str:
    if snapshot.report is not None:
        return f"{snapshot.workflow_id} {snapshot.report.outcome}: {snapshot.report.reason}"
    if snapshot.status is not None:
        standing = f": {snapshot.status.standing}" if snapshot.status.standing else ""
        return f"{snapshot.workflow_id} {snapshot.status.phase}{standing}"
    return f"{snapshot.workflow_id} is running, but {snapshot.note}"


async def _find(name: str) -> tuple[Client, str]:
    from starter.client import operations  # noqa: PLC0415

    client = await operations.connect()
    return client, await operations.resolve(client, name)
