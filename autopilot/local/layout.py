"""Where the embedded stack keeps its state: one directory, so that looking at it and throwing it away are both easy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "AUTOPILOT_HOME"
TOOLS_VARIABLE = "AUTOPILOT_TOOLS"
DEFAULT_HOME = ".autopilot"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths under one state directory; nothing is created before `create` is called."""

    root: Path

    @classmethod
    def find(cls, state: Path | None = None) -> Layout:
        """The state directory asked for, else `$AUTOPILOT_HOME`, else `.autopilot` in the working directory."""
        root = state or Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME)
        return cls(root.expanduser().absolute())

    @property
    def logs(self) -> Path:
        """One file a part."""
        return self.root / "logs"

    @property
    def mesh(self) -> Path:
        """Everything the proxies read: base, overlays, leases, rendered configuration."""
        return self.root / "mesh"

    @property
    def mesh_file(self) -> Path:
        """The base, as its owner would write it."""
        return self.mesh / "mesh.yaml"

    @property
    def temporal(self) -> Path:
        """The development server's database and the profile its clients read."""
        return self.root / "temporal"

    @property
    def prometheus(self) -> Path:
        """Prometheus' configuration and time series."""
        return self.root / "prometheus"

    @property
    def tools(self) -> Path:
        """Programs that were fetched for this machine; `$AUTOPILOT_TOOLS` shares one folder among several stacks."""
        shared = os.environ.get(TOOLS_VARIABLE)
        return Path(shared).expanduser().absolute() if shared else self.root / "tools"

    @property
    def record(self) -> Path:
        """What runs, for whoever asks."""
        return self.root / "stack.json"

    @property
    def ports(self) -> Path:
        """The ports of last time, taken again where they are free, so that addresses stay the same."""
        return self.root / "ports.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor for as long as it lives."""
        return self.root / "lock"

    def log(self, part: str) -> Path:
        """The log of one part."""
        return self.logs / f"{part}.log"

    def create(self) -> None:
        """Makes the directories, readable by their owner alone, and keeps them out of version control."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in (self.logs, self.mesh, self.temporal, self.prometheus):
            directory.mkdir(exist_ok=True)
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
