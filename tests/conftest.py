"""Temporal for tests: one dev server a process, from its wheel; how tests are ordered and how long they may take."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import is_hypothesis_test
from temporalio.testing import WorkflowEnvironment

from tests.drawn import load_profile
from tests.parallel import ByStack, in_order
from worker.plugin import AutopilotPlugin
from worker.search_attributes import SEARCH_ATTRIBUTES

load_profile()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first; a property that fails has time to be reduced to its smallest example."""
    items[:] = [items[number] for number in in_order(item.nodeid.split("::", 1)[0] for item in items)]
    for item in items:
        if is_hypothesis_test(getattr(item, "function", None)) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByStack | None:
    """Keeps together what shares a stack, where `--dist loadscope` asks for scopes."""
    return ByStack(config, log) if config.getvalue("dist") == "loadscope" else None


def binary(name: str) -> str:
    """A program of this environment, else of the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed; run `make install`"
    return found


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
