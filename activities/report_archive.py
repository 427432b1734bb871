"""Archives the report of every operation as a JSON file, beyond Temporal's retention."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

from pydantic import BaseModel
from temporalio import activity

from activities.contracts.operation import ArchiveRequest, OperationReportSignatures, ReportSignatures
from autopilot.observability.metrics import OPERATIONS, forget_canary
from autopilot.operations.common import Outcome
from autopilot.reports.canary import CanaryReport


class Archive:
    """Reports under one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def keep(self, workflow_id: str, run_id: str, kind: str, outcome: Outcome, report: BaseModel | str) -> str:
        """Writes a report, a model or JSON, and counts its outcome; returns the file's name."""
        name = f"{re.sub(r'[^A-Za-z0-9.-]+', '_', workflow_id)}.{run_id}.json"
        content = report if isinstance(report, str) else report.model_dump_json(indent=1)
        await asyncio.to_thread(self._write, name, content)
        OPERATIONS.labels(kind, outcome.value).inc()
        return name

    def _write(self, name: str, content: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{name}.{os.getpid()}"
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(self.folder / name)


class OperationReports(OperationReportSignatures):
    """Reports of operations of any kind."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    @activity.defn(name="operation.archive")
    async def archive(self, request: ArchiveRequest) -> str:
        """Writes the report, and counts the outcome; returns the file's name."""
        run_id, content = activity.info().workflow_run_id or "", json.dumps(request.report, indent=1)
        return await self._archive.keep(request.workflow_id, run_id, request.kind, request.outcome, content)


class ReportActivities(ReportSignatures):
    """Reports of rollouts."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    @activity.defn(name="report.archive")
    async def archive(self, report: CanaryReport) -> str:
        """Writes the report, and counts the outcome; returns the file's name."""
        run_id = activity.info().workflow_run_id or ""
        name = await self._archive.keep(report.workflow_id, run_id, "MeshCanary", report.outcome, report)
        forget_canary(report.namespace, report.workflow_id.rsplit("/", 1)[-1])
        return name
