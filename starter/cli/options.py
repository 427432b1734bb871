"""Options that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autopilot.spec.values.units import parse_seconds
from starter.views.output_format import Output


def duration(text: str) -> float:
    """`90`, `30s` or `1m30s` in seconds."""
    try:
        seconds = parse_seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return float(seconds)  # type: ignore[arg-type]


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print it.")]
Files = Annotated[list[Path], typer.Option("--file", "-f", help="YAML file; repeatable; - is standard input.")]
MeshOption = Annotated[
    Path | None,
    typer.Option("--mesh", help="mesh.yaml of the mesh; default: $AUTOPILOT_MESH, else the local stack's."),
]
Meshes = Annotated[
    list[Path] | None,
    typer.Option("--mesh", help="mesh.yaml; repeatable; default: $AUTOPILOT_MESH, else the local stack's."),
]
Identity = Annotated[
    str, typer.Argument(metavar="ID|NAME", help="canary/MESH/NAMESPACE/NAME, NAMESPACE/NAME, or a NAME that is unique.")
]
Who = Annotated[str | None, typer.Option("--who", help="Who asks (asserted, not verified); default: the OS user.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the report.")]
Timeout = Annotated[float, typer.Option("--timeout", parser=duration, metavar="DURATION")]
