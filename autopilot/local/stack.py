"""Starts, stops and describes the embedded stack, for the command line and for tests."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from autopilot.local.layout import Layout
from autopilot.local.parts import GROUPS, check_groups
from autopilot.local.processes import is_alive, launch, python, tail
from autopilot.local.record import StackEvent, StackInfo, read

STOP_LIMIT = 15.0


class StackError(Exception):
    """The stack did not come up; the message names the part and shows the end of its log."""


class StackRunning(StackError):
    """There is one already; `info` describes it."""

    def __init__(self, info: StackInfo) -> None:
        super().__init__(f"a stack is already running in {info.root} (pid {info.pid})")
        self.info = info


class Stack:
    """A stack that this process started."""

    def __init__(self, layout: Layout, process: subprocess.Popen[bytes], events: Iterator[StackEvent]) -> None:
        self._layout = layout
        self._process = process
        self._events = events

    @property
    def info(self) -> StackInfo:
        """What runs now.

        Raises:
            StackError: it has ended.
        """
        info = describe(self._layout.root)
        if info is None:
            raise StackError(f"the stack in {self._layout.root} has ended; its logs are in {self._layout.logs}")
        return info

    def events(self) -> Iterator[StackEvent]:
        """What happens from now on, until the stack has ended."""
        yield from self._events

    def stop(self, on_event: Callable[[StackEvent], None] = lambda _: None) -> None:
        """Takes it down, and returns when everything is gone."""
        self._process.send_signal(signal.SIGTERM)
        _see_out(self._process, self._events, on_event)


def start(
    state: Path | None = None,
    *,
    detach: bool = False,
    parts: Sequence[str] = GROUPS,
    rate: float = 100.0,
    on_event: Callable[[StackEvent], None] = lambda _: None,
) -> Stack:
    """Starts a stack and returns when every part is ready. Call it from the main thread.

    Args:
        state: its directory; see `Layout.find`.
        detach: whether it outlives this process; otherwise it ends with it, even if this one is killed.
        parts: which groups of parts; see `parts.GROUPS`.
        rate: requests a second that the load generator sends.
        on_event: told how things go.

    Raises:
        StackRunning: one runs there, or comes up.
        StackError: a part did not become ready; everything has been stopped again.
        UnknownPart: there is no such group, or it needs another.
    """
    layout = Layout.find(state)
    groups = check_groups(parts)
    if info := describe(layout.root):
        raise StackRunning(info)
    layout.create()
    reader, writer = os.pipe()
    command = python("autopilot.local.supervisor", "--state", str(layout.root), "--parts", ",".join(groups))
    command += ["--rate", f"{rate:g}", "--report-fd", str(writer)]
    tie = None if detach else signal.SIGTERM
    log = layout.log("supervisor")
    try:
        process = launch(command, log=log, env=dict(os.environ), pass_fds=[writer], death_signal=tie, cwd=layout.root)
    finally:
        os.close(writer)
    events = _events(reader)
    try:
        return _until_ready(layout, process, events, on_event)
    except BaseException:
        process.send_signal(signal.SIGTERM)
        _see_out(process, events, on_event)
        raise


def _until_ready(
    layout: Layout,
    process: subprocess.Popen[bytes],
    events: Iterator[StackEvent],
    on_event: Callable[[StackEvent], None],
) -> Stack:
    for event in events:
        on_event(event)
        match event.kind:
            case "ready":
                return Stack(layout, process, events)
            case "refused":
                if info := describe(layout.root):
                    raise StackRunning(info)
                raise StackError(f"{event.text}, and is just ending; try again in a few seconds")
            case "failed":
                raise StackError(event.text)
            case _:
                pass
    log = layout.log("supervisor")
    raise StackError(f"the supervisor ended without an error message; the end of {log}:\n{tail(log)}")


def describe(state: Path | None = None) -> StackInfo | None:
    """The stack that runs in this directory, ready or not; None where none does."""
    info = read(Layout.find(state).record)
    return info if info is not None and info.alive else None


def stop(state: Path | None = None, *, limit: float = STOP_LIMIT) -> StackInfo | None:
    """Takes down whatever runs in this directory; returns what ran, or None where nothing did.

    The supervisor is asked; if it is not gone within `limit` seconds it is killed, and the kernel ends the rest.
    """
    layout = Layout.find(state)
    info = read(layout.record)
    if info is None:
        return None
    ran = _end(info.pid, info.started, limit)
    for part in info.parts.values():
        if part.pid is not None and part.started is not None:
            # They go with their supervisor; this waits for the last of them.
            ran |= _end(part.pid, part.started, limit=2.0)
    layout.record.unlink(missing_ok=True)
    return info if ran else None


def _end(pid: int, started: int, limit: float) -> bool:
    """Ends exactly this process, and waits until it has; False where it was gone before."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # Asked after opening: from here on the descriptor means this process and no later one of the same pid.
        if not is_alive(pid, started):
            return False
        for signum, patience in ((signal.SIGTERM, limit), (signal.SIGKILL, STOP_LIMIT)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signum)
            if select.select([descriptor], [], [], patience)[0]:
                return True
    finally:
        os.close(descriptor)
    raise StackError(f"process {pid} did not end after SIGKILL; see `ps -o stat,wchan {pid}`")


def _see_out(
    process: subprocess.Popen[bytes], events: Iterator[StackEvent], on_event: Callable[[StackEvent], None]
) -> None:
    """Waits for the supervisor's end and returns its last events; kills it when that takes too long."""
    killer = threading.Timer(STOP_LIMIT, process.kill)
    killer.start()
    try:
        for event in events:
            on_event(event)
        process.wait()
    except KeyboardInterrupt:
        process.kill()
        process.wait()
        raise
    finally:
        killer.cancel()


def _events(reader: int) -> Iterator[StackEvent]:
    """The supervisor's events until it ends."""
    with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(ValidationError):
                yield StackEvent.model_validate_json(line)
