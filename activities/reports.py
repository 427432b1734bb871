"""Keeps what Temporal forgets: the report of every operation, as one JSON file each."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from temporalio import activity

from activities.metrics import OPERATIONS, forget_canary
from activities.signatures import ReportSignatures
from autopilot.report import CanaryReport


class ReportActivities(ReportSignatures):
    """The archive under one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @activity.defn(name="report.archive")
    async def archive(self, report: CanaryReport) -> str:
        """Writes the report, and counts the outcome; returns the file's name."""
        name = f"{re.sub(r'[^A-Za-z0-9.-]+', '_', report.workflow_id)}.{activity.info().workflow_run_id}.json"
        await asyncio.to_thread(self._write, name, report.model_dump_json(indent=1))
        OPERATIONS.labels("MeshCanary", report.outcome.value).inc()
        forget_canary(report.namespace, report.workflow_id.rsplit("/", 1)[-1])
        return name

    def _write(self, name: str, content: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{name}.{os.getpid()}"
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(self._folder / name)
