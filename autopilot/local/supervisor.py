"""The process that starts and watches every part of the stack, and takes all of them down when it ends.

Run as `python -m autopilot.local.supervisor`, by `autopilot.local.stack`. It tells whoever started it how things go, a
JSON line an event; it goes on when nobody listens any more.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import aiohttp

from autopilot.local import control, envoy, ports, prometheus_install, temporal, topology
from autopilot.local.layout import Layout
from autopilot.local.parts import Catalogue, Part, Probe, check_groups, port_names, url
from autopilot.local.processes import Child, environment, launch, python, start_time
from autopilot.local.prometheus import PrometheusCommand, write_config
from autopilot.local.record import Condition, PartInfo, StackEvent, StackInfo, write
from autopilot.local.runner import PartFailed, Runner, answers
from autopilot.mesh.errors import MeshError

Prepare = Callable[[Path], dict[str, Path]]

EXIT_FAILED = 1
EXIT_REFUSED = 3
_FETCH_LIMIT = 90.0
_PATH_LIMIT = 15.0
_STOP_ORDER = (("worker", "guard"), ("load", "prometheus", "temporal"), ("envoy-",), ("shop-",))
_PROBLEMS = (PartFailed, MeshError, envoy.EnvoyMissing, temporal.TemporalMissing, ports.NoFreePort)


def prepare_envoys(mesh_file: Path) -> dict[str, Path]:
    """Writes what the proxies read; proxy name to bootstrap file."""
    from autopilot.mesh.envoy.prepare import prepare  # noqa: PLC0415  (heavy, and not needed to say who holds the lock)

    return prepare(mesh_file)


class Reporter:
    """Writes events to the pipe of whoever started us; keeps quiet once nobody reads."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_blocking(descriptor, False)

    def __call__(self, event: StackEvent) -> None:
        """Sends one event."""
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, event.model_dump_json().encode() + b"\n")
        except BlockingIOError:
            return
        except OSError:
            self._descriptor = None


