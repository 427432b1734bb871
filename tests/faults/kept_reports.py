"""Whether every run that Temporal saw end has left a report, and what reports say that must not be."""

from __future__ import annotations

import re

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import WorkflowExecutionStatus

from autopilot.operations.common import Outcome
from autopilot.reports.canary import CanaryReport
from autopilot.reports.experiment import ExperimentReport
from tests.faults.cell import Cell
from tests.faults.events.event import Event
from tests.faults.walks import LONG, WATCHES
from tests.faults.world.scene import Scene

_ENDED = (WorkflowExecutionStatus.COMPLETED, WorkflowExecutionStatus.CANCELED, WorkflowExecutionStatus.FAILED)
"""Ends that the operation itself sees. One that is terminated, a reset's predecessor too, sees nothing."""


async def check_reports(scene: Scene, cell: Cell, event: Event) -> None:
    """Adds to the cell what is missing or wrong."""
    kind: type[CanaryReport | ExperimentReport] = CanaryReport if cell.point.walk.kind == "canary" else ExperimentReport
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", cell.operation)
    reports = scene.world.folder / "reports"
    async for run in scene.world.client.list_workflows(f"WorkflowId = '{cell.operation}'"):
        if run.status not in _ENDED:
            continue
        runs = [run.run_id]
        while (before := await _reset_from(scene, cell, runs[-1])) is not None:
            runs.append(before)
        kept = next((file for run_id in runs if (file := reports / f"{name}.{run_id}.json").exists()), None)
        if kept is None:
            cell.lost_reports += 1
            cell.violations.append(f"it ended as {run.status.name} and left no report")
            continue
        report = kind.model_validate_json(kept.read_text(encoding="utf-8"))
        cell.reported.append(f"{report.outcome.value}: {report.reason}")
        if not event.may_fail and report.outcome is Outcome.FAILED:
            cell.violations.append(f"it failed: {report.reason}")
        watching = cell.point.walk.hold == LONG and cell.point.label.startswith(WATCHES)
        if watching and not event.may_lose and any("the lease was lost" in line.text for line in report.timeline):
            cell.violations.append("it lost its lease")


async def _reset_from(scene: Scene, cell: Cell, run_id: str) -> str | None:
    """The run whose history this one goes on with after a reset; what it had archived is not archived again."""
    history = await scene.world.client.get_workflow_handle(cell.operation, run_id=run_id).fetch_history()
    resets = [
        item.workflow_task_failed_event_attributes.base_run_id
        for item in history.events
        if item.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
        and item.workflow_task_failed_event_attributes.cause
        == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW
    ]
    return resets[-1] if resets else None
