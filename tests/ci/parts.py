"""What `make test` and CI consist of, and how long each part usually takes and may take, on two cores."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".autopilot" / "ci"
"""What the last run left: records of its parts, and JUnit files."""
WORKERS = 5
"""Processes that share the tests. Most tests wait most of the time, so there are more of them than cores."""
LABS = 4
"""Processes that share the tests on a cluster, each with a lab of its own."""
CRASH_PARTS = 4
"""The crash suite is played in this many parts, of which CI plays one; each holds every event and every net."""


@dataclass(frozen=True, slots=True)
class Part:
    """One command of a run.

    Attributes:
        name: as the table shows it.
        command: what is run, in the root of the checkout.
        usual: seconds that it took when it was last looked at, on two cores, with a built lab.
        budget: seconds that it should take at most. More is reported, and is no failure.
        limit: seconds after which it is ended, as a failure.
    """

    name: str
    command: tuple[str, ...]
    usual: int
    budget: int
    limit: int

    @property
    def junit(self) -> Path:
        """Where a part that runs tests leaves how long each took."""
        return STATE / f"{self.name.replace(' ', '-')}.xml"


def _tool(name: str, *words: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name(name)), *words)


def _pytest(name: str, *words: str) -> tuple[str, ...]:
    return _tool("pytest", "-q", f"--junitxml={STATE / name}.xml", *words)


INSTALL = Part("install", ("make", "install"), 8, 180, 1200)
STYLE = Part("style", ("make", "lint"), 1, 20, 120)
IMPORTS = Part("import directions", ("make", "imports"), 1, 30, 120)
TYPES = Part("types", ("make", "types"), 35, 180, 900)
TESTS = Part(
    "tests",
    _pytest("tests", "--ignore=tests/kube", f"--numprocesses={WORKERS}", "--dist=loadscope"),
    600,
    700,
    2700,
)
LAB_BUILD = Part("lab build", (sys.executable, "-m", "tests.lab", "prepare"), 1, 1000, 3600)
"""Alone: beside a compiler, tests that say how soon something happens would say how busy the machine is."""
CLUSTER = Part(
    "tests on a cluster",
    (
        *(sys.executable, "-m", "tests.lab", "test", f"--workers={LABS}", "--"),
        *_pytest("tests-on-a-cluster", "tests/kube"),
    ),
    600,
    700,
    3000,
)


def crash(commit: str) -> Part:
    """The part of the crash suite that is a commit's turn.

    Args:
        commit: its hash, in hexadecimal digits.
    """
    number = int(commit, 16) % CRASH_PARTS + 1
    command = (sys.executable, "benchmarks/crash.py", "--part", f"{number}/{CRASH_PARTS}")
    return Part(f"crash suite, part {number} of {CRASH_PARTS}", command, 700, 780, 2400)


LOCAL: Sequence[Part] = (STYLE, IMPORTS, TYPES, TESTS, LAB_BUILD, CLUSTER)
"""What `make test` runs, in this order."""