class Supervisor:
    """Everything that one `autopilot up` runs."""

    def __init__(
        self,
        layout: Layout,
        *,
        groups: Sequence[str],
        rate: float,
        report: Callable[[StackEvent], None],
        prepare: Prepare = prepare_envoys,
    ) -> None:
        self._layout = layout
        self._groups = check_groups(groups)
        self._rate = rate
        self._report = report
        self._prepare = prepare
        self._runners: dict[str, Runner] = {}
        self._stop = asyncio.Event()
        self._info: StackInfo | None = None
        self._ports: dict[str, int] = {}

    def stop(self) -> None:
        """Asks for the end."""
        self._stop.set()

    async def run(self) -> int:
        """From start to end; the exit code."""
        self._layout.create()
        with self._layout.lock.open("wb") as lock:
            if not _take(lock):
                self._report(StackEvent(kind="refused", text=f"another stack is running in {self._layout.root}"))
                return EXIT_REFUSED
            _rotate(self._layout.logs)
            async with aiohttp.ClientSession() as self._session:
                return await self._supervise()

    async def _supervise(self) -> int:
        self._open_record()
        server = await control.serve(
            self._known.control, control.application(lambda: self._known, self._act, self.stop)
        )
        code = 0
        try:
            code = await self._come_up()
            if code == 0:
                await self._stop.wait()
        finally:
            self._note_condition(Condition.STOPPING)
            self._report(StackEvent(kind="stopping"))
            await server.cleanup()
            await self._go_down()
            self._layout.record.unlink(missing_ok=True)
            control.remove(self._known.control, self._layout.root)
        self._report(StackEvent(kind="stopped"))
        return code

    async def _come_up(self) -> int:
        """Starts everything, unless told to stop first; the exit code so far."""
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        try:
            starting.result()
        except BaseExceptionGroup as group:
            problem = _first(group)
            if problem is None:
                raise
            self._report(StackEvent(kind="failed", text=str(problem)))
            return EXIT_FAILED
        except _PROBLEMS as problem:
            self._report(StackEvent(kind="failed", text=str(problem)))
            return EXIT_FAILED
        self._note_condition(Condition.READY)
        self._report(StackEvent(kind="ready"))
        return 0

    async def _start(self) -> None:
        catalogue = Catalogue(self._layout, self._ports)
        async with asyncio.TaskGroup() as group:
            if "mesh" in self._groups:
                group.create_task(self._start_mesh(catalogue))
            if "temporal" in self._groups:
                temporal.write_profile(self._layout.temporal / "client.toml", port=self._ports["temporal"])
                group.create_task(self._run(catalogue.temporal(temporal.find())))
            if "prometheus" in self._groups:
                group.create_task(self._start_prometheus(catalogue))
        async with asyncio.TaskGroup() as group:
            for name in ("worker", "guard"):
                if name in self._groups:
                    part = catalogue.ours(name, prometheus=self._known.prometheus is not None)
                    group.create_task(self._run(part))

    async def _start_mesh(self, catalogue: Catalogue) -> None:
        """Proxies and shop together; load once a request finds its way through all of them."""
        mesh_file = self._layout.mesh_file
        topology.write(topology.build(self._ports, topology.kept_weights(mesh_file)), mesh_file)
        bootstraps = self._prepare(mesh_file)
        proxies = catalogue.proxies(envoy.find(), bootstraps)
        async with asyncio.TaskGroup() as group:
            for part in (*catalogue.shop(), *proxies):
                group.create_task(self._run(part))
        await self._until_path(catalogue.ingress)
        await self._run(catalogue.load(self._rate))

    async def _until_path(self, ingress: str) -> None:
        deadline = time.monotonic() + _PATH_LIMIT
        while problem := await answers(self._session, Probe(ingress)):
            if time.monotonic() > deadline:
                reason = f"did not carry a request from the ingress to the shop within {_PATH_LIMIT:g} s: {problem}"
                raise PartFailed("the proxies", reason)
            await asyncio.sleep(0.05)

    async def _start_prometheus(self, catalogue: Catalogue) -> None:
        found = prometheus_install.find(self._layout.tools) or await self._fetch_prometheus()
        if found is None:
            how = "install it with `python -m autopilot.local.install`"
            self._note(f"no Prometheus: counts come only from the proxies' own statistics ({how})")
            return
        proxies = {name: f"{ports.LOOPBACK}:{self._ports[f'admin:{name}']}" for name in topology.proxy_names()}
        ours: dict[str, str] = {
            name: f"{ports.LOOPBACK}:{self._ports[name]}" for name in ("worker", "guard") if name in self._groups
        }
        write_config(self._layout.prometheus / "prometheus.yml", proxies=proxies, ours=ours)
        await self._run(catalogue.prometheus(found))
        self._update(prometheus=url(self._ports["prometheus"]))

    async def _fetch_prometheus(self) -> PrometheusCommand | None:
        if prometheus_install.tried_lately(self._layout.tools):
            return None
        self._report(StackEvent(kind="note", text="Prometheus is not installed yet: downloading it"))
        words = python("autopilot.local.install", "--quick", "--tools", str(self._layout.tools))
        child = Child(launch(words, log=self._layout.log("install"), env=environment({})))
        try:
            await asyncio.wait_for(child.wait(), _FETCH_LIMIT)
        except TimeoutError:
            self._report(StackEvent(kind="note", text=f"Prometheus could not be downloaded within {_FETCH_LIMIT:g} s"))
        finally:
            await child.stop(1.0)
        return prometheus_install.find(self._layout.tools)

    async def _run(self, part: Part) -> None:
        runner = self._runners[part.name] = Runner(part, self._layout, self._session, self._part_changed)
        await runner.start()

    async def _act(self, name: str, action: control.Action) -> PartInfo:
        runner = self._runners.get(name)
        if runner is None:
            raise control.ControlError(f"unknown part {name}; known: {', '.join(sorted(self._runners))}")
        try:
            if action == "start":
                await runner.start()
            else:
                await runner.stop(kill=action == "kill")
        except PartFailed as error:
            raise control.ControlError(str(error)) from error
        return runner.info

    async def _go_down(self) -> None:
        """Stops everything in reverse order: our processes, then load, then proxies, then the applications."""
        for prefixes in _STOP_ORDER:
            stopped = [runner.stop() for name, runner in self._runners.items() if name.startswith(prefixes)]
            await asyncio.gather(*stopped)

    # What is known is written down at every change.

    @property
    def _known(self) -> StackInfo:
        if self._info is None:
            raise RuntimeError("the record of the stack is not open yet")
        return self._info

    def _open_record(self) -> None:
        self._ports = ports.allocate(port_names(), ports.remembered(self._layout.ports))
        ports.remember(self._layout.ports, self._ports)
        catalogue = Catalogue(self._layout, self._ports)
        mesh, server = "mesh" in self._groups, "temporal" in self._groups
        shop = {item.name: url(self._ports[f"app:{item.name}"]) for item in topology.INSTANCES}
        self._info = StackInfo(
            condition=Condition.STARTING,
            pid=os.getpid(),
            started=start_time(os.getpid()) or 0,
            since=time.time(),
            root=self._layout.root,
            logs=self._layout.logs,
            mesh_file=self._layout.mesh_file,
            control=control.socket_path(self._layout.root),
            temporal=f"{ports.LOOPBACK}:{self._ports['temporal']}" if server else None,
            ui=url(self._ports["ui"]) if server else None,
            ingress=catalogue.ingress if mesh else None,
            load=url(self._ports["load"]) if mesh else None,
            shop=shop if mesh else {},
        )
        write(self._layout.record, self._info)

    def _update(self, **changes: object) -> None:
        self._info = self._known.model_copy(update=changes)
        write(self._layout.record, self._info)

    def _part_changed(self, part: PartInfo) -> None:
        self._update(parts={**self._known.parts, part.name: part})
        self._report(StackEvent(kind="part", part=part))

    def _note(self, text: str) -> None:
        self._update(notes=(*self._known.notes, text))
        self._report(StackEvent(kind="note", text=text))

    def _note_condition(self, condition: Condition) -> None:
        self._update(condition=condition)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The problem that caused the others; None where it is unknown."""
    known, unknown = group.split(_PROBLEMS)
    if known is None or unknown is not None:
        return None
    problem: BaseException = known
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


def _take(lock: BinaryIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _rotate(logs: Path) -> None:
    """Keeps the logs of the time before as `NAME.log.1`; the supervisor's own is open already."""
    for log in logs.glob("*.log"):
        if log.name != "supervisor.log":
            log.replace(log.with_name(f"{log.name}.1"))


async def _main(layout: Layout, groups: Iterable[str], rate: float, report: Reporter, prepare: Prepare) -> int:
    supervisor = Supervisor(layout, groups=tuple(groups), rate=rate, report=report, prepare=prepare)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signum, supervisor.stop)
    return await supervisor.run()


def main(argv: Sequence[str] | None = None, *, prepare: Prepare = prepare_envoys) -> None:
    """Supervises until SIGTERM; exit code 0, 1 (a part failed at the start) or 3 (another stack runs there)."""
    parser = argparse.ArgumentParser(prog="python -m autopilot.local.supervisor", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--parts", required=True, help="comma-separated")
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--report-fd", type=int, help="file descriptor of a pipe for events")
    given = parser.parse_args(argv)
    report = Reporter(given.report_fd)
    layout = Layout.find(given.state)
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(_main(layout, given.parts.split(","), given.rate, report, prepare)))


if __name__ == "__main__":
    main()
