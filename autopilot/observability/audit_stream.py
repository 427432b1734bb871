"""Streams audit records as they are written: to standard output, and to OpenTelemetry where it is set up.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_LOGS_ENDPOINT`) and the extra `mesh-autopilot[otlp]` set it up; the exporter reads
its own variables. Whatever happens to the stream, the records stay with the mesh.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import structlog

from autopilot.mesh.audit import AuditRecord

Told = Callable[[AuditRecord], None]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")
_log = structlog.get_logger()


def stream() -> Told:
    """The receiver of every audit record that this process writes."""
    to_otlp = _otlp() if any(os.environ.get(name) for name in _ENDPOINTS) else None

    def told(record: AuditRecord) -> None:
        _log.info("audit", **_facts(record))
        if to_otlp is not None:
            to_otlp(record)

    return told


def _facts(record: AuditRecord) -> dict[str, object]:
    return {
        "sequence": record.sequence,
        "action": record.action,
        "target": record.target,
        "operation": record.operation,
        "fencing": record.fencing,
        "who": record.actor.who,
        "verified": record.actor.verified,
        "why": record.actor.why,
        "net": record.actor.net,
        "before": record.before,
        "after": record.after,
        "digest": record.digest,
    }


def _otlp() -> Told | None:
    try:
        from opentelemetry._logs import SeverityNumber  # noqa: PLC0415 - optional, and slow to load
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter  # noqa: PLC0415
        from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    except ImportError:
        _log.warning(
            "audit records are not exported: an OTLP endpoint is set, but the exporter is missing; "
            "run `pip install 'mesh-autopilot[otlp]'`"
        )
        return None
    provider = LoggerProvider(resource=Resource.create({"service.name": "mesh-autopilot"}))
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    logger = provider.get_logger("meshautopilot.audit")

    def told(record: AuditRecord) -> None:
        logger.emit(
            timestamp=round(record.time * 1e9),
            severity_number=SeverityNumber.INFO,
            body=record.model_dump_json(),
            attributes={f"autopilot.{name}": str(value) for name, value in _facts(record).items()},
            event_name="autopilot.audit",
        )

    return told
