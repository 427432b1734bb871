"""The supervisor's control interface: an HTTP server on a Unix socket that only the owner of the state can open."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import aiohttp
from aiohttp import web

from autopilot.local.record import PartInfo, StackInfo

Action = Literal["stop", "start", "kill"]
_LONGEST_SOCKET_PATH = 100
_TIMEOUT = aiohttp.ClientTimeout(total=60)


class ControlError(Exception):
    """The supervisor refused or did not answer."""


def socket_path(root: Path) -> Path:
    """Path of the socket: in the state directory, unless that path is too long for a socket address."""
    path = root / "control.sock"
    if len(str(path).encode()) <= _LONGEST_SOCKET_PATH:
        return path
    return Path(tempfile.mkdtemp(prefix="autopilot-")) / "control.sock"


def remove(path: Path, root: Path) -> None:
    """Removes the socket, and the directory that was made for it."""
    path.unlink(missing_ok=True)
    if path.parent != root:
        path.parent.rmdir()


def application(
    status: Callable[[], StackInfo], act: Callable[[str, Action], Awaitable[PartInfo]], stop: Callable[[], None]
) -> web.Application:
    """`GET /status`, `POST /parts/NAME/stop|start|kill`, `POST /stop`."""

    async def show(_: web.Request) -> web.Response:
        return web.json_response(text=status().model_dump_json())

    async def change(request: web.Request) -> web.Response:
        try:
            info = await act(request.match_info["name"], request.match_info["action"])  # type: ignore[arg-type]
        except ControlError as error:
            return web.json_response({"error": str(error)}, status=409)
        return web.json_response(text=info.model_dump_json())

    async def end(_: web.Request) -> web.Response:
        stop()
        return web.json_response({})

    served = web.Application()
    served.router.add_get("/status", show)
    served.router.add_post("/parts/{name}/{action:stop|start|kill}", change)
    served.router.add_post("/stop", end)
    return served


async def serve(path: Path, served: web.Application) -> web.AppRunner:
    """Serves on the socket until the runner is cleaned up."""
    runner = web.AppRunner(served, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.SockSite(runner, _listen(path)).start()
    return runner


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


async def command(info: StackInfo, part: str, action: Action) -> PartInfo:
    """Stops, starts or kills one part of a running stack, and returns once that is done.

    A part that was stopped or killed so stays down until it is started: to see one recover, kill its process instead.

    Raises:
        ControlError: no such part, it did not start, or the supervisor does not answer.
    """
    connector = aiohttp.UnixConnector(path=str(info.control))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
            session.post(f"http://supervisor/parts/{part}/{action}") as response,
        ):
            body = await response.text()
            if response.status != 200:
                raise ControlError(body)
            return PartInfo.model_validate_json(body)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ControlError(
            f"the supervisor does not answer on {info.control}: {error}; run `autopilot down`, then `autopilot up`"
        ) from error
