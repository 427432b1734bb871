"""Builds the lab's programs beside the other parts, at the lowest priority: they wait, and the compiler does not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.ci.parts import ROOT, STATE
from tests.lab import build, find


class LabBuild:
    """The build in the background; nothing where everything is built, or where no lab can be.

    Its output goes to a log file. The part that needs the lab builds what is still missing then, and fails where that
    cannot be done.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._since = time.monotonic()

    def start(self) -> None:
        """Starts it where something is missing."""
        if not build.missing() or find.lab_problem() or not (find.required() or find.wanted()):
            return
        log = STATE / "lab-build.log"
        print(f"the lab's programs are built in the background, see {log.relative_to(ROOT)}", flush=True)
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.lab", "build"],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _prioritise(self._process.pid, 19)

    def wait(self) -> float:
        """Waits until it has ended; seconds that this took."""
        if self._process is None:
            return 0.0
        began = time.monotonic()
        if self._process.poll() is None:
            _prioritise(self._process.pid, 0)
            print("waiting for the lab's programs to be built", flush=True)
        self._process.wait(timeout=3600)
        print(f"the lab's build ended {time.monotonic() - self._since:.0f} s after it had begun", flush=True)
        return time.monotonic() - began

    def stop(self) -> None:
        """Ends it where it still runs: nobody waits for it any more."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(timeout=30)


def _prioritise(session: int, niceness: int) -> None:
    """Sets the priority of all processes of a session: on most desktops and servers Linux weighs sessions first."""
    os.setpriority(os.PRIO_PGRP, session, niceness)
    with contextlib.suppress(OSError):  # where the kernel has no autogroups, niceness alone counts
        Path(f"/proc/{session}/autogroup").write_text(str(niceness), encoding="ascii")
