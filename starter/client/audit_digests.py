"""The digests of changes that reports and Temporal remember: what audit records are held against."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from autopilot.wire import Wire
from starter.client import operations
from starter.client.environment import reports_folder
from worker.temporal_client import TemporalUnavailable


class Audited(Wire):
    """What reports of all kinds say of their changes."""

    mesh: str
    audit: tuple[str, ...]


async def remembered(mesh: str, reports: Path | None = None) -> tuple[dict[str, str], str]:
    """Digest → where it was found, for changes of this mesh; and which sources were asked, in words."""
    known: dict[str, str] = {}
    folder = reports or reports_folder()
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    for file in files:
        try:
            report = Audited.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            continue  # of another kind, or another version: it proves nothing either way
        if report.mesh == mesh:
            known |= dict.fromkeys(report.audit, f"report {file.name}")
    sources = f"{len(files)} reports in {folder}"
    try:
        client = await operations.connect()
        rows = [row for row in await operations.list_operations(client, running_only=False) if row.mesh == mesh]
        asked = 0
        for row in rows:
            if row.closed is None:
                continue
            try:
                ended = await operations.report(client, row.workflow_id)
            except operations.OperationError:
                continue  # closed from outside: it left no report
            asked += 1
            known |= dict.fromkeys(ended.audit, f"Temporal's {row.workflow_id}")
        sources += f" and {asked} histories in Temporal"
    except TemporalUnavailable:
        sources += " (Temporal did not answer)"
    return known, sources
