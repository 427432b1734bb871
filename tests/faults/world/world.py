"""The world that is crashed: real Envoys and traffic, Temporal on a file, a worker and a guard, each a process.

Everything is on loopback, in one folder, at free ports, and is gone when the suite is: see `autopilot.local.processes`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from temporalio.client import Client
from temporalio.service import RPCError

from autopilot.local import envoy, temporal
from autopilot.local.ports import LOOPBACK
from autopilot.local.processes import environment
from autopilot.mesh.envoy.prepare import prepare
from autopilot.mesh.model import Target
from tests.faults.events.temporal_proxy import Door
from tests.faults.waiting import until
from tests.faults.world.answers import Answers
from tests.faults.world.clocks import Clocks
from tests.faults.world.control import Control
from tests.faults.world.dataplane import DataPlane
from tests.faults.world.disk import SmallDisk
from tests.faults.world.part import Part
from tests.faults.world.shape import Shape, places
from tests.faults.world.traffic import Plan
from worker.plugin import AutopilotPlugin

_ROOT = Path(__file__).parents[3]
_START = "from autopilot._bootstrap import main; main()"


class World:
    """All processes, and what can be seen from outside. `clocks`: whether they can be moved."""

    def __init__(
        self,
        folder: Path,
        shape: Shape,
        session: aiohttp.ClientSession,
        *,
        clocks: bool = False,
    ) -> None:
        self.folder = folder
        self.shape = shape
        self.disk = SmallDisk(folder / "meshes")
        found, self._ports = places(self.disk.folder, shape, ("temporal", "ui", "door", "door admin", "v1", "v2"))
        self.planes = {place.name: DataPlane(place, session) for place in found}
        self.targets: tuple[Target, ...] = tuple(
            target for number in range(shape.services) for target in (p.place.targets[number] for p in self._planes())
        )
        """Every service; neighbours are in different meshes."""
        self.control = Control(folder / "control")
        self.answers = Answers(folder / "answers.log")
        self.clocks = Clocks(folder) if clocks else None
        self._preload = self.clocks.preload() if self.clocks else {}
        self._failing = folder / "failing"
        self._client: Client | None = None
        self.temporal = self._temporal()
        self.door = Door(folder, self.address, self._ports["door"], self._ports["door admin"], session)
        self.worker = self._worker()
        self.watcher = self._worker("watcher", "--watches-only")
        """Started by events alone: takes long watches, and polls for nothing else."""
        self.guard = self._guard()
        self.traffic = self._traffic()
        self.envoys = {name: self._envoy(plane) for name, plane in self.planes.items()}

    @property
    def client(self) -> Client:
        """Connected to Temporal, also after it was killed and started again."""
        assert self._client is not None, "the world has not started"
        return self._client

    def plane(self, target: Target) -> DataPlane:
        """The mesh of a service."""
        return self.planes[target.mesh]

    async def start(self, *, guard: bool = True, worker: bool = True) -> None:
        """Starts everything, and waits until traffic flows."""
        self.disk.mount()
        (self.folder / "answers.log").touch()
        self._failing.touch()
        for plane in self._planes():
            plane.place.folder.mkdir(exist_ok=True)
            plane.place.file.write_text(
                plane.place.describe(self._versions(), self.shape.max_unattended), encoding="utf-8"
            )
            prepare(plane.place.file)
        started = [self.temporal, self.door.part, self.traffic, *self.envoys.values(), *([self.guard] if guard else [])]
        for part in started:
            part.launch()
        await asyncio.gather(*(part.ready() for part in started))
        if worker:
            await self.worker.start()
        now = time.time()
        await until(
            lambda: all(any(item.said == "v1" for item in self.answers.of(str(t), now)) for t in self.targets),
            "v1 to answer for every service",
            limit=20,
        )

    async def stop(self) -> None:
        """Ends everything."""
        for part in (
            self.worker,
            self.watcher,
            self.door.part,
            self.guard,
            self.traffic,
            self.temporal,
            *self.envoys.values(),
        ):
            part.thaw()
            await part.kill()
        for plane in self._planes():
            await plane.mesh.close()
        self.disk.unmount()

    def fails(self, targets: set[Target]) -> None:
        """From now on version 2 fails for these services and for no others."""
        hosts = sorted(f"{target.service}.{target.namespace}" for target in targets)
        temporary = self._failing.with_suffix(".new")
        temporary.write_text("\n".join(hosts), encoding="utf-8")
        temporary.replace(self._failing)

    async def restore(self) -> None:
        """Every service's weights as they were at the start; for between batches, when nobody operates."""
        for plane in self._planes():
            text = plane.place.describe(self._versions(), self.shape.max_unattended)
            if plane.place.file.read_text(encoding="utf-8") == text:
                continue
            with plane.mesh.store.locked():
                temporary = plane.place.folder / ".mesh.new"
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(plane.place.file)
            await asyncio.to_thread(prepare, plane.place.file)
        await self.based(limit=10)

    async def based(self, *, limit: float) -> None:
        """Waits until every proxy has read its base, and nothing else.

        Raises:
            WaitedInVain: one has not within `limit` seconds.
        """
        for plane in self._planes():
            await until(plane.is_base, f"{plane.place.name} to have its base", limit=limit)

    def _planes(self) -> list[DataPlane]:
        return list(self.planes.values())

    def _versions(self) -> dict[str, int]:
        return {"v1": self._ports["v1"], "v2": self._ports["v2"]}

    def _env(self, part: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return environment({"PYTHONPATH": str(_ROOT), **(extra or {}), **self._preload.get(part, {})})

    def _mesh_files(self) -> list[str]:
        return [str(plane.place.file) for plane in self._planes()]

    def _temporal(self) -> Part:
        command = temporal.command(
            temporal.find(),
            database=self.folder / "temporal.db",
            port=self._ports["temporal"],
            ui_port=self._ports["ui"],
        )
        return Part("temporal", command, folder=self.folder, env=environment({}), ready=self._answers)

    async def _answers(self) -> bool:
        try:
            if self._client is None:
                self._client = await Client.connect(self.address, plugins=[AutopilotPlugin()])
            await self._client.count_workflows("AutopilotKind IS NOT NULL")
        except (RPCError, RuntimeError):
            return False
        return True

    @property
    def address(self) -> str:
        """Of Temporal."""
        return f"{LOOPBACK}:{self._ports['temporal']}"

    def _worker(self, name: str = "worker", *more: str) -> Part:
        ready = self.folder / f"{name}.ready"
        command = [sys.executable, "-m", "tests.faults.world.worker_main", "--control", str(self.folder / "control")]
        command += ["--reports", str(self.folder / "reports"), "--ready", str(ready), *more, *self._mesh_files()]
        env = self._env("worker", {"TEMPORAL_ADDRESS": self.door.address})
        return _Marked(name, command, ready, self.folder, env)

    def _guard(self) -> Part:
        command = [sys.executable, "-P", "-c", _START, "guard"]
        for file in self._mesh_files():
            command += ["--mesh", file]
        log = self.folder / "guard.log"
        return Part(
            "guard",
            command,
            folder=self.folder,
            env=self._env("guard", {"AUTOPILOT_HOME": str(self.folder / "home")}),
            ready=lambda: log.exists() and b"guard ready" in log.read_bytes(),
        )

    def _traffic(self) -> Part:
        plan = Plan(
            versions=self._versions(),
            clients=tuple(client for plane in self._planes() for client in plane.place.clients()),
            period=self.shape.period,
            log=str(self.folder / "answers.log"),
            failing=str(self._failing),
            ready=str(self.folder / "traffic.ready"),
        )
        plan.write(self.folder / "traffic.json")
        command = [sys.executable, "-m", "tests.faults.world.traffic", str(self.folder / "traffic.json")]
        return _Marked("traffic", command, Path(plan.ready), self.folder, self._env("traffic"))

    def _envoy(self, plane: DataPlane) -> Part:
        bootstrap = plane.place.folder / "proxies" / "caller" / "bootstrap.json"
        return Part(
            f"envoy-{plane.place.name}",
            envoy.command(envoy.find(), bootstrap),
            folder=self.folder,
            env=self._env("envoy"),
            ready=plane.ready,
        )


class _Marked(Part):
    """A part that makes a file when it is ready."""

    def __init__(self, name: str, command: list[str], marker: Path, folder: Path, env: Mapping[str, str]) -> None:
        super().__init__(name, command, folder=folder, env=env, ready=marker.exists)
        self._marker = marker

    def launch(self) -> None:
        self._marker.unlink(missing_ok=True)
        super().launch()


@asynccontextmanager
async def world(shape: Shape, *, clocks: bool = False, guard: bool = True, worker: bool = True) -> AsyncIterator[World]:
    """A world in a folder of its own, gone at the end. `clocks`: whether they can be moved."""
    SmallDisk.tidy()
    with tempfile.TemporaryDirectory(prefix=f"crash-{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        async with aiohttp.ClientSession() as session:
            made = World(Path(folder), shape, session, clocks=clocks)
            try:
                await made.start(guard=guard, worker=worker)
                yield made
            finally:
                await made.stop()
