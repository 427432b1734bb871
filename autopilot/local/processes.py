"""Child processes that cannot outlive their parent, and whose end can be awaited.

The kernel sends every child a signal when the thread that started it ends (`PR_SET_PDEATHSIG`), SIGKILL of the parent
included. So children are started from the main thread only: another thread may end while the process lives on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_LOOPBACK_HOSTS = "127.0.0.1,localhost"


def start_time(pid: int) -> int | None:
    """When the process started, in the kernel's ticks since boot; None where it is gone or a zombie.

    Together with the pid it names one process for ever: a pid that was given to another has another start time.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the command in parentheses, which may hold spaces and parentheses itself.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that had this pid and start time still runs."""
    return start_time(pid) == started


_KEPT = ("AUTOPILOT_CODEC", "AUTOPILOT_ALLOW_SECRETS")
"""Settings of ours that a local worker has too: without them it could not read what commands send, or allow more."""


def environment(extra: Mapping[str, str], *, drop: Sequence[str] = ("TEMPORAL_", "AUTOPILOT_")) -> dict[str, str]:
    """The environment of a child: ours, without what would point it elsewhere, and with `extra`.

    Settings for another Temporal (address, keys, TLS) must not reach a local worker, and traffic to loopback must not
    be sent to a proxy.
    """
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or not name.startswith(tuple(drop))}
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(filter(None, (kept.get(name), _LOOPBACK_HOSTS)))
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules; `-P`: what lies in the working directory is not imported."""
    return [sys.executable, "-P", "-m", module, *arguments]


class Child:
    """A process that was started here."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._reap)
        self.pid = process.pid
        self.started = start_time(process.pid) or 0

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        # Before it is reaped its process group can't be anyone else's: take whatever it left behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        returncode = self._process.wait()
        os.close(self._pidfd)
        if not self._ended.done():
            self._ended.set_result(returncode)

    @property
    def returncode(self) -> int | None:
        """The exit code (negative: the signal it died of), or None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """Waits for its end and returns the exit code (negative: the signal it died of)."""
        return await asyncio.shield(self._ended)

    def send(self, signum: signal.Signals) -> None:
        """Sends a signal; does nothing where the process has ended."""
        if not self._ended.done():
            signal.pidfd_send_signal(self._pidfd, signum)

    async def stop(self, grace: float) -> int:
        """Asks it to end, and after `grace` seconds makes it end."""
        self.send(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self.wait()


def dies_with_parent(signum: signal.Signals = signal.SIGKILL) -> _DiesWithParent:
    """For `preexec_fn`: ties a child to the calling thread's process."""
    return _DiesWithParent(signum, os.getpid())


class _DiesWithParent:
    """Runs in the child between fork and exec: one system call, and a look whether the parent is still there."""

    def __init__(self, signum: signal.Signals, parent: int) -> None:
        self._signum, self._parent = int(signum), parent

    def __call__(self) -> None:
        if _LIBC.prctl(_PR_SET_PDEATHSIG, self._signum, 0, 0, 0) != 0 or os.getppid() != self._parent:
            os._exit(125)


def launch(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
    death_signal: signal.Signals | None = signal.SIGKILL,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own, its output appended to `log`, its input empty.

    Args:
        command: program and arguments.
        log: where its output goes.
        env: its whole environment.
        pass_fds: file descriptors it inherits.
        death_signal: what the kernel sends it when this process ends; None: it lives on.
        cwd: its working directory.

    Raises:
        OSError: the program cannot be run.
        RuntimeError: called from another thread than the main one.
    """
    if death_signal is not None and threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children that end with their parent can only be started from the main thread")
    # What runs between fork and exec is one system call, and forks come from the main thread.
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            pass_fds=tuple(pass_fds),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=dies_with_parent(death_signal) if death_signal is not None else None,  # noqa: PLW1509  (see above)
        )


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message; says so where there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            text = file.read().decode("utf-8", errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.splitlines()[-lines:]) or "(its log is empty)"
