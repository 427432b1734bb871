"""`autopilot plan`: what a file would do to this mesh. Reads, and writes nothing."""

from __future__ import annotations

from rich.console import Group

from starter.cli.options import Files, MeshOption, OutputOption
from starter.client.errors import ERROR
from starter.client.manifests import problems_of, read
from starter.views.output import emit, show
from starter.views.output_format import Output


async def plan(files: Files, mesh: MeshOption = None, output: OutputOption = Output.TABLE) -> int:
    """Show what the files would do: the steps, who restores, and the first step's diff. Writes nothing.

    Exit codes: 0 it could start now, 1 it could not.
    """
    from starter.client import preflight  # noqa: PLC0415

    manifests = read(files)
    async with preflight.open_mesh(mesh) as opened:
        plans = [await each.kind.load("plan")(opened, each, await problems_of(opened, [each])) for each in manifests]
    if output.machine:
        emit(plans, output)
    else:
        show(Group(*(each.kind.load("draw_plan")(made) for each, made in zip(manifests, plans, strict=True))))
    return ERROR if any(made["problems"] for made in plans) else 0
