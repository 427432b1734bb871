"""Checks that a lease outlives the death of a worker until another worker continues its watch."""

from __future__ import annotations

RETRY = 1.0
"""Seconds until Temporal gives a lost watch to another worker, once it is known to be lost."""
WORKER_START = 10.0
"""Seconds a worker needs from nothing to its first renewal; measured: 3 on two cores."""
_SAFE = 2 / 3
"""Share of the time to live in which all of it must have happened."""


def least_ttl(heartbeat_timeout: float) -> float:
    """The shortest time to live, in seconds, that survives the death of a worker with this heartbeat timeout."""
    return (heartbeat_timeout + 1.0 + RETRY + WORKER_START) / _SAFE


def too_short(ttl: float, max_unattended: float, heartbeat_timeout: float) -> str:
    """Why an operation would lose its lease whenever a worker dies; empty where it would not.

    Args:
        ttl: seconds without renewal after which guards restore.
        max_unattended: seconds without renewal after which proxies fall back.
        heartbeat_timeout: seconds after which a silent watch is started elsewhere.
    """
    least = least_ttl(heartbeat_timeout)
    if min(ttl, max_unattended) > least:
        return ""
    what = "maxUnattended of the mesh" if max_unattended <= ttl else "the lease's time to live"
    return (
        f"{what} is {min(ttl, max_unattended):g} s, but after a worker's death its watch continues elsewhere only "
        f"after {heartbeat_timeout:g} s, so every such death would restore the base; set more than {least:.0f} s"
    )
