"""When experiments disturbed a mesh: failures in these spans were intended, so they are not learned from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autopilot.kinds import kind_of
from autopilot.mesh.audit import AuditRecord
from autopilot.telemetry.model import Observation

Span = tuple[float, float]
"""From and until, seconds since the epoch."""

_BEFORE, _AFTER = 2.0, 20.0
"""Seconds around it that belong to it: scrapes are late, and requests end after the fault that they met."""


def spans(records: Iterable[AuditRecord]) -> list[Span]:
    """When faults were laid, from the records of a mesh; what has no end yet lasts."""
    found: list[Span] = []
    laid: dict[tuple[str, int], float] = {}
    for record in records:
        if kind_of(record.operation) != "chaos":
            continue
        key = record.target, record.fencing
        if record.action == "apply" and record.changes:
            laid.setdefault(key, record.time)
        elif record.action in ("lift", "expire") and key in laid:
            found.append((laid.pop(key) - _BEFORE, record.time + _AFTER))
    return [*found, *((begun - _BEFORE, float("inf")) for begun in laid.values())]


def undisturbed(looks: Sequence[Observation], disturbed: Sequence[Span]) -> list[list[Observation]]:
    """The looks outside all spans, in runs: between two runs counters have grown by what was meant to fail."""
    runs: list[list[Observation]] = [[]]
    for look in looks:
        if any(begun <= look.time <= ended for begun, ended in disturbed):
            if runs[-1]:
                runs.append([])
        else:
            runs[-1].append(look)
    return [run for run in runs if run]
