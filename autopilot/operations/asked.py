"""Who asks for an operation, of which mesh, and how: beside the document, all that a workflow's input is made from."""

from __future__ import annotations

from dataclasses import dataclass

from autopilot.operations.common import Caller


@dataclass(frozen=True, slots=True)
class Asked:
    """How an operation is to be started."""

    mesh: str
    caller: Caller
    heartbeat_timeout: float
    """Seconds after which a silent watch is started on another worker, as this machine's settings say."""
    queue: bool = False
    """Whether to wait in turn where another operation holds the target."""
