"""What the tests of the embedded stack share: bounded waits, and a stack that is gone afterwards whatever happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autopilot.local import stack

Wait = Callable[..., None]


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


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory whose stack, if any, is taken down at the end."""
    monkeypatch.delenv("AUTOPILOT_HOME", raising=False)
    root = tmp_path / "state"
    yield root
    stack.stop(root)
