"""Installs what the embedded stack needs and no wheel contains; `make install` runs it.

`python -m autopilot.local.install` prints what it found or did, and ends with 0 even where there is no way to a
Prometheus: the stack goes on without.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from autopilot.local.layout import Layout
from autopilot.local.prometheus_install import ensure


def main() -> None:
    """Finds or fetches Prometheus."""
    parser = argparse.ArgumentParser(prog="python -m autopilot.local.install", description=__doc__)
    parser.add_argument("--state", type=Path, help="the state directory (default: $AUTOPILOT_HOME, else .autopilot)")
    parser.add_argument(
        "--tools", type=Path, help="the directory for a downloaded binary (default: tools/ in the state directory)"
    )
    parser.add_argument("--quick", action="store_true", help="don't compile, which takes minutes")
    given = parser.parse_args()
    layout = Layout.find(given.state)
    tools = given.tools
    if tools is None:
        layout.create()
        tools = layout.tools
    ensure(tools, lambda line: print(line, flush=True), build=not given.quick)


if __name__ == "__main__":
    main()
