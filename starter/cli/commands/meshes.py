"""`prepare` and `capabilities`: a mesh set up, and what it can do; neither needs Temporal."""

from __future__ import annotations

from typing import Annotated

import typer

from starter.cli.options import MeshOption, OutputOption
from starter.views.output import emit, note, show, table
from starter.views.output_format import Output


async def prepare(mesh: MeshOption = None, output: OutputOption = Output.TABLE) -> int:
    """Write the configuration of every proxy that a mesh file describes, and show how to start each.

    Safe to repeat while proxies run and rollouts are under way: they follow the files they were started with.
    """
    from autopilot.mesh.envoy.mesh import EnvoyMesh  # noqa: PLC0415
    from autopilot.mesh.envoy.prepare import prepare as write  # noqa: PLC0415
    from starter.client import preflight  # noqa: PLC0415
    from starter.client.errors import CommandError  # noqa: PLC0415

    async with preflight.open_mesh(mesh) as opened:
        if not isinstance(opened, EnvoyMesh):
            raise CommandError(
                f"{opened.name} is a cluster mesh: the cluster configures its own proxies",
                hint="see docs/kubernetes.md",
            )
    written = write(preflight.mesh_file(mesh))
    if output.machine:
        emit({"proxies": {name: str(path) for name, path in written.items()}}, output)
        return 0
    show(table(("proxy", "start it with"), [(name, f"envoy -c {path}") for name, path in written.items()]))
    note("several Envoys on one host need --use-dynamic-base-id; then `autopilot worker` and `autopilot guard`")
    return 0


async def capabilities(
    mesh: MeshOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every provider, in use or not.")] = False,
    output: OutputOption = Output.TABLE,
) -> int:
    """Show which changes this mesh supports, and who restores them when worker, guard and Temporal are all down.

    Tier A: the proxies themselves, when the deadline passes. B: any live guard. C: a controller that returns.
    """
    from starter.client import preflight  # noqa: PLC0415

    if everything:
        return _all(output)
    async with preflight.open_mesh(mesh) as opened:
        name, found = opened.name, await opened.capabilities()
    if output.machine:
        emit({"mesh": name, "capabilities": found}, output)
        return 0
    rows = [(each.change, "yes" if each.supported else "no", each.tier or "-", each.note) for each in found]
    show(table(("change", "supported", "tier", "note"), rows))
    return 0


def _all(output: Output) -> int:
    from autopilot.mesh.capabilities import ABILITIES  # noqa: PLC0415

    if output.machine:
        found = [
            {"provider": provider, "driver": driver, "capabilities": list(each)}
            for (provider, driver), each in ABILITIES.items()
        ]
        emit({"providers": found}, output)
        return 0
    rows = [
        (provider, driver, one.change, "yes" if one.supported else "no", one.tier or "-", one.note)
        for (provider, driver), each in ABILITIES.items()
        for one in each
    ]
    show(table(("provider", "driver", "change", "supported", "tier", "note"), rows))
    return 0
