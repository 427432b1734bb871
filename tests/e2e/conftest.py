"""One embedded stack for all end-to-end tests: real Envoys, a real Temporal, a real Prometheus, real load."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from temporalio.client import Client

from autopilot.local import control, stack
from autopilot.local.record import Condition, StackInfo
from autopilot.mesh.envoy.mesh import EnvoyMesh
from autopilot.mesh.envoy.mesh_file import set_weights
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.model import Target
from worker import temporal_client

TOOLS = Path(__file__).parents[2] / ".autopilot" / "tools"
"""Where `make install` put Prometheus: nobody wants it fetched again for every test run."""
REVIEWS = Target(mesh="local", namespace="shop", service="reviews")


@dataclass
class Lab:
    """The stack, and what people and clients would look at."""

    state: Path
    client: Client
    session: aiohttp.ClientSession
    mesh: EnvoyMesh

    @property
    def info(self) -> StackInfo:
        found = stack.describe(self.state)
        assert found is not None
        return found

    async def counts(self) -> dict[str, Any]:
        """What clients met since the load began."""
        async with self.session.get(f"{self.info.load}/counts") as response:
            return dict(await response.json())

    async def served(self, instance: str) -> int:
        """Requests that one instance of the shop has seen."""
        async with self.session.get(f"{self.info.shop[instance]}/_shop") as response:
            return int((await response.json())["requests"])

    async def behave(self, instance: str, **behaviour: Any) -> None:
        async with self.session.post(f"{self.info.shop[instance]}/_shop", json=behaviour) as response:
            assert response.status == 200

    async def weights(self) -> dict[str, float]:
        """In force now, in percent."""
        return {arm.name: arm.weight for arm in (await self.mesh.observe(REVIEWS)).arms}

    def reset(self) -> None:
        """All traffic to v1 again."""
        set_weights(self.info.mesh_file, "shop/reviews", {"v1": 100, "v2": 0})
        prepare(self.info.mesh_file)

    async def part(self, name: str, condition: Condition, *, other_than: int | None = None) -> None:
        """Waits until a part of the stack is in that condition (as another process than before)."""
        try:
            async with asyncio.timeout(30):
                while True:
                    part = self.info.parts[name]
                    if part.condition is condition and part.pid != other_than:
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"waited 30 s for {name} to be {condition}, it is {self.info.parts[name]}")

    async def command(self, name: str, action: control.Action) -> None:
        await control.command(self.info, name, action)

    def cli(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs the command line against this stack."""
        return autopilot(self.state, *arguments, stdin=stdin)


def autopilot(state: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `autopilot`, as a user would in a shell that knows this state directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "AUTOPILOT_"))}
    return subprocess.run(
        [sys.executable, "-c", "from autopilot._bootstrap import main; main()", *arguments],
        env={**kept, "AUTOPILOT_HOME": str(state), "COLUMNS": "160"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.fixture(scope="session")
def stack_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    state = tmp_path_factory.mktemp("stack")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOPILOT_TOOLS", str(TOOLS))
        started = stack.start(state)
        try:
            yield state
        finally:
            started.stop()


@pytest.fixture
async def lab(stack_state: Path) -> AsyncIterator[Lab]:
    info = stack.describe(stack_state)
    assert info is not None
    client = await temporal_client.connect(info.temporal)
    mesh = EnvoyMesh(info.mesh_file)
    async with aiohttp.ClientSession() as session:
        made = Lab(stack_state, client, session, mesh)
        made.reset()
        await made.behave("reviews-v2", errors=0.0, delay=0.0, hang=False)
        await quiet(made)
        yield made
    await mesh.close()


async def quiet(lab: Lab) -> None:
    """Waits until clients have met no failure for half a second."""
    until = time.monotonic() + 20
    before = (await lab.counts())["failures"]
    while True:
        await asyncio.sleep(0.5)
        now = (await lab.counts())["failures"]
        if now == before:
            return
        assert time.monotonic() < until, "clients go on failing before the test has begun"
        before = now


def parsed(completed: subprocess.CompletedProcess[str]) -> Any:
    """The JSON on standard output."""
    try:
        return json.loads(completed.stdout)
    except ValueError:
        pytest.fail(f"no JSON on stdout (exit {completed.returncode}): {completed.stdout}\n{completed.stderr}")
