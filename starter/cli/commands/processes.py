"""`worker` and `guard`: the processes that run operations, and that restore what nobody looks after."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from starter.cli.options import Meshes, duration
from starter.client.environment import reports_folder

Metrics = Annotated[
    str | None,
    typer.Option("--metrics", metavar="HOST:PORT", help="Address to serve our own metrics at; default: none."),
]
WorkerMetrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="HOST:PORT",
        help="Address to serve our own metrics and those of Temporal's SDK at; default: none.",
    ),
]


async def worker(
    mesh: Meshes = None,
    metrics: WorkerMetrics = None,
    prometheus: Annotated[
        str | None,
        typer.Option(
            "--prometheus", metavar="URL", help="Default: $AUTOPILOT_PROMETHEUS, else what each mesh file says."
        ),
    ] = None,
    heartbeat: Annotated[
        float,
        typer.Option(
            "--heartbeat",
            parser=duration,
            metavar="DURATION",
            help="Shortest time between heartbeats of a watch; also the longest delay of an approval.",
        ),
    ] = 5.0,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            metavar="NAME|MODULE:ATTRIBUTE",
            help="Payload codec that encrypts what Temporal stores: an installed entry point "
            "(group meshautopilot.payload_codecs), or module:attribute; default: $AUTOPILOT_CODEC. "
            "Every command needs the same one: set AUTOPILOT_CODEC for them.",
        ),
    ] = None,
) -> int:
    """Run operations until Ctrl-C or SIGTERM; one worker may drive several meshes."""
    from worker import main  # noqa: PLC0415

    await main.run(
        mesh_files(mesh),
        metrics=metrics,
        prometheus=prometheus or os.environ.get("AUTOPILOT_PROMETHEUS") or None,
        reports=reports_folder(),
        heartbeat_every=heartbeat,
        codec=codec,
    )
    return 0


async def guard(mesh: Meshes = None, metrics: Metrics = None) -> int:
    """Restore what nobody renews any more, until Ctrl-C or SIGTERM; needs the mesh alone, no Temporal."""
    from worker import guard_process as guarding  # noqa: PLC0415

    await guarding.run(mesh_files(mesh), metrics=metrics)
    return 0


def mesh_files(named: list[Path] | None) -> list[Path]:
    """The files asked for, else the one that every command means."""
    from starter.client.preflight import mesh_file  # noqa: PLC0415

    return list(named) if named else [mesh_file()]
