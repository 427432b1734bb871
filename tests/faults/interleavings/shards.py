"""Plays interleavings in several processes at once over one Temporal server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autopilot.local import temporal
from autopilot.local.ports import LOOPBACK
from autopilot.local.processes import Child, environment, launch, tail
from autopilot.mesh.envoy.prepare import prepare
from tests.faults.interleavings.machine import Findings
from tests.faults.waiting import WaitedInVain
from tests.faults.world.part import Part
from tests.faults.world.shape import Shape, places

_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Shard:
    """One process's share."""

    name: str
    address: str
    namespace: str
    mesh: Path
    count: int
    seed: int
    proxies: bool = False


async def play(folder: Path, count: int, *, shards: int, first_seed: int = 1, limit: float = 300) -> Findings:
    """Plays `count` interleavings in memory: a Temporal of its own, files that no proxy follows.

    Raises:
        WaitedInVain: a process failed, or did not end in time.
    """
    meshes, ports = places(folder / "meshes", Shape(meshes=shards, services=1), ("temporal", "ui"))
    names = [f"shard-{number}" for number in range(shards)]
    command = temporal.command(
        temporal.find(), database=folder / "temporal.db", port=ports["temporal"], ui_port=ports["ui"]
    )
    position = command.index("--db-filename")
    del command[position : position + 2]  # in memory
    while "--sqlite-pragma" in command:
        position = command.index("--sqlite-pragma")
        del command[position : position + 2]
    for name in names:
        command += ["--namespace", name]
    address = f"{LOOPBACK}:{ports['temporal']}"
    server = Part("temporal", command, folder=folder, env=environment({}), ready=lambda: _listens(ports["temporal"]))
    await server.start()
    try:
        (folder / "meshes").mkdir()
        found = []
        for number, (name, place) in enumerate(zip(names, meshes, strict=True)):
            place.folder.mkdir()
            place.file.write_text(place.describe({"v1": 9, "v2": 10}, 120), encoding="utf-8")
            prepare(place.file)
            share = count // shards + (number < count % shards)
            found.append(Shard(name, address, name, place.file, share, first_seed + number))
        return await run(folder, found, limit=limit)
    finally:
        await server.kill()


async def run(
    folder: Path, shards: Sequence[Shard], *, limit: float, say: Callable[[str], None] = lambda _: None
) -> Findings:
    """Runs the shards at once.

    Raises:
        WaitedInVain: a process failed, or did not end in time.
    """
    children = [(shard, _start(folder, shard)) for shard in shards]
    merged = Findings()
    try:
        async with asyncio.timeout(limit):
            for shard, child in children:
                if await child.wait():
                    raise WaitedInVain(f"{shard.name} failed: {tail(folder / f'{shard.name}.log', 30)}")
                found = json.loads((folder / f"{shard.name}.json").read_text(encoding="utf-8"))
                merged.interleavings += found["interleavings"]
                merged.steps += found["steps"]
                merged.violations += found["violations"]
                for outcome, number in found["outcomes"].items():
                    merged.outcomes[outcome] = merged.outcomes.get(outcome, 0) + number
                say(f"{merged.interleavings} interleavings")
    except TimeoutError:
        raise WaitedInVain(f"waited {limit:g} s for the interleavings") from None
    finally:
        for _, child in children:
            await child.stop(0.1)
    return merged


def _start(folder: Path, shard: Shard) -> Child:
    command = [sys.executable, "-m", "tests.faults.interleavings.process", "--address", shard.address]
    command += ["--namespace", shard.namespace, "--mesh", str(shard.mesh), "--count", str(shard.count)]
    command += ["--seed", str(shard.seed), "--reports", str(folder / f"{shard.name}.reports")]
    command += ["--out", str(folder / f"{shard.name}.json"), *(["--proxies"] if shard.proxies else [])]
    env = environment({"PYTHONPATH": str(_ROOT)})
    return Child(launch(command, log=folder / f"{shard.name}.log", env=env))


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True
