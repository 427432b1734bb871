"""`autopilot apply`: starts the operations that files describe, all of them or none."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from autopilot.kinds import is_schedule
from autopilot.operations.asked import Asked
from autopilot.operations.bounds import news
from autopilot.operations.common import Caller
from starter.cli.errors import explain
from starter.cli.options import Files, MeshOption, OutputOption, Timeout, Who
from starter.client.environment import heartbeat_timeout
from starter.client.errors import CommandError
from starter.client.identity import caller
from starter.client.manifests import Manifest, check_all, read
from starter.client.operation_watch import Snapshot, follow, worst
from starter.views import by_kind
from starter.views.output import emit, note, show
from starter.views.output_format import Output
from starter.views.widgets import clock

if TYPE_CHECKING:
    from temporalio.client import Client


async def apply(
    files: Files,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; the exit code gives the outcome.")] = False,
    timeout: Timeout = 86400.0,
    queue: Annotated[
        bool, typer.Option("--queue", help="Wait in a queue while another operation holds the target.")
    ] = False,
    mesh: MeshOption = None,
    who: Who = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Start the operations in the files. All files are checked first; nothing starts if any check fails.

    An experiment with spec.schedule creates its schedule and does not run at once. --timeout limits --wait. Exit codes
    with --wait: 0 promoted or passed, 1 error, 2 rolled back or refuted, 3 undecided or void (or still running at the
    timeout), 4 aborted; of several operations the worst (1, 2, 4, 3, 0). Without --wait: 0 started, 1 error.
    """
    from starter.client import operations, preflight  # noqa: PLC0415

    manifests = read(files)
    async with preflight.open_mesh(mesh) as opened:
        await check_all(opened, manifests, queue=queue)
        name = opened.name
    client = await operations.connect()
    started = await _start(client, manifests, name, caller(who), queue=queue)
    if not wait:
        if output.machine:
            emit([{"workflow_id": each} for each in started], output)
        else:
            for each in started:
                show(f"scheduled {each}" if is_schedule(each) else f"started {each}")
            if running := [each for each in started if not is_schedule(each)]:
                note(f"follow it with `autopilot watch {running[0]}`")
            await _warn_of_no_worker(client, name)
        return 0
    waited = [each for each in started if not is_schedule(each)]
    ends = await asyncio.gather(*(_end(client, each, timeout, quiet=output.machine) for each in waited))
    if output.machine:
        emit([end.report or end.status for end in ends], output)
    else:
        for end in ends:
            show(by_kind.snapshot(end, timeline=None))
    return worst([end.code for end in ends]) if ends else 0


async def _start(client: Client, manifests: list[Manifest], mesh: str, asks: Caller, *, queue: bool) -> list[str]:

    started: list[str] = []
    for manifest in manifests:
        try:
            started.append(await _begin(client, manifest, mesh, asks, queue=queue))
        except Exception as error:
            if not started:
                raise
            failure = explain(error)  # what was started before goes on: say so
            message = f"{manifest.file}: {manifest.ref}: {failure.message}\nstarted before it: {', '.join(started)}"
            raise CommandError(message, hint=failure.hint, code=failure.code) from error
    return started


async def _begin(client: Client, manifest: Manifest, mesh: str, asks: Caller, *, queue: bool) -> str:
    """Starts one operation, or has it run by itself; returns its id."""
    from starter.client import start  # noqa: PLC0415

    asked = Asked(mesh=mesh, caller=asks, heartbeat_timeout=heartbeat_timeout(), queue=queue)
    given = manifest.kind.load("request")(manifest.document, asked)
    if (schedule := getattr(manifest.document.spec, "schedule", None)) is None:
        await start.start_operation(client, given)
        return str(given.workflow_id)
    from autopilot.reports.schedule_rules import clock_notes  # noqa: PLC0415
    from starter.client import start_schedule  # noqa: PLC0415

    made = await start_schedule.put(client, given)
    for line in clock_notes(schedule, datetime.now(UTC)):
        note(line)
    return made


async def _warn_of_no_worker(client: Client, mesh: str) -> None:
    from starter.client import start  # noqa: PLC0415

    if not all((await start.workers(client, mesh)).values()):
        note(
            f"no worker that drives mesh {mesh} polls Temporal yet: operations wait until one runs; "
            "start `autopilot worker` or `autopilot up`"
        )


async def _end(client: Client, workflow_id: str, timeout: float, *, quiet: bool) -> Snapshot:
    """Follows one rollout, its timeline going to standard error as it grows."""
    last, told = Snapshot(workflow_id), None
    async for last in follow(client, workflow_id, timeout=timeout):
        events = last.report.timeline if last.report else last.status.timeline if last.status else ()
        for event in () if quiet else news(events, told):
            note(f"{clock(event.time)} {workflow_id}: {event.text}")
        told = events[-1] if events else told
    return last
