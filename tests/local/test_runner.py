from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from autopilot.local import ports
from autopilot.local.layout import Layout
from autopilot.local.parts import Part, Probe, UnknownPart, check_groups
from autopilot.local.processes import environment
from autopilot.local.record import Condition, PartInfo
from autopilot.local.runner import PartFailed, Runner

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"well")
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

Make = Callable[..., Runner]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    layout = Layout(tmp_path)
    layout.create()
    made: list[Runner] = []
    async with aiohttp.ClientSession() as session:

        def make(code: str = SERVER, *, restarts: bool = False, limit: float = 10.0) -> Runner:
            port = ports.allocate(["x"])["x"]
            command = (sys.executable, "-c", code, str(port))
            probe = Probe(f"http://127.0.0.1:{port}/")
            part = Part("thing", command, environment({}), probe, limit=limit, restarts=restarts)
            made.append(Runner(part, layout, session, seen.append))
            return made[-1]

        seen: list[PartInfo] = []
        yield make
        for runner in made:
            await runner.stop()


async def becomes(runner: Runner, condition: Condition) -> None:
    async with asyncio.timeout(10):
        while runner.info.condition is not condition:
            await asyncio.sleep(0.01)


async def test_one_that_restarts_comes_back_and_says_how_often(make: Make) -> None:
    runner = make(restarts=True)
    await runner.start()
    first = runner.info.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await becomes(runner, Condition.RESTARTING)
    assert "SIGKILL" in runner.info.detail
    await becomes(runner, Condition.READY)
    assert runner.info.pid != first
    assert runner.info.restarts == 1


async def test_one_that_does_not_restart_is_reported(make: Make) -> None:
    runner = make()
    await runner.start()
    assert runner.info.pid is not None
    os.kill(runner.info.pid, signal.SIGKILL)
    await becomes(runner, Condition.FAILED)
    assert not runner.info.alive
    await runner.start()
    assert runner.info.condition is Condition.READY


async def test_what_was_stopped_or_killed_on_request_stays_down(make: Make) -> None:
    runner = make(restarts=True)
    for kill in (False, True):
        await runner.start()
        assert runner.info.alive
        await runner.stop(kill=kill)
        assert runner.info.condition is Condition.STOPPED
        assert not runner.info.alive


async def test_an_early_end_names_the_part_and_shows_its_log(make: Make) -> None:
    runner = make("import sys; sys.exit('no such thing')")
    with pytest.raises(PartFailed, match=r"thing ended with exit code 1.*\n.*no such thing"):
        await runner.start()
    assert runner.info.condition is Condition.FAILED


async def test_one_that_never_answers_is_given_up(make: Make) -> None:
    runner = make("import time; time.sleep(60)", limit=0.5)
    with pytest.raises(PartFailed, match=r"was not ready within 0\.5 s"):
        await runner.start()
    assert not runner.info.alive


async def test_stopping_one_that_starts(make: Make) -> None:
    runner = make("import time; time.sleep(60)")
    starting = asyncio.ensure_future(runner.start())
    await becomes(runner, Condition.STARTING)
    await runner.stop()
    with pytest.raises(PartFailed):
        await starting


def test_groups_are_ordered_and_their_needs_are_named() -> None:
    assert check_groups(["temporal", "mesh", "mesh"]) == ("mesh", "temporal")
    with pytest.raises(UnknownPart, match="worker needs temporal"):
        check_groups(["worker", "mesh"])
    with pytest.raises(UnknownPart, match="unknown parts: nothing"):
        check_groups(["nothing"])
