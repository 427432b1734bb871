"""The process that holds a whole lab: a namespace of its own, and everything in it.

    python -m tests.lab up | down | run -- COMMAND

It ends when it is told to, or with whoever started it, and takes everything with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
from pydantic import Field

from autopilot.local import control, prometheus_install
from autopilot.local.layout import Layout
from autopilot.local.parts import Part, Probe
from autopilot.local.record import Condition, PartInfo, Record, write
from autopilot.local.runner import PartFailed, Runner
from autopilot.mesh.errors import MeshError
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import POD
from tests.lab import build, cluster, scrape, sidecars, statistics
from tests.lab.build import LabUnavailable
from tests.lab.credentials import Credentials
from tests.lab.parts import PROMETHEUS, ControlPlane
from tests.lab.pods import PORT

_LOOK = 0.3
"""Seconds between two looks for pods."""
SIDECAR = "lab/sidecar"
"""Label of pods that get an Envoy."""


class LabInfo(Record):
    """What runs, for whoever asks."""

    condition: Condition
    pid: int
    root: Path
    kubeconfig: Path
    prometheus: str
    control: Path
    parts: dict[str, PartInfo] = Field(default_factory=dict)


class LabServer:
    """Everything of one lab, in this process's network namespace.

    Args:
        root: its state directory.
        scrape_every: seconds between Prometheus' scrapes.
        tools: where Prometheus may have been put.
    """

    def __init__(self, root: Path, *, scrape_every: float, tools: Path, say: Callable[[str], None]) -> None:
        self._layout = Layout.find(root)
        self._every = scrape_every
        self._tools = tools
        self._say = say
        self._credentials = Credentials(self._layout.root / "credentials")
        self._runners: dict[str, Runner] = {}
        self._stop = asyncio.Event()
        self._info: LabInfo | None = None
        self._seen: list[tuple[str, str, str]] = []

    @property
    def info(self) -> LabInfo:
        """What runs now."""
        assert self._info is not None
        return self._info

    def stop(self) -> None:
        """Asks for the end."""
        self._stop.set()

    async def run(self, ready: Callable[[LabInfo], None]) -> None:
        """From start to end.

        Raises:
            LabUnavailable: something is missing here.
            PartFailed: something did not start.
        """
        layout = self._layout
        layout.create()
        for old in (layout.root / "etcd", layout.root / "sidecars", layout.prometheus / "data"):
            shutil.rmtree(old, ignore_errors=True)  # each lab begins with an empty cluster
        plane = ControlPlane(build.build(), layout.root, self._credentials)
        self._credentials.write()
        self._info = LabInfo(
            condition=Condition.STARTING,
            pid=os.getpid(),
            root=layout.root,
            kubeconfig=self._credentials.kubeconfig(),
            prometheus=PROMETHEUS,
            control=control.socket_path(layout.root),
        )
        connector = aiohttp.TCPConnector(ssl=False)
        async with aiohttp.ClientSession(connector=connector) as self._session:
            served = control.application(lambda: self.info, self._act, self.stop)  # type: ignore[arg-type, return-value]
            server = await control.serve(self.info.control, served)
            try:
                await self._start(plane)
                self._update(condition=Condition.READY)
                ready(self.info)
                await self._follow_pods(plane)
            finally:
                await server.cleanup()
                await self._go_down()
                control.remove(self.info.control, layout.root)
                layout.record.unlink(missing_ok=True)

    async def _start(self, plane: ControlPlane) -> None:
        began = time.monotonic()
        await self._run(plane.etcd())
        await self._run(plane.apiserver())
        self._say(f"API server ready after {time.monotonic() - began:.1f} s")
        api = KubeApi(self._credentials.kubeconfig())
        crds = [body for file in cluster.crd_files() for body in cluster.documents(file)]
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(cluster.install_crds, api, crds))
            group.create_task(self._run(plane.controller_manager()))
            group.create_task(self._run(plane.kwok()))
        await asyncio.to_thread(cluster.furnish, api)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run(plane.istiod()))
            group.create_task(
                self._run(plane.python("pods", "tests.lab.pods", [], Probe(f"http://127.0.0.1:{PORT}/_shop")))
            )
            group.create_task(self._start_prometheus())
        self._say(f"all ready after {time.monotonic() - began:.1f} s")
        api.close()

    async def _start_prometheus(self) -> None:
        found = prometheus_install.find(self._tools)
        if found is None:
            raise LabUnavailable("there is no Prometheus here; `make install` fetches it")
        home = self._layout.prometheus
        scrape.write(home / "prometheus.yml", home / "targets.json", self._every)
        words = found.command(config=home / "prometheus.yml", data=home / "data", port=9090)
        part = Part("prometheus", (*words, "--web.enable-lifecycle"), dict(os.environ), Probe(f"{PROMETHEUS}/-/ready"))
        await self._run(part)

    async def _run(self, part: Part) -> None:
        runner = self._runners[part.name] = Runner(part, self._layout, self._session, self._part_changed)
        await runner.start()

    async def _follow_pods(self, plane: ControlPlane) -> None:
        """Gives each pod that wants one its Envoy, and takes it away with the pod."""
        api = KubeApi(self._credentials.kubeconfig(), timeout=2.0)
        while not self._stop.is_set():
            with contextlib.suppress(MeshError):  # tests take the API server away
                await self._match(plane, await asyncio.to_thread(api.list, POD, labels=f"{SIDECAR}=true"))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _LOOK)
        api.close()

    async def _match(self, plane: ControlPlane, pods: list[Object]) -> None:
        wanted = {f"{pod['metadata']['namespace']}.{pod['metadata']['name']}": pod for pod in pods if _runs(pod)}
        have = {name.removeprefix("envoy-") for name in self._runners if name.startswith("envoy-")}
        if wanted.keys() == have:
            return
        for name in have - wanted.keys():
            await self._runners.pop(f"envoy-{name}").stop(kill=True)
        starting = []
        for name in wanted.keys() - have:
            meta, address = wanted[name]["metadata"], wanted[name]["status"]["podIP"]
            content = sidecars.bootstrap(meta["name"], meta["namespace"], address, meta["labels"])
            file = sidecars.write(self._layout.root / "sidecars" / f"{name}.json", content)
            starting.append(
                self._start_pod(name, address, plane.sidecar(name, file, f"http://{address}:{sidecars.ADMIN}"))
            )
        for failure in await asyncio.gather(*starting, return_exceptions=True):
            if isinstance(failure, BaseException):
                self._say(str(failure))  # whatever has no sidecar yet gets one at the next look
        targets = [
            {
                "targets": [f"{pod['status']['podIP']}:{statistics.PORT}"],
                "labels": {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]},
            }
            for pod in wanted.values()
        ]
        scrape.write_targets(self._layout.prometheus / "targets.json", targets)

    async def _start_pod(self, name: str, address: str, sidecar: Part) -> None:
        # The application first: whom a sidecar serves must not be who had the address before.
        async with self._session.post(f"http://{address}:{PORT}/_pod", json={"name": name}) as response:
            response.raise_for_status()
        await self._run(sidecar)

    async def _act(self, name: str, action: control.Action) -> PartInfo:
        runner = self._runners.get(name)
        if runner is None:
            raise control.ControlError(f"no part is called {name}; there are {', '.join(sorted(self._runners))}")
        try:
            if action == "start":
                await runner.start()
            else:
                await runner.stop(kill=action == "kill")
        except PartFailed as error:
            raise control.ControlError(str(error)) from error
        return runner.info

    async def _go_down(self) -> None:
        await asyncio.gather(*(runner.stop(kill=True) for runner in self._runners.values()))

    def _update(self, **changes: object) -> None:
        self._info = self.info.model_copy(update=changes)
        write(self._layout.record, self._info)  # type: ignore[arg-type]

    def _part_changed(self, part: PartInfo) -> None:
        self._update(parts={**self.info.parts, part.name: part})


def _runs(pod: Object) -> bool:
    ready = pod.get("status", {}).get("phase") == "Running" and pod["status"].get("podIP")
    return bool(ready) and "deletionTimestamp" not in pod["metadata"]


async def serve(
    root: Path, *, scrape_every: float, tools: Path, say: Callable[[str], None], ready: Callable[[LabInfo], None]
) -> None:
    """Holds a lab until SIGTERM or SIGINT."""
    server = LabServer(root, scrape_every=scrape_every, tools=tools, say=say)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, server.stop)
    await server.run(ready)
