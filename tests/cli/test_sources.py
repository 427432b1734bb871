"""Commands ask a mesh's Prometheus as workers do: with the address and the credentials that its file names."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autopilot.spec.canary import MeshCanary
from autopilot.spec.cluster import ClusterSpec
from starter.client import prometheus as sources
from starter.client import step_durations
from tests.cli.conftest import FakeMesh, Stage
from tests.cli.test_doctor import Run, findings

TOKEN = "k9Zq7wLxY8v3-tenant-token"  # noqa: S105 - made up
CANARY = MeshCanary.model_validate(
    {
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": {
            "target": {"service": "reviews"},
            "arms": {"stable": "v1", "canary": "v2"},
            "steps": [{"weight": 10}],
            "analysis": {"metrics": [{"type": "promql", "name": "ours", "query": "up", "max": 1}]},
        },
    }
)


@dataclass
class Store:
    """A store of several tenants that wants a token."""

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append((self.path, self.headers.get("Authorization", "")))
            right = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            found = b'{"status": "success", "data": {"resultType": "scalar", "result": [1, "1"]}}'
            body = found if right else b"no org id"
            self.send_response(200 if right else 401)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/prometheus"
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AUTOPILOT_PROMETHEUS", raising=False)
    monkeypatch.setenv("AUTOPILOT_HOME", str(tmp_path / "state"))


def mesh(**prometheus: Any) -> Any:
    return SimpleNamespace(
        name="m", spec=ClusterSpec.model_validate({"provider": "istio", "prometheus": prometheus}), api=None
    )


def with_token(url: str | None = None) -> Any:
    return mesh(url=url, bearerToken={"secretRef": {"env": "STORE_TOKEN"}})


async def test_the_check_before_a_start_uses_the_mesh_files_credentials(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_TOKEN", TOKEN)
    assert await sources.check(with_token(store.url), CANARY) == []
    assert [path.partition("?")[0] for path, _ in store.asked] == ["/prometheus/api/v1/query"] * 2
    assert await step_durations.of(CANARY, with_token(store.url)) is None  # it knows nothing of the service
    assert "istio_requests_total" in store.asked[-1][0]  # the dialect of the mesh


async def test_a_store_that_refuses_the_credentials_stands_in_the_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_TOKEN", "another-token-than-that")
    (problem,) = await sources.check(with_token(store.url), CANARY)
    assert "answered 401 (no org id)" in problem
    assert "spec.prometheus.url of the mesh file names it" in problem


async def test_what_only_the_worker_has_is_left_to_the_worker(store: Store) -> None:
    """The credentials are not on this machine; or the address is one inside the cluster."""
    assert await sources.check(with_token(store.url), CANARY) == []
    assert store.asked == []
    assert await sources.check(mesh(url="http://127.0.0.1:1"), CANARY) == []


async def test_what_this_machine_was_told_must_answer_here(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPILOT_PROMETHEUS", "http://127.0.0.1:1")
    (problem,) = await sources.check(mesh(), CANARY)
    assert "cannot be read" in problem
    assert "AUTOPILOT_PROMETHEUS names it" in problem
    monkeypatch.setenv("AUTOPILOT_PROMETHEUS", store.url)
    monkeypatch.setenv("AUTOPILOT_PROMETHEUS_TOKEN", TOKEN)
    assert await sources.check(mesh(), CANARY) == []
    monkeypatch.setenv("AUTOPILOT_PROMETHEUS_BY_NAME", "maybe")
    (problem,) = await sources.check(mesh(), CANARY)
    assert "AUTOPILOT_PROMETHEUS_BY_NAME is neither true nor false" in problem


async def test_without_a_prometheus_nothing_is_checked() -> None:
    assert await sources.check(mesh(), CANARY) == []
    assert await step_durations.of(CANARY, mesh()) is None


def doctor_of(stage: Stage, monkeypatch: pytest.MonkeyPatch, autopilot: Run, spec: Any) -> Any:
    monkeypatch.setattr(FakeMesh, "spec", spec, raising=False)
    return findings(autopilot("doctor", "-o", "json"))["Prometheus server"]


def test_doctor_asks_with_the_mesh_files_credentials(
    autopilot: Run, stage: Stage, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_TOKEN", TOKEN)
    found = doctor_of(stage, monkeypatch, autopilot, with_token(store.url).spec)
    assert found["ok"]
    assert found["found"] == f"answers queries at {store.url}"
    monkeypatch.setenv("STORE_TOKEN", "another-token-than-that")
    found = doctor_of(stage, monkeypatch, autopilot, with_token(store.url).spec)
    assert not found["ok"]
    assert "answered 401 (no org id)" in found["found"]
    assert "set spec.prometheus in the mesh file" in found["fix"]
    monkeypatch.delenv("STORE_TOKEN")
    found = doctor_of(stage, monkeypatch, autopilot, with_token(store.url).spec)
    assert "environment variable STORE_TOKEN, a credential of Prometheus, was not found" in found["found"]
    assert not found["required"]  # the worker may have it


def test_doctor_says_where_to_name_a_prometheus(autopilot: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor_of(stage, monkeypatch, autopilot, mesh().spec)
    assert found["found"] == "no Prometheus is configured"
    assert "spec.prometheus.url" in found["fix"]


def test_the_credentials_of_the_environment_are_not_for_the_local_stack(
    stage: Stage, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPILOT_PROMETHEUS_TOKEN", TOKEN)
    monkeypatch.setattr(sources, "local_stack", lambda: SimpleNamespace(prometheus=store.url))
    reached = sources.prometheus(None)
    assert reached is not None

    async def ask() -> None:
        with pytest.raises(Exception, match="answered 401"):
            await reached.source.query("up")
        await reached.source.close()

    asyncio.run(ask())
    assert store.asked[0][1] == ""
