"""The quick look at where Temporal answers says what the whole record says, and nothing where there is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from autopilot.local.address import temporal_address
from autopilot.local.processes import start_time
from autopilot.local.record import Condition, StackInfo, read, write


def info(folder: Path, **changes: Any) -> StackInfo:
    """A stack whose supervisor is this process."""
    known: dict[str, Any] = {
        "condition": Condition.READY, "pid": os.getpid(), "started": start_time(os.getpid()), "since": 1.0,
        "root": folder, "logs": folder, "mesh_file": folder, "control": folder, "temporal": "127.0.0.1:7233",
    }  # fmt: skip
    return StackInfo(**known | changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, "127.0.0.1:7233"), ({"started": 1}, None), ({"temporal": None}, None)],
    ids=["running", "dead", "without Temporal"],
)
def test_it_says_what_the_record_says(tmp_path: Path, changes: dict[str, Any], expected: str | None) -> None:
    file = tmp_path / "stack.json"
    write(file, info(tmp_path, **changes))
    whole = read(file)
    assert whole is not None
    assert temporal_address(file) == (whole.temporal if whole.alive else None) == expected


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"pid": "x", "started": 1}', '{"pid": null, "started": 1}'])
def test_a_record_that_cannot_be_read_is_no_stack(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "stack.json"
    if text is not None:
        file.write_text(text)
    assert temporal_address(file) is None
