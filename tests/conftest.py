"""Temporal for tests: one time-skipping server and one dev server a process, both from their wheels."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.testing import WorkflowEnvironment

from tests.drawn import load_profile
from tests.parallel import ByStack, in_order
from worker.plugin import AutopilotPlugin
from worker.visibility import SEARCH_ATTRIBUTES

load_profile()

# The time-skipping server is told to be old by every worker; only errors of the SDK's core are news here.
Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=TelemetryFilter("ERROR", "ERROR")))))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first."""
    items[:] = [items[number] for number in in_order(item.nodeid.split("::", 1)[0] for item in items)]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByStack | None:
    """Keeps together what shares a stack, where `--dist loadscope` asks for scopes."""
    return ByStack(config, log) if config.getvalue("dist") == "loadscope" else None


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
