"""What a bad version costs: canary-bad five times, canary-good once, judged by proxies and by the load generator."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from recording import record
from staging import TOOLS

RUNS = 5
AUTOPILOT = [sys.executable, "-c", "from autopilot._bootstrap import main; main()"]


def autopilot(*arguments: str) -> str:
    """Runs the command line; its standard output."""
    done = subprocess.run([*AUTOPILOT, *arguments], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        sys.exit(f"autopilot {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def main() -> None:
    """Brings a stack up, plays the scenarios, takes it down."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AUTOPILOT_HOME"] = folder
        os.environ.setdefault("AUTOPILOT_TOOLS", str(TOOLS))
        autopilot("up", "--detach")
        try:
            (good,) = json.loads(autopilot("demo", "canary-good", "-o", "json"))["scenarios"]
            bad = [json.loads(autopilot("demo", "canary-bad", "-o", "json"))["scenarios"][0] for _ in range(RUNS)]
        finally:
            autopilot("down")
    seen = {
        "bad_exposure_requests": [one["exposure"]["requests"] for one in bad],
        "bad_exposure_failures": [one["exposure"]["failures"] for one in bad],
        "bad_exposure_seconds": [one["exposure"]["seconds"] for one in bad],
        "bad_client_failures": [one["client"]["failures"] for one in bad],
    }
    figures: dict[str, Any] = {name: round(statistics.median(values), 2) for name, values in seen.items()}
    figures["good_client_failures"] = good["client"]["failures"]
    figures["good_seconds"] = round(good["seconds"], 1)
    rows = [("figure", "median", "lowest", "highest")]
    rows += [(name, f"{figures[name]:g}", f"{min(values):.4g}", f"{max(values):.4g}") for name, values in seen.items()]
    rows += [(name, f"{figures[name]:g}", "", "") for name in ("good_client_failures", "good_seconds")]
    record("canary", "make bench-canary", figures, rows, f"20 % errors at 10 % weight, 100 requests/s, {RUNS} runs")


if __name__ == "__main__":
    main()
