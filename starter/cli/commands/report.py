"""`autopilot report`: the whole story of an operation that has ended, as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from starter.cli.options import Identity
from starter.client.environment import reports_folder
from starter.client.errors import CommandError
from starter.views.output import emit
from starter.views.output_format import Output


async def report(
    name: Identity,
    reports: Annotated[
        Path | None, typer.Option("--reports", help="Where reports are kept; default: in the state folder.")
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="json or yaml.")] = Output.JSON,
) -> int:
    """Print the report of an operation that has ended: what was done, what was seen, and the verdict.

    Temporal forgets what has ended at the end of its retention; then the report comes from the folder that workers keep
    them in.
    """
    form = output if output.machine else Output.JSON
    emit(await _found(name, reports or reports_folder()), form)
    return 0


async def _found(name: str, folder: Path) -> Any:
    from starter.client import operations  # noqa: PLC0415

    try:
        client = await operations.connect()
        workflow_id = await operations.resolve(client, name)
        return (await operations.report(client, workflow_id)).model_dump(mode="json")
    except (operations.OperationUnfinished, operations.OperationClosed):
        raise
    except (operations.OperationError, RuntimeError) as error:
        if (kept := _archived(name, folder)) is not None:
            return kept
        raise CommandError(
            f"{error}", hint=f"{folder} has no report of {name!r} either; choose another folder with --reports"
        ) from error


def _archived(name: str, folder: Path) -> Any:
    """The newest report that was kept of an operation of this name."""
    wanted = re.sub(r"[^A-Za-z0-9.-]+", "_", name)
    pattern = re.compile(rf"(.*_)?{re.escape(wanted)}\.[0-9a-f-]+\.json")
    found = [path for path in folder.glob("*.json") if pattern.fullmatch(path.name)]
    if not found:
        return None
    return json.loads(max(found, key=lambda path: path.stat().st_mtime).read_text(encoding="utf-8"))
