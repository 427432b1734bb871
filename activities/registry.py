"""How kinds of operations give their activities to a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from activities.report_archive import Archive
from activities.temporal_health import TemporalHealth
from autopilot.mesh_registry.meshes import Meshes


@dataclass(frozen=True, slots=True)
class Tools:
    """What activities of one worker process share."""

    meshes: Meshes
    health: TemporalHealth
    """Whether Temporal answers; a watch stops renewing its lease when it does not."""
    archive: Archive


@dataclass(frozen=True, slots=True)
class Registered:
    """Activities of one kind, by the queue that runs them."""

    effects: tuple[Callable[..., Any], ...] = ()
    """Short ones: they end within seconds."""
    watches: tuple[Callable[..., Any], ...] = ()
    """Long ones, which heartbeat and go on elsewhere when a worker stops."""
