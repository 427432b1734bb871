"""One process of the world: it can be started, killed, frozen and started again, and never outlives the suite."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from autopilot.local.processes import Child, launch, tail
from tests.faults.waiting import WaitedInVain, until


class Part:
    """A process and how to know that it is ready. `launched` is when it was last started, seconds since the epoch."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        folder: Path,
        env: Mapping[str, str],
        ready: Callable[[], object | Awaitable[object]],
        limit: float = 30.0,
    ) -> None:
        self.name = name
        self.launched = 0.0
        self._command = command
        self._log = folder / f"{name}.log"
        self._env = env
        self._ready = ready
        self._limit = limit
        self._child: Child | None = None

    @property
    def running(self) -> bool:
        """Whether there is such a process now."""
        return self._child is not None and self._child.returncode is None

    async def start(self) -> None:
        """Starts it, and waits until it is ready.

        Raises:
            WaitedInVain: it ended, or was not ready in time; the message has the end of its log.
        """
        self.launch()
        await self.ready()

    def launch(self) -> None:
        """Starts it."""
        assert not self.running, f"{self.name} runs already"
        self._child = Child(launch(self._command, log=self._log, env=self._env))
        self.launched = time.time()

    async def ready(self) -> None:
        """Waits until it is ready."""

        async def seen() -> bool:
            if not self.running:
                raise WaitedInVain(f"{self.name} ended: {tail(self._log)}")
            found = self._ready()
            return bool(await found if isinstance(found, Awaitable) else found)

        try:
            await until(seen, f"{self.name} to be ready", limit=self._limit)
        except WaitedInVain as error:
            raise WaitedInVain(f"{error}\n{tail(self._log)}") from error

    async def kill(self) -> None:
        """SIGKILL, and waits until it is gone; does nothing where it is."""
        if self._child is not None:
            self._child.send(signal.SIGKILL)
            await self._child.wait()

    def freeze(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        if self._child is not None:
            self._child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self._child is not None:
            self._child.send(signal.SIGCONT)
