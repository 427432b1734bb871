"""Free loopback ports, chosen together, and where possible the same ones as last time.

Ports are taken from below the range the kernel uses for outgoing connections: a part that is started again must find
its port free, and a load generator's connection could have taken it otherwise.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"
_LOWEST = 15000
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class NoFreePort(Exception):
    """So many ports could not be had."""


def _highest() -> int:
    """One past the highest port below the kernel's range for outgoing connections."""
    try:
        return int(_RANGE_FILE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 32768


def _hold(port: int) -> socket.socket | None:
    """A socket bound to the port, or None where it is taken."""
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Servers that come back bind over connections in TIME_WAIT, and so does this question.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((LOOPBACK, port))
        # With SO_REUSEADDR only a listener excludes another one.
        held.listen(1)
    except OSError:
        held.close()
        return None
    return held


def allocate(names: Sequence[str], preferred: Mapping[str, int] | None = None) -> dict[str, int]:
    """A free loopback port for every name; all are held until the last is found, then released together.

    Args:
        names: what the ports are for.
        preferred: the port to take for a name where it is free.

    Raises:
        NoFreePort: none could be found.
    """
    wanted = preferred or {}
    with contextlib.ExitStack() as held:
        chosen: dict[str, int] = {}
        neighbours = _neighbours()
        for name in names:
            found = _hold(wanted[name]) if name in wanted else None
            found = found or _some_port(neighbours)
            held.callback(found.close)
            chosen[name] = int(found.getsockname()[1])
    return chosen


def _neighbours() -> Iterator[int]:
    """Candidate ports, one after the other from a random one on.

    Ports are free again between this choice and their use. Of two processes that choose 50 ports each at the same time,
    each port at random, one in eight pairs would choose a port in common; two runs of neighbours seldom overlap.
    """
    highest = _highest()
    if highest <= _LOWEST + 1000:
        return
    first = random.randrange(_LOWEST, highest)  # noqa: S311  (a port, not a secret)
    for number in range(1000):
        yield _LOWEST + (first - _LOWEST + number) % (highest - _LOWEST)


def _some_port(candidates: Iterator[int]) -> socket.socket:
    for port in candidates:
        held = _hold(port)
        if held is not None:
            return held
    held = _hold(0)
    if held is None:
        raise NoFreePort(f"no free TCP port on {LOOPBACK}; `ss -ltn` lists what listens")
    return held


def remembered(file: Path) -> dict[str, int]:
    """The ports of last time; nothing where there was none, or where the file does not say."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): port for name, port in found.items() if isinstance(port, int) and 0 < port < 65536}


def remember(file: Path, ports: Mapping[str, int]) -> None:
    """Keeps the ports for next time."""
    file.write_text(json.dumps(dict(ports), indent=1) + "\n", encoding="utf-8")
