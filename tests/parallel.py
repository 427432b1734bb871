"""Which tests share a process where several run at once (pytest-xdist), and which begin first.

The tests of a file stay together, for they may share a stack; so do those of all files that a row of `TOGETHER` names.
What takes longest begins first, so that nothing long is left when all else has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from xdist.scheduler import LoadScopeScheduling

TOGETHER: Sequence[Sequence[str]] = (
    # Each row uses one embedded stack after the other. Two at a time are what two cores carry.
    (
        "tests/e2e/test_rollouts.py",
        "tests/e2e/test_scenarios.py",
        "tests/e2e/test_leases.py",
        "tests/e2e/test_split.py",
    ),
    (
        "tests/e2e/test_experiments.py",
        "tests/local/test_stack.py",
        "tests/local/test_commands.py",
        "tests/packaging/test_kinds.py",
    ),
    ("tests/faults/test_nets.py", "tests/faults/test_experiments.py", "tests/faults/test_interleavings.py"),
)
LONG = (
    "tests/workflows/test_chaos.py",
    "tests/workflows/test_canary.py",
    "tests/workflows/test_leases.py",
    "tests/workflows/test_endings.py",
    "tests/workflows/test_bounds.py",
    "tests/workflows/test_slots.py",
    "tests/workflows/test_long_pauses.py",
    "tests/fuzz/test_loader.py",
    "tests/workflows/test_platform.py",
    "tests/evidence/test_alone.py",
    "tests/packaging/test_wheel.py",
    "tests/schedules/test_outage.py",
    "tests/kube/test_fault_deaths.py",
    "tests/kube/test_envoyfilter_deaths.py",
    "tests/kube/test_kill_points.py",
    "tests/kube/test_deaths.py",
    "tests/kube/test_rollouts.py",
    "tests/kube/test_experiments.py",
    "tests/kube/test_trouble.py",
)
"""Files of more than half a minute, the longest first."""

_ROWS = {file: f"row {number}" for number, row in enumerate(TOGETHER) for file in row}
_FIRST = {file: number for number, file in enumerate([*_ROWS, *LONG])}


def scope(nodeid: str) -> str:
    """What is handed to one process as a whole."""
    file = nodeid.split("::", 1)[0]
    return _ROWS.get(file, file)


def in_order(files: Iterable[str]) -> list[int]:
    """Positions of the files in the order in which they begin; the rest keeps its own."""
    numbered = list(enumerate(files))
    return [number for number, _ in sorted(numbered, key=lambda one: (_FIRST.get(one[1], len(_FIRST)), one[0]))]


class ByStack(LoadScopeScheduling):
    """Hands out whole scopes, in the order in which tests were collected."""

    def __init__(self, config: Any, log: Any = None) -> None:
        super().__init__(config, log)
        self.config.option.loadscopereorder = False  # by their number of tests, the longest would come last

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)
