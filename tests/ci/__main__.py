"""Runs the parts of `make test` and of CI, and says how long each took.

python -m tests.ci test              everything that `make test` runs, then the table
python -m tests.ci only -- ARGS      style, types and import directions, then pytest with these arguments
python -m tests.ci crash COMMIT      the part of the crash suite whose turn it is at this commit
python -m tests.ci table             the table of the last run, with what was added since
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.ci import parts, record, table
from tests.ci.parts import Part

BEGAN = "AUTOPILOT_CI_BEGAN"
"""When the installation before the first part began, seconds since the epoch; set by `.ci/run`."""


def main() -> int:
    """Runs one command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.ci", description=__doc__)
    parser.add_argument("command", choices=("test", "only", "crash", "table"))
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    match given.command:
        case "test":
            return _test()
        case "only":
            return _only(given.words)
        case "crash":
            return _run(parts.crash(given.words[0]))
        case _:
            print(table.draw(record.rows()))
            return 0


def _test() -> int:
    """All parts, up to the first that fails."""
    record.forget()
    if began := os.environ.get(BEGAN):
        record.add(parts.INSTALL, time.time() - float(began), 0)
    code = next((code for part in parts.LOCAL if (code := _run(part))), 0)
    print(table.draw(record.rows()), flush=True)
    return code


def _only(words: Sequence[str]) -> int:
    """The checks, then the tests that the arguments name; inside a lab where they are a cluster's."""
    pytest = (*parts.TESTS.command[:1], *words)
    if any("tests/kube" in word for word in words):
        pytest = (sys.executable, "-m", "tests.lab", "test", "--", *pytest)
    chosen = Part("tests", pytest, 0, 0, parts.TESTS.limit)
    return next((code for part in (parts.STYLE, parts.IMPORTS, parts.TYPES, chosen) if (code := _ended(part))), 0)


def _run(part: Part) -> int:
    """Runs one part and records it."""
    print(f"== {part.name}", flush=True)
    began = time.monotonic()
    code = _ended(part)
    record.add(part, time.monotonic() - began, code)
    return code


def _ended(part: Part) -> int:
    """Runs one part's command until it ends or its time is over; its exit code."""
    with subprocess.Popen(part.command, cwd=parts.ROOT, start_new_session=True) as process:
        try:
            return process.wait(timeout=part.limit)
        except subprocess.TimeoutExpired:
            print(f"{part.name} did not end within {part.limit} s and was stopped", file=sys.stderr, flush=True)
            return 1
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
