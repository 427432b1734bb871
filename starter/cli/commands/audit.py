"""`autopilot audit`: every change of a mesh as a record, and whether somebody rewrote them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.options import MeshOption, OutputOption, duration
from starter.client.errors import ERROR
from starter.views.output import emit, note, show, table
from starter.views.output_format import Output

if TYPE_CHECKING:
    from autopilot.mesh.audit import AuditRecord


class Action(StrEnum):
    """What is asked of the records."""

    EXPORT = "export"
    VERIFY = "verify"


async def audit(
    action: Annotated[Action, typer.Argument(help="export: print them. verify: find altered or missing records.")],
    since: Annotated[
        float | None,
        typer.Option("--since", parser=duration, metavar="DURATION", help="export: only records of the last DURATION."),
    ] = None,
    reports: Annotated[
        Path | None, typer.Option("--reports", help="verify: folder of reports; default: in the state folder.")
    ] = None,
    mesh: MeshOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Print the record of every change (who, why, before, after), or verify that no record was altered.

    Verifying follows the chain of digests, and holds it against those that reports and Temporal's histories remember.
    Exit codes of verify: 0 all records are unaltered, 1 a record was altered or is missing.
    """
    from starter.client import preflight  # noqa: PLC0415

    async with preflight.open_mesh(mesh) as opened:
        name, records = opened.name, await opened.audit()
    if action is Action.VERIFY:
        return await _verify(name, records, reports, output)
    wanted = [record for record in records if since is None or record.time >= time.time() - since]
    if output.machine:
        emit([{**record.model_dump(mode="json"), "digest": record.digest} for record in wanted], output)
        return 0
    columns = ("#", "when", "what", "target", "who", "why", "net", "before", "after", "record")
    show(table(columns, [_row(record) for record in wanted]))
    return 0


async def _verify(mesh: str, records: list[AuditRecord], reports: Path | None, output: Output) -> int:
    from autopilot.mesh.audit import verify  # noqa: PLC0415
    from starter.client.audit_digests import remembered  # noqa: PLC0415

    known, sources = await remembered(mesh, reports)
    problems = verify(records, known)
    if output.machine:
        emit({"mesh": mesh, "records": len(records), "remembered": len(known), "problems": problems}, output)
        return ERROR if problems else 0
    show(f"{mesh}: {len(records)} records, {len(known)} of them remembered by {sources}")
    for problem in problems:
        show(f"  {problem}")
    if problems:
        note("error: audit records were altered or are missing")
    return ERROR if problems else 0


def _row(record: AuditRecord) -> list[str]:
    who = record.actor.who + (" (verified)" if record.actor.verified else "")
    return [
        str(record.sequence),
        datetime.fromtimestamp(record.time, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        record.action,
        record.target,
        who,
        record.actor.why,
        record.actor.net,
        _weights(record.before),
        _weights(record.after),
        record.digest[:12],
    ]


def _weights(values: dict[str, float]) -> str:
    return ", ".join(f"{arm} {weight:g}" for arm, weight in values.items() if weight) or "-"
