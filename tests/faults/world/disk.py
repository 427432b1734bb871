"""The disk that the meshes lie on: a small one of its own where root may mount one, so that it can be filled."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from autopilot.local.processes import start_time

_RUN = re.compile(r"crash-(\d+)-")
_SIZE = "32m"
_CHUNK = bytes(64 * 1024)


class SmallDisk:
    """A folder, on a tmpfs of its own where that can be had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mounted = False

    def mount(self) -> None:
        """Makes the folder."""
        self.folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(self.folder)]
        self.mounted = os.geteuid() == 0 and _does(command)

    @staticmethod
    def tidy() -> None:
        """Unmounts and removes what killed runs left: processes end with their parent, mounts do not."""
        for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
            point = Path(line.split()[1])
            if (run := _RUN.match(point.parent.name)) and start_time(int(run[1])) is None:
                _does(["umount", "--lazy", str(point)])
                shutil.rmtree(point.parent, ignore_errors=True)

    def unmount(self) -> None:
        """Lets go of it, and of all that is on it."""
        if self.mounted:
            self.mounted = not _does(["umount", "--lazy", str(self.folder)])

    def fill(self) -> None:
        """Not a byte more can be written."""
        with (self.folder / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(_CHUNK) == len(_CHUNK):
                pass
            while ballast.write(b"\0"):
                pass

    def empty(self) -> None:
        """There is room again."""
        (self.folder / "ballast").unlink(missing_ok=True)


def _does(command: list[str]) -> bool:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    return False
