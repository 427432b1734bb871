"""`worker --metrics` serves Temporal's own metrics of the process beside ours, at one address."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from autopilot.local.ports import allocate
from autopilot.mesh.envoy.prepare import prepare
from autopilot.observability.metrics import REGISTRY
from tests.mesh.conftest import MESH
from worker import main
from worker.sdk_metrics import SdkMetrics

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


def read(text: str) -> Samples:
    """By the samples' names and labels; what is written is what Prometheus can read."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


@pytest.fixture
def sdk() -> Iterator[tuple[SdkMetrics, CollectorRegistry]]:
    registry = CollectorRegistry(auto_describe=True)
    made = SdkMetrics(registry)
    yield made, registry
    made.close()


def counted(registry: CollectorRegistry) -> Samples:
    return read(generate_latest(registry).decode())


def requests(samples: Samples, operation: str) -> float:
    found = samples.get("temporal_request_total", {})
    return sum(value for labels, value in found.items() if ("operation", operation) in labels)


def kinds(samples: Samples) -> set[str]:
    """The kinds of slots that are shown."""
    return {dict(labels)["worker_type"] for labels in samples.get("temporal_worker_task_slots_available", {})}


@pytest.mark.devserver
async def test_a_worker_shows_the_metrics_of_the_sdk_beside_its_own(
    dev_server: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(MESH)
    prepare(mesh)
    monkeypatch.setenv("TEMPORAL_ADDRESS", dev_server.client.service_client.config.target_host)
    stop = asyncio.Event()
    monkeypatch.setattr(main, "stop_signal", lambda: stop)
    address = f"127.0.0.1:{allocate(['metrics'])['metrics']}"
    worker = asyncio.create_task(main.run([mesh], address, reports=tmp_path / "reports"))

    families = ""

    def scrape() -> str:
        nonlocal families
        with urlopen(f"http://{address}/metrics", timeout=5) as answer:
            families = answer.read().decode()
        return families

    samples: Samples = {}
    try:
        async with asyncio.timeout(30):
            while not {"WorkflowWorker", "ActivityWorker"} <= kinds(samples):
                assert not worker.done(), worker.exception()
                await asyncio.sleep(0.1)
                with contextlib.suppress(OSError):  # it does not listen yet
                    samples = read(await asyncio.to_thread(scrape))
    finally:
        stop.set()
        await worker
    assert all(value > 0 for value in samples["temporal_worker_task_slots_available"].values())
    assert requests(samples, "GetSystemInfo") == 1
    assert "temporal_request_latency_seconds_bucket" in samples
    assert "autopilot_restore_duration_seconds" in families
    assert "\ntemporal_" not in generate_latest(REGISTRY).decode()


@pytest.mark.devserver
async def test_counters_add_up_and_histograms_are_cumulative(
    dev_server: WorkflowEnvironment, sdk: tuple[SdkMetrics, CollectorRegistry]
) -> None:
    made, registry = sdk
    client = await Client.connect(dev_server.client.service_client.config.target_host, runtime=made.runtime)
    for expected in (3, 5):
        while requests(counted(registry), "CountWorkflowExecutions") < expected:
            await client.count_workflows("WorkflowType = 'nothing'")
    samples = counted(registry)
    assert requests(samples, "CountWorkflowExecutions") == 5
    buckets = sorted(
        (float(dict(labels)["le"]), value)
        for labels, value in samples["temporal_request_latency_seconds_bucket"].items()
        if ("operation", "CountWorkflowExecutions") in labels
    )
    values = [value for _, value in buckets]
    assert values == sorted(values)
    assert buckets[-1] == (float("inf"), 5.0)
    (count,) = (
        value
        for labels, value in samples["temporal_request_latency_seconds_count"].items()
        if ("operation", "CountWorkflowExecutions") in labels
    )
    (total,) = (
        value
        for labels, value in samples["temporal_request_latency_seconds_sum"].items()
        if ("operation", "CountWorkflowExecutions") in labels
    )
    assert count == 5
    assert 0 < total < 60


@pytest.mark.devserver
async def test_the_buffer_is_emptied_though_nobody_scrapes(
    dev_server: WorkflowEnvironment, sdk: tuple[SdkMetrics, CollectorRegistry]
) -> None:
    made, _ = sdk
    await Client.connect(dev_server.client.service_client.config.target_host, runtime=made.runtime)
    until = time.monotonic() + 20
    while "temporal_request" not in made._known:
        assert time.monotonic() < until
        await asyncio.sleep(0.1)


def test_a_series_without_a_label_of_its_siblings_is_shown(sdk: tuple[SdkMetrics, CollectorRegistry]) -> None:
    made, registry = sdk
    meter = made.runtime.metric_meter
    counter, gauge = meter.create_counter("temporal_things"), meter.create_gauge("temporal_level")
    counter.add(2, {"queue": 'a "b"\n'})
    counter.add(3, {})
    gauge.set(7)
    gauge.set(4)
    samples = counted(registry)
    assert {dict(labels)["queue"]: value for labels, value in samples["temporal_things_total"].items()} == {
        'a "b"\n': 2.0,
        "": 3.0,
    }
    assert list(samples["temporal_level"].values()) == [4.0]
