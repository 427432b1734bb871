"""An API server from kubebuilder's assets: etcd and kube-apiserver, on loopback, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from autopilot.local.layout import Layout
from autopilot.local.runner import Runner
from tests.lab.credentials import Credentials
from tests.lab.parts import ControlPlane


@contextlib.contextmanager
def api_server(programs: Path) -> Iterator[Path]:
    """Runs both for as long as the context lasts; the kubeconfig of its administrator.

    Raises:
        PartFailed: one of them did not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout.find(Path(folder))
        layout.create()
        credentials = Credentials(layout.root / "credentials")
        credentials.write()
        plane = ControlPlane(programs, layout.root, credentials)
        ended = threading.Event()

        async def start() -> list[Runner]:
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False))
            try:
                runners = []
                for part in (plane.etcd(), plane.apiserver()):
                    runners.append(Runner(part, layout, session, lambda _: None))
                    await runners[-1].start()
                return runners
            finally:
                await session.close()

        loop = asyncio.new_event_loop()
        try:
            runners = loop.run_until_complete(start())
            keeper = threading.Thread(target=_turn, args=(loop, ended), daemon=True)
            keeper.start()
            try:
                yield credentials.kubeconfig()
            finally:
                ended.set()
                keeper.join()
                for runner in reversed(runners):
                    loop.run_until_complete(runner.stop(kill=True))
        finally:
            loop.close()


def _turn(loop: asyncio.AbstractEventLoop, ended: threading.Event) -> None:
    """Lets the loop notice what its processes do, until it is over."""

    async def until() -> None:
        while not ended.is_set():
            await asyncio.sleep(0.1)

    loop.run_until_complete(until())
