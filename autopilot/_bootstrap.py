"""Puts the application folders on the import path, and starts the command line.

In a checkout `workflows`, `activities`, `worker` and `starter` lie beside the `autopilot` package; in a wheel they
lie under `autopilot/_app`, so that no generic name lands in anyone's environment. Every entry goes through here.
"""

from __future__ import annotations

import sys
from importlib import invalidate_caches
from importlib.machinery import ModuleSpec
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
        ImportError: another package of the same name is already loaded or on the path (taking its place would break
            whoever needs it), or one of ours is missing.
    """
    root = application_root()
    for name in APPLICATION:
        _refuse_foreign(name, root)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
        invalidate_caches()
    for name in APPLICATION:
        if not _is_ours(_spec(name), root):
            raise ImportError(f"Mesh Autopilot is incomplete: {root / name} is missing; install mesh-autopilot again")
    return root


def main() -> None:
    """The `autopilot` command."""
    try:
        bootstrap()
    except ImportError as error:
        sys.exit(f"error: {error}")
    from starter.cli.main import main as run  # noqa: PLC0415

    run()


def _refuse_foreign(name: str, root: Path) -> None:
    spec = _spec(name)
    # A folder without `__init__.py` that nobody imported never stands before a real package.
    if spec is None or _is_ours(spec, root) or (spec.origin is None and name not in sys.modules):
        return
    where = spec.origin or ", ".join(spec.submodule_search_locations or ()) or "a module made at run time"
    raise ImportError(
        f"Mesh Autopilot needs the import name {name!r}, but {where} uses that name; "
        "run autopilot in an environment of its own (for instance `uv tool install mesh-autopilot`)"
    )


def _spec(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except ValueError:
        # A module that was put in place by hand has no spec; it is somebody's all the same.
        return ModuleSpec(name, None, origin=getattr(sys.modules.get(name), "__file__", None))


def _is_ours(spec: ModuleSpec | None, root: Path) -> bool:
    return spec is not None and spec.origin is not None and root in Path(spec.origin).resolve().parents
