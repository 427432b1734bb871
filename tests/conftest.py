"""Temporal for tests: one time-skipping server and one dev server a session, both from their wheels."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.testing import WorkflowEnvironment

from worker.plugin import AutopilotPlugin
from worker.visibility import SEARCH_ATTRIBUTES

# The time-skipping server is told to be old by every worker; only errors of the SDK's core are news here.
Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=TelemetryFilter("ERROR", "ERROR")))))


def binary(name: str) -> str:
    """A program of this environment, else of the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed; run `make install`"
    return found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def time_skipping() -> AsyncIterator[WorkflowEnvironment]:
    """Fast, one workflow at a time, without search attributes."""
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary("temporal-test-server"), plugins=[AutopilotPlugin()]
    )
    async with environment:
        yield environment


async def start_dev_server() -> WorkflowEnvironment:
    """The real server, with our search attributes and prompt timers."""
    extra = []
    for name in SEARCH_ATTRIBUTES:
        extra += ["--search-attribute", f"{name}=Keyword"]
    for setting in (
        'history.timerProcessorMaxTimeShift="10ms"',
        "system.forceSearchAttributesCacheRefreshOnRead=true",
    ):
        extra += ["--dynamic-config-value", setting]
    return await WorkflowEnvironment.start_local(
        dev_server_existing_path=binary("temporal"), dev_server_extra_args=extra, plugins=[AutopilotPlugin()]
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def dev_server() -> AsyncIterator[WorkflowEnvironment]:
    """The real server, with everything the platform offers."""
    async with await start_dev_server() as environment:
        yield environment
