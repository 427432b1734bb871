"""The thread between the suite and the worker it torments: files in one folder, which no crash takes away.

<folder>/stops/<operation>    the label of the point at which the operation is to be held, once
<folder>/held/<operation>     that it stands there
<folder>/go/<operation>       that it may go on
<folder>/switches/<name>      a failure that is on
<folder>/landed.log           every late attempt that was not refused: operation, name
<folder>/stalls.log           whenever a judge was held up for longer than any of its process before: time, seconds
<folder>/points.log           every point that was passed: time, operation, label, `held` or empty
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Passed:
    """An operation came by a point."""

    time: float
    operation: str
    label: str
    held: bool


class Control:
    """Both sides of the thread; `folder` is the same for both."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("stops", "held", "go", "switches"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._log = folder / "points.log"
        self._log.touch()
        self._landed = folder / "landed.log"
        self._landed.touch()
        self._stalls = folder / "stalls.log"
        self._stalls.touch()
        self._read = 0

    # The suite's side

    def stop_at(self, operation: str, label: str) -> None:
        """Holds the operation when it comes by the point of that label."""
        self._file("stops", operation).write_text(label, encoding="utf-8")

    def is_held(self, operation: str) -> bool:
        """Whether it stands at its point."""
        return self._file("held", operation).exists()

    def go(self, operation: str) -> None:
        """Lets it go on, now or when it gets there."""
        self._file("stops", operation).unlink(missing_ok=True)
        self._file("go", operation).touch()

    def switch(self, name: str, *, on: bool) -> None:
        """Turns a failure of the worker on or off."""
        path = self._folder / "switches" / name
        if on:
            path.touch()
        else:
            path.unlink(missing_ok=True)

    def news(self) -> list[Passed]:
        """The points passed since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        found = []
        for line in whole.decode("utf-8").splitlines():
            when, operation, label, held = line.split("\t")
            found.append(Passed(float(when), operation, label, held == "held"))
        return found

    def landings(self, operation: str) -> list[str]:
        """Names of the operation's late attempts that were not refused."""
        lines = (line.split("\t") for line in self._landed.read_text(encoding="utf-8").splitlines())
        return [name for of, name in lines if of == operation]

    def worst_stall(self, since: float = 0.0) -> float:
        """Seconds for which a judge was held up at the longest, as noted since then (seconds since the epoch)."""
        lines = (line.split("\t") for line in self._stalls.read_text(encoding="utf-8").splitlines())
        return max((float(seconds) for when, seconds in lines if float(when) >= since), default=0.0)

    def forget(self) -> None:
        """Before the next batch: nothing is stopped, held, let go or switched on."""
        for name in ("stops", "held", "go", "switches"):
            shutil.rmtree(self._folder / name)
            (self._folder / name).mkdir()

    # The worker's side

    def is_on(self, name: str) -> bool:
        """Whether a failure is on."""
        return (self._folder / "switches" / name).exists()

    def landed(self, operation: str, name: str) -> None:
        """Notes that a late attempt was not refused."""
        _append(self._landed, f"{operation}\t{name}\n")

    def stalled(self, seconds: float) -> None:
        """Notes for how long a judge was held up."""
        _append(self._stalls, f"{time.time():.3f}\t{seconds:.3f}\n")

    def passes(self, operation: str, label: str) -> bool:
        """Notes that the operation comes by a point; says whether it is to be held there."""
        stop = self._file("stops", operation)
        try:
            held = stop.read_text(encoding="utf-8") == label
        except FileNotFoundError:
            held = False
        self._note(operation, label, held=held)
        if held:
            stop.replace(self._file("held", operation))  # once: whatever runs again is not held again
        return held

    def may_go(self, operation: str) -> bool:
        """Whether the one that is held may go on."""
        return self._file("go", operation).exists()

    def _note(self, operation: str, label: str, *, held: bool) -> None:
        _append(self._log, f"{time.time():.4f}\t{operation}\t{label}\t{'held' if held else ''}\n")

    def _file(self, folder: str, operation: str) -> Path:
        return self._folder / folder / operation.replace("/", "+")


def _append(file: Path, line: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
