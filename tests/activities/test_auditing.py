"""Records leave this process as they are written: for people's logs, and as OpenTelemetry's log records."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from structlog.testing import capture_logs

from autopilot.mesh.audit import AuditRecord
from autopilot.mesh.leases.overrides import Actor
from autopilot.observability.audit_stream import stream

RECORD = AuditRecord(
    sequence=1, time=1_800_000_000.5, action="apply", actor=Actor(who="ann", why="release 7"), target="m/shop/reviews"
)


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes what OTLP exporters send."""

    received: list[bytes]
    came: threading.Event

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()
        self.came.set()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Collector]]:
    Collector.received, Collector.came = [], threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "50")
        yield Collector
        server.shutdown()
        thread.join()


def test_a_record_is_told_with_who_and_why() -> None:
    with capture_logs() as lines:
        stream()(RECORD)
    (line,) = lines
    assert (line["event"], line["action"], line["who"], line["why"]) == ("audit", "apply", "ann", "release 7")
    assert line["digest"] == RECORD.digest


def test_a_record_reaches_opentelemetry(collector: type[Collector]) -> None:
    stream()(RECORD)
    assert collector.came.wait(60), "waited 60 s for a record at the collector"
    sent = ExportLogsServiceRequest.FromString(collector.received[0])
    (log,) = sent.resource_logs[0].scope_logs[0].log_records
    assert log.time_unix_nano == 1_800_000_000_500_000_000
    assert AuditRecord.model_validate_json(log.body.string_value) == RECORD
    assert {item.key: item.value.string_value for item in log.attributes}["autopilot.who"] == "ann"
