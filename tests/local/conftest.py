"""What the tests of the embedded stack share: bounded waits, and a stack that is gone afterwards whatever happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autopilot.local import stack
from autopilot.local.processes import is_alive
from autopilot.local.record import StackInfo

Wait = Callable[..., None]
Alive = Callable[[StackInfo], list[str]]


@pytest.fixture(scope="session")
def wait_until() -> Wait:
    """Polls until a condition holds, for so many seconds at the most."""

    def wait(holds: Callable[[], object], what: str, limit: float = 10.0) -> None:
        deadline = time.monotonic() + limit
        while not holds():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {limit:g} s: {what}")
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session")
def alive() -> Alive:
    """The processes of a stack that still run, whatever its record says now."""

    def alive(info: StackInfo) -> list[str]:
        parts = [part.name for part in info.parts.values() if part.alive]
        return [*parts, "supervisor"] if is_alive(info.pid, info.started) else parts

    return alive


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory whose stack, if any, is taken down at the end."""
    monkeypatch.delenv("AUTOPILOT_HOME", raising=False)
    root = tmp_path / "state"
    yield root
    stack.stop(root)
