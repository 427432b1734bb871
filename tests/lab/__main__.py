"""The lab's command line.

python -m tests.lab build              build its programs
python -m tests.lab prepare            build them where `test` would use the lab
python -m tests.lab up | down          keep one running, for looking around
python -m tests.lab run -- COMMAND     run a command inside one of its own
python -m tests.lab test -- COMMAND    the same with whatever cluster there is (see `tests.lab.find`)

With `--workers N`, COMMAND is a pytest, and `test` runs its tests in N processes, each inside a lab of its own. Only
labs are made in several copies: on any other cluster the command runs once, as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from autopilot.local.processes import launch, python, tail
from autopilot.local.runner import PartFailed
from tests.lab import assets, build, find, network
from tests.lab.build import LabUnavailable
from tests.lab.serve import LabInfo, serve

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".autopilot" / "lab"
TOOLS = ROOT / ".autopilot" / "tools"
_UP = 120.0
UNAVAILABLE = 3


def say(line: str) -> None:
    """Tells people how things go."""
    print(f"lab: {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Runs one command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("command", choices=("build", "prepare", "up", "down", "hold", "run", "test"))
    parser.add_argument("--state", type=Path, default=STATE)
    parser.add_argument("--scrape-every", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    ours, words = _split(sys.argv[1:])
    given = parser.parse_args(ours)
    if given.command in {"run", "test"} and not words:
        parser.error(f"{given.command} what? `python -m tests.lab {given.command} -- COMMAND`")
    try:
        match given.command:
            case "build" | "prepare":
                return _build(only_if_used=given.command == "prepare")
            case "up":
                return _up(given.state)
            case "down":
                return _down(given.state)
            case "test":
                return _test(given, words)
            case _:
                return _inside(given, words)
    except (LabUnavailable, PartFailed) as error:
        say(str(error))
        return UNAVAILABLE


def _build(*, only_if_used: bool) -> int:
    """Builds the lab's programs; or only where `test` would, so that the time of that is told apart from the tests'."""
    another = not find.wanted() or find.lab_problem() or not find.engine_problem()
    if find.required() or not (only_if_used and another):
        print(build.build())
    return 0


def _test(given: argparse.Namespace, words: list[str]) -> int:
    """Runs the command with the first cluster there is; where there is none, says why and is content."""
    if find.required():
        return _in_labs(given, words)
    if os.environ.get(find.LAB) or os.environ.get(find.VARIABLE):
        return subprocess.run(words, check=False).returncode
    if folder := os.environ.get(find.ASSETS):
        with assets.api_server(Path(folder)) as kubeconfig:
            env = {**os.environ, find.VARIABLE: str(kubeconfig), find.API_ONLY: "1"}
            return subprocess.run(words, env=env, check=False).returncode
    with find.container() as found:
        if isinstance(found, Path):
            env = {**os.environ, find.VARIABLE: str(found)}
            return subprocess.run(words, env=env, check=False).returncode
    if problem := find.lab_problem():
        say(f"tests of real clusters are skipped: {found}; {problem}")
        return 0
    return _in_labs(given, words)


def _in_labs(given: argparse.Namespace, words: list[str]) -> int:
    """The command inside a lab; a pytest of several workers with each of them inside its own."""
    if given.workers == 1:
        return _inside(given, words)
    build.build()
    specs = []
    for number in range(given.workers):
        state = given.state / f"worker-{number}"
        interpreter = [sys.executable, "-m", "tests.lab", "run", "--state", str(state), "--", sys.executable]
        specs += ["--tx", f"popen//python={shlex.join(interpreter)}"]
    # One test at a time to whoever is free: some take a minute and more.
    return subprocess.run([*words, "--dist", "load", "--maxschedchunk", "1", *specs], check=False).returncode


def _inside(given: argparse.Namespace, words: list[str]) -> int:
    build.build()
    network.enter_new()
    return asyncio.run(_hold(given, words))


async def _hold(given: argparse.Namespace, words: list[str]) -> int:
    """A lab for as long as a command takes, or until it is told to end."""
    outcome = [0]
    tasks: list[asyncio.Task[None]] = []
    running: list[asyncio.subprocess.Process] = []

    def ready(info: LabInfo) -> None:
        if words:
            tasks.append(asyncio.create_task(command(info)))
        else:
            say(f"up; enter it with `nsenter --net=/proc/{info.pid}/ns/net`; KUBECONFIG={info.kubeconfig}")

    async def command(info: LabInfo) -> None:
        env = {**os.environ, find.LAB: str(info.root), "KUBECONFIG": str(info.kubeconfig)}
        outcome[0] = UNAVAILABLE
        try:
            running.append(await asyncio.create_subprocess_exec(*words, env=env))
            outcome[0] = await running[0].wait()
        except OSError as error:
            say(f"{words[0]} cannot be run: {error}")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        await serve(given.state, scrape_every=given.scrape_every, tools=TOOLS, say=say, ready=ready)
    except* (LabUnavailable, PartFailed) as group:
        say(str(group.exceptions[0]))
        outcome[0] = UNAVAILABLE
    finally:
        for one in running:
            if one.returncode is None:
                one.terminate()
    return outcome[0]


def _up(state: Path) -> int:
    if (known := _known(state)) is not None:
        say(f"one runs in {state} already (pid {known.pid})")
        return 0
    build.build()
    log = state / "lab.log"
    state.mkdir(parents=True, exist_ok=True)
    began = log.stat().st_size if log.exists() else 0
    process = launch(
        python("tests.lab", "hold", "--state", str(state)),
        log=log,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        death_signal=None,
        cwd=ROOT,
    )
    until = time.monotonic() + _UP
    while process.poll() is None and time.monotonic() < until:
        with log.open(encoding="utf-8") as stream:
            stream.seek(began)
            if "up; enter it" in (said := stream.read()):
                sys.stderr.write(said)
                return 0
        time.sleep(0.1)
    process.terminate()
    say(f"it did not come up; the end of {log}:\n{tail(log)}")
    return UNAVAILABLE


def _down(state: Path) -> int:
    known = _known(state)
    if known is None:
        say(f"none runs in {state}")
        return 0
    os.kill(known.pid, signal.SIGTERM)
    until = time.monotonic() + 30
    while Path(f"/proc/{known.pid}").exists():
        if time.monotonic() > until:
            say(f"process {known.pid} has not ended within 30 s; see {known.root / 'lab.log'}")
            return 1
        time.sleep(0.1)
    say("down")
    return 0


def _known(state: Path) -> LabInfo | None:
    try:
        info = LabInfo.model_validate_json((state / "stack.json").read_bytes())
    except (OSError, ValueError):
        return None
    return info if Path(f"/proc/{info.pid}").exists() else None


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """What is ours, and the command behind two dashes."""
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
