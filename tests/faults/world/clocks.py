"""Moves the wall clocks of single processes by an hour, with a few lines of C where there is a compiler.

libfaketime does not do here: Envoy never starts with it (see `clock.c`), and a Python process that sleeps while its
clock is moved is told "Invalid argument", so that what fails is the tool and not the worker.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

HOUR = 3600
PARTS = ("worker", "guard", "envoy")


class NoClocks(Exception):
    """A clock cannot be moved here; the message says why."""


class Clocks:
    """One clock a part, in `folder`.

    Raises:
        NoClocks: there is no compiler, or it refuses.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = folder / "clock.so"
        compiler = shutil.which("cc")
        if compiler is None:
            raise NoClocks("there is no C compiler (`cc`)")
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", self._library, Path(__file__).with_name("clock.c")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise NoClocks(f"{compiler} refuses: {done.stderr.strip()[:300]}")
        self.right()

    def preload(self) -> Mapping[str, Mapping[str, str]]:
        """Part → the environment that makes it follow its clock."""
        return {part: {"LD_PRELOAD": str(self._library), "CLOCK_SHIFT": str(self._file(part))} for part in PARTS}

    def right(self) -> None:
        """All clocks are right again."""
        for part in PARTS:
            self.move(part, 0)

    def move(self, part: str, seconds: int) -> None:
        """From now on the part's clock is so much ahead."""
        # In place: processes look at this very file.
        with self._file(part).open("r+b" if self._file(part).exists() else "wb") as shift:
            shift.write(struct.pack("q", seconds))

    def _file(self, part: str) -> Path:
        return self._folder / f"{part}.clock"
