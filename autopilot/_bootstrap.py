"""Puts the application folders on the import path, and starts the command line.

In a checkout `workflows`, `activities`, `worker` and `starter` lie beside the `autopilot` package; in a wheel they
lie under `autopilot/_app`, so that no generic name lands in anyone's environment. Every entry goes through here.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

APPLICATION = ("workflows", "activities", "worker", "starter")


def application_root() -> Path:
    """The folder that holds the four application packages."""
    package = Path(__file__).resolve().parent
    bundled = package / "_app"
    return bundled if bundled.is_dir() else package.parent


def bootstrap() -> Path:
    """Makes the application folders importable, and returns the folder they lie in.

    Raises:
        ImportError: another package of the same name is already loaded or stands earlier on the path.
    """
    root = application_root()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for name in APPLICATION:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or root not in origin.parents:
            raise ImportError(
                f"Mesh Autopilot needs the import name {name!r}, but {origin or 'nothing'} answers to it; "
                "run autopilot in an environment of its own (for instance `uv tool install mesh-autopilot`)"
            )
    return root


def main() -> None:
    """The `autopilot` command."""
    bootstrap()
    from starter.cli import main as run  # noqa: PLC0415

    run()
