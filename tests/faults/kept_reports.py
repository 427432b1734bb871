"""Whether every run that Temporal saw end has left a report, and what reports say that must not be."""

from __future__ import annotations

import re

from temporalio.client import WorkflowExecutionStatus

from autopilot.findings import ExperimentReport
from autopilot.operations.common import Outcome
from autopilot.report import CanaryReport
from tests.faults.cell import Cell
from tests.faults.events import Event
from tests.faults.scene import Scene
from tests.faults.walks import LONG, WATCHES

_ENDED = (WorkflowExecutionStatus.COMPLETED, WorkflowExecutionStatus.CANCELED, WorkflowExecutionStatus.FAILED)
"""Ends that the operation itself sees. One that is terminated, a reset's predecessor too, sees nothing."""


async def check_reports(scene: Scene, cell: Cell, event: Event) -> None:
    """Adds to the cell what is missing or wrong."""
    kind: type[CanaryReport | ExperimentReport] = CanaryReport if cell.point.walk.kind == "canary" else ExperimentReport
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", cell.operation)
    async for run in scene.world.client.list_workflows(f"WorkflowId = '{cell.operation}'"):
        if run.status not in _ENDED:
            continue
        kept = scene.world.folder / "reports" / f"{name}.{run.run_id}.json"
        if not kept.exists():
            cell.lost_reports += 1
            cell.violations.append(f"it ended as {run.status.name} and left no report")
            continue
        report = kind.model_validate_json(kept.read_text(encoding="utf-8"))
        if not event.may_fail and report.outcome is Outcome.FAILED:
            cell.violations.append(f"it failed: {report.reason}")
        watching = cell.point.walk.hold == LONG and cell.point.label.startswith(WATCHES)
        if watching and not event.may_lose and any("the lease was lost" in line.text for line in report.timeline):
            cell.violations.append("it lost its lease")
