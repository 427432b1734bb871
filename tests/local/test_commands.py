from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autopilot.local import stack
from autopilot.local.record import StackInfo
from starter.cli.main import run

# Whoever starts the tests in the background may have told them to ignore Ctrl-C; a terminal's processes do not.
IN_A_TERMINAL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
AUTOPILOT = [sys.executable, "-P", "-c", f"{IN_A_TERMINAL}; from autopilot._bootstrap import main; main()"]


@contextmanager
def foreground(state: Path) -> Iterator[tuple[subprocess.Popen[str], StackInfo]]:
    """`autopilot up` as somebody runs it in a terminal, once it is ready."""
    command = [*AUTOPILOT, "up", "--only", "mesh", "--rate", "10", "--state", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdout is not None
        seen = ""
        while "Stop:" not in seen:
            line = process.stdout.readline()
            assert line, f"it ended early: {seen}"
            seen += line
        info = stack.describe(state)
        assert info is not None
        assert info.ingress is not None
        assert info.ingress in seen
        yield process, info


@pytest.mark.e2e
def test_up_detached_again_and_down(
    state: Path, alive: Callable[[StackInfo], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["up", "--only", "mesh", "--detach", "--state", str(state)]
    # A process of its own, for it must be able to end while the stack runs on.
    subprocess.run([*AUTOPILOT, *words], check=True, timeout=50)
    info = stack.describe(state)
    assert info is not None
    assert len(alive(info)) == 13
    assert run(words) == 0
    again = capsys.readouterr().out
    assert "runs already" in again
    assert str(info.ingress) in again
    assert run(["demo", "--state", str(state)]) == 1
    assert "runs without temporal, worker, guard" in capsys.readouterr().err
    assert run(["down", "--state", str(state)]) == 0
    assert capsys.readouterr().out == f"stopped 12 parts; state and logs stay in {state}\n"
    assert alive(info) == []
    assert run(["down", "--state", str(state)]) == 0
    assert capsys.readouterr().out == f"nothing runs in {state}\n"


@pytest.mark.e2e
def test_ctrl_c_stops_everything(state: Path, alive: Callable[[StackInfo], list[str]]) -> None:
    with foreground(state) as (process, info):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=15) == 0
        assert alive(info) == []
    assert stack.describe(state) is None


@pytest.mark.e2e
def test_nothing_outlives_an_up_that_is_killed(
    state: Path, wait_until: Callable[..., None], alive: Callable[[StackInfo], list[str]]
) -> None:
    with foreground(state) as (process, info):
        process.kill()
        wait_until(lambda: not alive(info), "the end of all processes", limit=12)
    assert stack.describe(state) is None


def test_an_unknown_part_or_scenario_is_named(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["up", "--only", "mess", "--state", str(state)]) == 1
    assert "unknown parts: mess" in capsys.readouterr().err
    assert run(["demo", "canary-ugly", "--state", str(state)]) == 1
    said = capsys.readouterr().err
    assert "no scenario is called canary-ugly" in said
    assert "canary-good" in said
    assert not state.exists()


def test_the_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()][:2] == ["canary-good", "canary-bad"]
