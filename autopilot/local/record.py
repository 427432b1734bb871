"""The record of a running stack: `stack.json` in the state directory."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autopilot.local.processes import is_alive


class Condition(StrEnum):
    """Condition of a part."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    """Stopped on request."""
    FAILED = "failed"
    """It ended by itself, or never became ready."""


class Record(BaseModel):
    """A frozen value that is written to a file and read by another process."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class PartInfo(Record):
    """One process of the stack."""

    name: str
    condition: Condition
    pid: int | None = None
    started: int | None = None
    """The kernel's start time of that pid: tells it from another process that got the same pid later."""
    detail: str = ""
    restarts: int = 0
    seconds: float | None = None
    """Seconds until it was ready, at the last start."""
    log: Path

    @property
    def alive(self) -> bool:
        """Whether its process runs now."""
        return self.pid is not None and self.started is not None and is_alive(self.pid, self.started)


class StackInfo(Record):
    """The stack: addresses and condition of every part. URLs are None for parts that were not requested."""

    version: Literal[1] = 1
    condition: Condition
    pid: int
    """Of the supervisor."""
    started: int
    since: float
    """Seconds since the epoch."""
    root: Path
    logs: Path
    mesh_file: Path
    control: Path
    """Unix socket of the supervisor."""
    temporal: str | None = None
    """`host:port`, as TEMPORAL_ADDRESS wants it."""
    namespace: str = "default"
    ui: str | None = None
    prometheus: str | None = None
    ingress: str | None = None
    load: str | None = None
    """Control URL of the load generator."""
    shop: dict[str, str] = Field(default_factory=dict)
    """Instance (`reviews-v2`) to the application's own URL, where its behaviour is set."""
    parts: dict[str, PartInfo] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """Notes for people, for instance that there is no Prometheus."""

    @property
    def alive(self) -> bool:
        """Whether its supervisor runs now."""
        return is_alive(self.pid, self.started)

    def workflow_url(self, workflow_id: str, run_id: str) -> str:
        """Where the Web UI shows a workflow."""

        return f"{self.ui}/namespaces/{self.namespace}/workflows/{quote(workflow_id, safe='')}/{run_id}"


class StackEvent(Record):
    """One line from the supervisor to whoever started it."""

    kind: Literal["part", "note", "ready", "failed", "refused", "stopping", "stopped"]
    part: PartInfo | None = None
    text: str = ""


def write(file: Path, info: StackInfo) -> None:
    """Replaces the record in one step."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    partial.write_text(info.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(file)


def read(file: Path) -> StackInfo | None:
    """The record, alive or not; None where there is none that can be read."""
    try:
        return StackInfo.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
