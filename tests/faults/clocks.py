"""Moves the clock of one process by an hour: Debian's libfaketime, fetched into the tools folder, nothing installed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOUR = 3600
PARTS = ("worker", "guard", "envoy")
_LIMIT = 60.0
_NAME = "libfaketime.so.1"


class NoClocks(Exception):
    """libfaketime cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Clocks that can be moved, one a part."""

    library: Path
    folder: Path

    def env(self, part: str) -> dict[str, str]:
        """What makes a part follow its clock; monotonic time is everybody's own."""
        self.move(part, 0)
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file(part)),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def preload(self) -> Mapping[str, Mapping[str, str]]:
        """For every part whose clock may move."""
        return {part: self.env(part) for part in PARTS}

    def right(self) -> None:
        """All clocks are right again."""
        for part in PARTS:
            self.move(part, 0)

    def move(self, part: str, seconds: int) -> None:
        """From within a second on the part's clock is so much ahead."""
        temporary = self._file(part).with_suffix(".new")
        temporary.write_text(f"{seconds:+d}\n", encoding="ascii")
        temporary.replace(self._file(part))

    def _file(self, part: str) -> Path:
        return self.folder / f"{part}.clock"


def library(tools: Path) -> Path:
    """The library in `tools`, fetched where it is not there yet.

    Raises:
        NoClocks: no way leads to it.
    """
    found = next(tools.glob(f"faketime/**/{_NAME}"), None)
    if found is not None:
        return found
    tools.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tools, prefix="fetch-") as scratch:
        try:
            _run(["apt-get", "--quiet", "-o", "APT::Sandbox::User=root", "download", "libfaketime"], Path(scratch))
        except NoClocks:
            _update_and_download(Path(scratch))
        packages = list(Path(scratch).glob("libfaketime_*.deb"))
        if not packages:
            raise NoClocks("apt-get downloaded nothing")
        _run(["dpkg-deb", "-x", str(packages[0]), str(tools / "faketime")], Path(scratch))
    found = next(tools.glob(f"faketime/**/{_NAME}"), None)
    if found is None:
        raise NoClocks(f"the package holds no {_NAME}")
    return found


def _update_and_download(scratch: Path) -> None:
    """With package lists of its own where the system has none."""
    state = scratch / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True)
    own = [
        "-o",
        f"Dir::State={state}",
        "-o",
        f"Dir::State::lists={state / 'lists'}",
        "-o",
        f"Dir::Cache={state / 'cache'}",
    ]
    own += ["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "APT::Sandbox::User=root"]
    _run(["apt-get", "--quiet", *own, "update"], scratch)
    _run(["apt-get", "--quiet", *own, "download", "libfaketime"], scratch)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoClocks(f"{command[0]} does not do: {error}") from error
    if done.returncode:
        raise NoClocks(f"{' '.join(command[:2])} failed: {done.stderr.strip().splitlines()[-1:]}")
