from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from autopilot.local.processes import Child, environment, is_alive, launch, start_time, tail

PARENT = """
import os, signal, sys
from pathlib import Path
from autopilot.local.processes import launch
child = launch([sys.executable, "-c", "import time; time.sleep(60)"], log=Path(sys.argv[1]), env=dict(os.environ))
print(child.pid, flush=True)
signal.pause()
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
GRANDCHILD = """
import subprocess, sys
print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
"""


def test_child_dies_with_a_parent_that_is_killed(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        started = start_time(pid)
        assert started is not None
        parent.kill()
        wait_until(lambda: not is_alive(pid, started), "the child's end")


async def test_another_thread_may_not_start_children(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(launch, ["true"], log=tmp_path / "log", env={})


async def test_a_child_that_does_not_listen_is_killed(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    log = tmp_path / "log"
    child = Child(launch([sys.executable, "-uc", DEAF], log=log, env=dict(os.environ)))
    wait_until(lambda: "deaf" in log.read_text(), "the child's word")
    began = time.monotonic()
    assert await child.stop(grace=0.2) == -9
    assert 0.2 <= time.monotonic() - began < 3
    assert child.returncode == -9
    assert await child.stop(grace=0.2) == -9, "stopping again changes nothing"


async def test_what_a_child_leaves_behind_ends_too(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    log = tmp_path / "log"
    child = Child(launch([sys.executable, "-uc", GRANDCHILD], log=log, env=dict(os.environ)))
    assert await child.wait() == 0
    grandchild = int(log.read_text())
    wait_until(lambda: start_time(grandchild) is None, "the grandchild's end")


def test_a_recycled_pid_is_another_process() -> None:
    started = start_time(os.getpid())
    assert started is not None
    assert is_alive(os.getpid(), started)
    assert not is_alive(os.getpid(), started - 1)


def test_a_local_worker_has_the_codec_of_commands_and_what_secrets_probes_may_send(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AUTOPILOT_CODEC", "aes")
    monkeypatch.setenv("AUTOPILOT_ALLOW_SECRETS", "env:CHECKOUT_*")
    made = environment({})
    assert (made["AUTOPILOT_CODEC"], made["AUTOPILOT_ALLOW_SECRETS"]) == ("aes", "env:CHECKOUT_*")


def test_environment_has_no_settings_for_another_temporal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "secret")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "elsewhere:7233")
    monkeypatch.setenv("NO_PROXY", "internal")
    made = environment({"TEMPORAL_ADDRESS": "127.0.0.1:1"})
    assert "TEMPORAL_API_KEY" not in made
    assert made["TEMPORAL_ADDRESS"] == "127.0.0.1:1"
    assert made["NO_PROXY"] == "internal,127.0.0.1,localhost"
    assert made["PATH"] == os.environ["PATH"]


def test_tail_says_so_where_there_is_nothing(tmp_path: Path) -> None:
    assert "no log" in tail(tmp_path / "none")
    (tmp_path / "log").write_text("")
    assert "empty" in tail(tmp_path / "log")
    (tmp_path / "log").write_text("\n".join(map(str, range(100))))
    assert tail(tmp_path / "log", lines=2) == "98\n99"
