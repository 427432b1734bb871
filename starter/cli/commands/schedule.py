"""`autopilot schedule …`: recurring operations, and why each of their runs began or did not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.lazy_commands import Entry
from starter.cli.options import Files, MeshOption, OutputOption, Reason, Who
from starter.client.errors import ERROR, CommandError
from starter.views.output_format import Output

if TYPE_CHECKING:
    from pathlib import Path

    from rich.text import Text
    from temporalio.client import Client

    from autopilot.operations.common import Caller, InputLike
    from autopilot.reports.schedule import Missed, RunRecord
    from starter.client.schedules import ScheduleRow

_SECTION = "Commands"
ENTRIES = tuple(
    Entry(name, text, f"starter.cli.commands.schedule:{function}", _SECTION)
    for name, text, function in (
        ("create", "Create the schedules in a file, or update them.", "create"),
        ("list", "List schedules: next run and last result.", "list_"),
        ("runs", "Show the last runs of a schedule, with reasons.", "runs"),
        ("pause", "Stop starting runs; a run in progress continues.", "pause"),
        ("resume", "Start runs again; missed runs are not made up.", "resume"),
        ("trigger", "Run now, even outside its windows.", "trigger"),
        ("delete", "Remove a schedule; a run in progress continues.", "delete"),
    )
)
Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="chaos-schedule/MESH/NAMESPACE/NAME, NAMESPACE/NAME, or a unique NAME."),
]


async def create(files: Files, mesh: MeshOption = None, who: Who = None, output: OutputOption = Output.TABLE) -> int:
    """Create the schedules of operations that have spec.schedule; nothing runs at once.

    An existing schedule is updated; a paused one stays paused.
    """
    from autopilot.reports.schedule_rules import clock_notes  # noqa: PLC0415
    from starter.client import operations, start_schedule  # noqa: PLC0415
    from starter.client.identity import caller  # noqa: PLC0415
    from starter.views.output import emit, note, show  # noqa: PLC0415

    wanted = await _wanted(files, mesh, caller(who))
    client = await operations.connect()
    made = [await start_schedule.put(client, each) for each in wanted]
    now = datetime.now(UTC)
    clocks = [clock_notes(each.spec.schedule, now) if each.spec.schedule else [] for each in wanted]
    if output.machine:
        emit([{"schedule": each, "clocks": told} for each, told in zip(made, clocks, strict=True)], output)
        return 0
    for each, told in zip(made, clocks, strict=True):
        show(f"scheduled {each}")
        for line in told:
            note(line)
    note(f"`autopilot schedule list` shows the next run, `autopilot schedule runs {made[0]}` the results")
    return 0


async def _wanted(files: list[Path], mesh: Path | None, asks: Caller) -> list[InputLike]:
    """Every operation of the files, all of them with a schedule.

    Raises:
        SpecError: a file is wrong.
        CommandError: it holds something that cannot be scheduled.
    """
    from autopilot.operations.asked import Asked  # noqa: PLC0415
    from starter.client import manifests, preflight  # noqa: PLC0415
    from starter.client.environment import heartbeat_timeout  # noqa: PLC0415

    found = manifests.read(files)
    for each in found:
        ref, spec = f"{each.file}: {each.kind.document} {each.document.metadata.name}", each.document.spec
        if "schedule" not in type(spec).model_fields:
            raise CommandError(f"{ref} cannot be scheduled", hint="only kinds that have spec.schedule can")
        if getattr(spec, "schedule", None) is None:
            raise CommandError(f"{ref} has no spec.schedule", hint="write spec.schedule.cron, or `autopilot apply` it")
    driven = ""
    if any(each.document.spec.target.mesh is None for each in found):
        async with preflight.open_mesh(mesh) as opened:
            driven = opened.name
    return [
        each.kind.load("request")(
            each.document,
            Asked(mesh=each.document.spec.target.mesh or driven, caller=asks, heartbeat_timeout=heartbeat_timeout()),
        )
        for each in found
    ]


async def list_(output: OutputOption = Output.TABLE) -> int:
    """List the schedules: next run, last result with its reason, and which are paused."""
    from starter.client import operations, schedules  # noqa: PLC0415
    from starter.views.output import emit, note, show, table  # noqa: PLC0415

    rows = await schedules.list_schedules(await operations.connect())
    if output.machine:
        emit(rows, output)
        return 0
    if not rows:
        note("there are no schedules; create one with `autopilot schedule create -f FILE`")
        return 0
    wide = output is Output.WIDE
    columns = ["schedule", "cron", "next", "last", "result"]
    columns += ["target", "too late", "dropped"] if wide else []
    show(table(columns, [_row(row, wide=wide) for row in rows]))
    return 0


def _row(row: ScheduleRow, *, wide: bool) -> list[str | Text]:
    from rich.text import Text  # noqa: PLC0415

    last = row.last
    paused = Text(f"paused: {row.note or 'no reason given'}", "yellow")
    came = f"{last.decision}: {last.reason}" if last else "-"
    cells: list[str | Text] = [
        row.id,
        f"{row.cron} {row.time_zone}",
        paused if row.paused else _moment(row.next),
        _moment(last.scheduled if last else None),
        came,
    ]
    return [*cells, row.target, str(row.late), str(row.dropped)] if wide else cells


async def runs(
    name: Name,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="Maximum number of runs.")] = 20,
    output: OutputOption = Output.TABLE,
) -> int:
    """Show the last runs of a schedule, newest first: why each started or did not, and which runs were missed.

    Temporal forgets them after its retention; the worker keeps every record in the folder `schedules` of its reports.
    """
    from starter.client import schedules  # noqa: PLC0415
    from starter.views.output import emit, note, show, table  # noqa: PLC0415

    client, schedule = await _find(name)
    records = await schedules.runs(client, schedule, limit=limit)
    if output.machine:
        emit(records, output)
        return 0
    if not records:
        note(f"{schedule} has not run yet")
        return 0
    rows = [cells for record in records for cells in _lines(record)]
    show(table(["due", "decision", "by", "reason"], rows))
    return 0


def _lines(record: RunRecord) -> list[list[str | Text]]:
    """The record, and below it what was missed before it."""
    from rich.text import Text  # noqa: PLC0415

    colours = {"started": "green", "waiting": "yellow", "skipped": ""}
    decision = Text(record.decision, colours[record.decision])
    lines: list[list[str | Text]] = [[_moment(record.scheduled), decision, record.by or "cron", record.reason]]
    if record.more_missed:
        lines.append(["and more", Text("missed", "red"), "cron", "too many to list"])
    lines += [
        [_span(each), Text(f"missed {each.count}", "red"), "cron", each.reason] for each in reversed(record.missed)
    ]
    return lines


def _span(group: Missed) -> str:
    first = _moment(group.first)
    return first if group.count == 1 else f"{first} to {_moment(group.last)}"


async def pause(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why; shown as the reason of every run that is skipped.")],
    who: Who = None,
) -> int:
    """Stop starting runs; a run in progress continues (`autopilot abort` ends it).

    Exit codes: 0 paused, 1 it was paused already (the earlier reason is kept).
    """
    from starter.client import schedules  # noqa: PLC0415
    from starter.client.identity import caller  # noqa: PLC0415
    from starter.views.output import note, show  # noqa: PLC0415

    if not reason.strip():
        raise CommandError("a pause needs a reason, because it is shown for every skipped run", hint="add --reason '…'")
    client, schedule = await _find(name)
    if await schedules.pause(client, schedule, caller(who), reason):
        show(f"paused {schedule}")
        return 0
    note(f"{schedule} was paused already; `autopilot schedule list` shows why")
    return ERROR


async def resume(name: Name, reason: Reason = "", who: Who = None) -> int:
    """Start runs again from the next due time; runs missed during the pause are not made up.

    Exit codes: 0 resumed, 1 it was not paused.
    """
    from starter.client import schedules  # noqa: PLC0415
    from starter.client.identity import caller  # noqa: PLC0415
    from starter.views.output import note, show  # noqa: PLC0415

    client, schedule = await _find(name)
    if await schedules.resume(client, schedule, caller(who), reason):
        show(f"resumed {schedule}")
        return 0
    note(f"{schedule} was not paused")
    return ERROR


async def trigger(
    name: Name,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Run during the schedule's own freeze; needs --reason.")
    ] = False,
    reason: Reason = "",
    who: Who = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Run now, even outside its windows or while it is paused; a freeze or a run in progress still prevents it.

    --force overrides the schedule's own freeze, but neither the administrator's freeze nor a halt.
    Exit codes: 0 it started (or waits for the run before it), 1 it did not.
    """
    from autopilot.reports.schedule import ManualRun  # noqa: PLC0415
    from starter.client import start_schedule  # noqa: PLC0415
    from starter.client.identity import caller  # noqa: PLC0415
    from starter.views.output import emit, note, show  # noqa: PLC0415

    if force and not reason.strip():
        raise CommandError("--force needs a reason, because it overrides a freeze", hint="add --reason '…'")
    client, schedule = await _find(name)
    record = await start_schedule.trigger(client, schedule, ManualRun(caller=caller(who), reason=reason, force=force))
    if output.machine:
        emit(record, output)
    elif record.decision == "started":
        show(f"started {record.experiment}")
        note(f"follow it with `autopilot watch {record.experiment}`")
    else:
        show(f"{record.decision}: {record.reason}")
    return ERROR if record.decision == "skipped" else 0


async def delete(name: Name) -> int:
    """Remove a schedule; a run in progress continues, and its records are kept."""
    from starter.client import schedules  # noqa: PLC0415
    from starter.views.output import show  # noqa: PLC0415

    client, schedule = await _find(name)
    await schedules.delete(client, schedule)
    show(f"deleted {schedule}")
    return 0


async def _find(name: str) -> tuple[Client, str]:
    from starter.client import operations, schedules  # noqa: PLC0415

    client = await operations.connect()
    return client, await schedules.resolve(client, name)


def _moment(value: datetime | float | None) -> str:
    if value is None:
        return "-"
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
