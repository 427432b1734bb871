"""Keeps one part running: starts it, waits until it is ready, and restarts it after its end if configured."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable

import aiohttp

from autopilot.local.layout import Layout
from autopilot.local.parts import Part, Probe
from autopilot.local.processes import Child, launch, tail
from autopilot.local.record import Condition, PartInfo

_POLL = 0.05
_PROBE_TIMEOUT = 2.0
_FIRST_DELAY, _LONGEST_DELAY, _STEADY = 0.25, 10.0, 30.0


class PartFailed(Exception):
    """A part did not become ready, or ended by itself; the message has the last lines of its log."""

    def __init__(self, name: str, reason: str, log_tail: str = "") -> None:
        super().__init__(f"{name} {reason}" + (f"; the end of its log:\n{log_tail}" if log_tail else ""))
        self.name = name
        self.reason = reason


def ended(returncode: int) -> str:
    """How a process ended, in words."""
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-returncode).name}"
    return f"ended by signal {-returncode}"


async def answers(session: aiohttp.ClientSession, probe: Probe) -> str:
    """Asks once; empty where the part is ready, else what is still wrong."""
    try:
        async with session.get(probe.url, timeout=aiohttp.ClientTimeout(total=_PROBE_TIMEOUT)) as response:
            body = await response.text()
            if response.status != 200:
                return f"{probe.url} answers {response.status}"
            return "" if probe.accepts(body) else f"{probe.url} answers, but its answer does not show that it is ready"
    except TimeoutError:
        return f"{probe.url} does not answer"
    except aiohttp.ClientError as error:
        return f"{probe.url}: {error}"


class Runner:
    """One part and its process."""

    def __init__(
        self, part: Part, layout: Layout, session: aiohttp.ClientSession, changed: Callable[[PartInfo], None]
    ) -> None:
        self.part = part
        self.info = PartInfo(name=part.name, condition=Condition.STOPPED, log=layout.log(part.name))
        self._layout = layout
        self._session = session
        self._changed = changed
        self._wanted = False
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts it and waits until it is ready; does nothing where it runs.

        Raises:
            PartFailed: it is not ready in time, ended before, or was stopped meanwhile.
        """
        if self._keeper is not None and not self._keeper.done():
            return
        self._wanted = True
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(first))
        await first

    async def stop(self, *, kill: bool = False) -> None:
        """Ends it, at once or after its grace, and leaves it so."""
        self._wanted = False
        if self._keeper is None:
            return
        if self._child is not None and self._child.returncode is None:
            self._set(Condition.STOPPING)
            if kill:
                self._child.send(signal.SIGKILL)
            await self._child.stop(self.part.grace)
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._keeper = None
        self._set(Condition.STOPPED, "killed on request" if kill else "stopped on request")

    async def _keep(self, first: asyncio.Future[None]) -> None:
        """Runs a part once, or restarts it with longer and longer pauses."""
        delay = _FIRST_DELAY
        try:
            while True:
                began = time.monotonic()
                problem = await self._live(first)
                if not self._wanted:
                    return
                self._set(Condition.FAILED, problem)
                if not self.part.restarts:
                    return
                delay = _FIRST_DELAY if time.monotonic() - began > _STEADY else delay
                self._set(Condition.RESTARTING, f"{problem}; restarts in {delay:g} s")
                await asyncio.sleep(delay)
                delay = min(_LONGEST_DELAY, 2 * delay)
                self.info = self.info.model_copy(update={"restarts": self.info.restarts + 1})
        except PartFailed as error:
            self._set(Condition.FAILED, error.reason)
            if not first.done():
                first.set_exception(error)
        finally:
            if not first.done():
                first.set_exception(PartFailed(self.part.name, "was stopped while it started"))

    async def _live(self, first: asyncio.Future[None]) -> str:
        """From start to end; returns how it ended.

        Raises:
            PartFailed: it never became ready, and this was the first time.
        """
        began = time.monotonic()
        try:
            child = self._child = Child(
                launch(self.part.command, log=self.info.log, env=self.part.env, cwd=self._layout.root)
            )
        except OSError as error:
            raise PartFailed(self.part.name, f"cannot be run: {error}") from None
        self.info = self.info.model_copy(update={"pid": child.pid, "started": child.started})
        self._set(Condition.STARTING)
        problem = await self._until_ready(child, began)
        if problem:
            await child.stop(0.5)
            if not first.done():
                raise PartFailed(self.part.name, problem, tail(self.info.log))
            return problem
        self._set(Condition.READY, seconds=round(time.monotonic() - began, 3))
        if not first.done():
            first.set_result(None)
        return ended(await child.wait())

    async def _until_ready(self, child: Child, began: float) -> str:
        """Waits until it is ready; empty, or why it is not."""
        while True:
            if child.returncode is not None:
                return ended(child.returncode)
            problem = await answers(self._session, self.part.probe)
            if not problem and child.returncode is None:
                return ""
            if time.monotonic() - began > self.part.limit:
                return f"was not ready within {self.part.limit:g} s ({problem})"
            await asyncio.wait({asyncio.ensure_future(child.wait())}, timeout=_POLL)

    def _set(self, condition: Condition, detail: str = "", seconds: float | None = None) -> None:
        update = {"condition": condition, "detail": detail, "seconds": seconds or self.info.seconds}
        self.info = self.info.model_copy(update=update)
        self._changed(self.info)
