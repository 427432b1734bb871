"""The table says what a run came to: how long each part took, what grew, what failed, which tests are slow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ci.parts import CRASH_PARTS, INSTALL, LOCAL, crash
from tests.ci.record import Row, read
from tests.ci.table import draw


@pytest.fixture(scope="module")
def junit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pytest itself writes of one test that passes, one that fails, one that errs and one that is skipped."""
    folder = tmp_path_factory.mktemp("junit")
    (folder / "test_some.py").write_text(
        "import time, pytest\n"
        "def test_slow(): time.sleep(0.3)\n"
        "def test_fails(): assert False\n"
        "@pytest.fixture\n"
        "def broken(): raise ValueError\n"
        "def test_errs(broken): pass\n"
        "def test_left_out(): pytest.skip('for this test')\n"
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "--junitxml=found.xml"]
    done = subprocess.run([*words, "-n", "2"], cwd=folder, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout.decode()
    return folder / "found.xml"


def row(seconds: float, *, code: int = 0, junit: str = "") -> Row:
    return Row("tests", seconds, usual=100, budget=200, code=code, junit=junit)


def test_tests_are_counted_as_pytest_counts_them(junit: Path) -> None:
    found = read(junit)
    assert (found.passed, found.failed, found.skipped) == (1, 2, 1)
    seconds, name = max(found.times)
    assert name == "test_some::test_slow"
    assert 0.3 <= seconds < 5


def test_the_slowest_tests_and_the_counts_are_shown(junit: Path) -> None:
    shown = draw([row(100, junit=str(junit))])
    assert "1 passed, 2 FAILED, 1 skipped" in shown
    assert shown.index("test_some::test_slow") < shown.index("test_some::test_fails")


@pytest.mark.parametrize(
    ("seconds", "code", "said"),
    [
        (100, 0, ""),
        (124, 0, ""),
        (126, 0, "grew by 26 s"),
        (201, 0, "OVER ITS BUDGET by 1 s"),
        (50, 2, "FAILED (exit code 2)"),
        (201, 1, "FAILED (exit code 1), OVER ITS BUDGET by 1 s"),
    ],
)
def test_a_part_says_what_is_unusual_about_it(seconds: float, code: int, said: str) -> None:
    _, line, _ = draw([row(seconds, code=code)]).splitlines()
    assert line.split("200", 1)[1].strip() == said


def test_the_usual_times_leave_room_in_the_budgets_and_these_in_the_limits() -> None:
    parts = (INSTALL, *LOCAL, crash("0"))
    assert all(part.usual < part.budget < part.limit for part in parts)
    assert sum(part.usual for part in parts) <= 45 * 60
    assert sum(part.budget for part in parts) <= 60 * 60


def test_every_part_of_the_crash_suite_has_its_turn() -> None:
    commits = [f"{number:040x}" for number in range(CRASH_PARTS)]
    assert len({crash(commit).name for commit in commits}) == CRASH_PARTS
