"""The lab's command line: see `tests.lab.serve`."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
from pathlib import Path

from autopilot.local.runner import PartFailed
from tests.lab import build, network
from tests.lab.build import LabUnavailable
from tests.lab.serve import LabInfo, serve

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".autopilot" / "lab"
TOOLS = ROOT / ".autopilot" / "tools"


def _say(line: str) -> None:
    print(f"lab: {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Runs one command."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("command", choices=("build", "hold", "run"))
    parser.add_argument("--state", type=Path, default=STATE)
    parser.add_argument("--scrape-every", type=float, default=2.0)
    ours, _, words = _split(sys.argv[1:])
    given = parser.parse_args(ours)
    if given.command == "run" and not words:
        parser.error("run what? `python -m tests.lab run -- COMMAND`")
    try:
        if given.command == "build":
            print(build.build())
            return 0
        build.build()
        network.enter_new()
        return asyncio.run(_hold(given, words))
    except (LabUnavailable, PartFailed) as error:
        _say(str(error))
        return 3


def _split(words: list[str]) -> tuple[list[str], str, list[str]]:
    """What is ours, the two dashes, and the command."""
    if "--" not in words:
        return words, "", []
    at = words.index("--")
    return words[:at], "--", words[at + 1 :]


async def _hold(given: argparse.Namespace, words: list[str]) -> int:
    """A lab for as long as a command takes, or until it is told to end."""
    outcome = [0]
    process: list[asyncio.subprocess.Process] = []

    def ready(info: LabInfo) -> None:
        if given.command == "run":
            tasks.append(asyncio.create_task(command(info)))
        else:
            _say(f"up; enter it with `nsenter --net=/proc/{info.pid}/ns/net`, KUBECONFIG={info.kubeconfig}")

    async def command(info: LabInfo) -> None:
        env = {**os.environ, "AUTOPILOT_LAB": str(info.root), "KUBECONFIG": str(info.kubeconfig)}
        process.append(await asyncio.create_subprocess_exec(*words, env=env))
        outcome[0] = await process[0].wait()
        os.kill(os.getpid(), 15)

    tasks: list[asyncio.Task[None]] = []
    try:
        await serve(given.state, scrape_every=given.scrape_every, tools=TOOLS, say=_say, ready=ready)
    except* (LabUnavailable, PartFailed) as group:
        _say(f"{shlex.join(words) or 'the lab'} did not run: {group.exceptions[0]}")
        outcome[0] = 3
    finally:
        for one in process:
            if one.returncode is None:
                one.terminate()
    return outcome[0]


if __name__ == "__main__":
    sys.exit(main())
