"""The worst case, on the embedded stack: everything of ours killed at once, and what the traffic does then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from pydantic import BaseModel

from autopilot.local import control, stack
from autopilot.local.record import Condition, StackInfo
from autopilot.mesh.envoy.state.store import Store
from starter.client.errors import CommandError

OURS = ("worker", "guard", "temporal")
_LOOK = 0.05
_READY_LIMIT = 40.0
_AFTERWARDS = 2.0
"""Seconds beyond the deadline that are watched too: nothing may come late."""


class Strike(BaseModel):
    """What happened to the traffic when everything died."""

    deadline: float
    """Seconds from the deaths until the proxies had to fall back."""
    healed: float
    """Seconds from the deaths until the last request that met the overlay."""


async def strike(
    info: StackInfo, served: Callable[[], Awaitable[int]], tell: Callable[[str], None], *, what: str = "the canary"
) -> Strike:
    """Kills worker, guard and Temporal, watches the traffic until it has healed, and starts them again.

    Args:
        info: the running stack; one overlay is laid over its mesh.
        served: requests that have met the overlay so far.
        tell: hears how it goes.
        what: what they met.
    """
    for name in OURS:
        await control.command(info, name, "kill")
    died = time.time()
    overlays = Store(info.mesh_file).overlays()
    if not overlays:
        raise CommandError("no overlay is in force, so there is nothing to restore", hint="play the scenario again")
    deadline = max(overlay.deadline for overlay in overlays) - died
    tell(
        f"kill -9 {', '.join(OURS)}: worker, guard and Temporal are dead; "
        f"the proxies' own deadline is in {deadline:.1f} s"
    )
    last = await _last_served(served, died, deadline + _AFTERWARDS)
    tell(f"no request met {what} after {last:.1f} s; starting everything again")
    for name in reversed(OURS):
        await control.command(info, name, "start")
    await _until_ready(info)
    return Strike(deadline=round(deadline, 2), healed=round(last, 2))


async def _last_served(served: Callable[[], Awaitable[int]], died: float, patience: float) -> float:
    """Seconds after the deaths at which the canary was last seen to serve."""
    last, before = 0.0, await served()
    while (now := time.time() - died) < patience:
        count = await served()
        if count != before:
            last, before = now, count
        await asyncio.sleep(_LOOK)
    return last


async def _until_ready(info: StackInfo) -> None:
    until = time.monotonic() + _READY_LIMIT
    while True:
        now = stack.describe(info.root)
        waiting = [name for name in OURS if now is None or now.parts[name].condition is not Condition.READY]
        if not waiting:
            return
        if time.monotonic() > until:
            raise CommandError(
                f"{', '.join(waiting)} did not come back within {_READY_LIMIT:g} s", hint=f"see the logs in {info.logs}"
            )
        await asyncio.sleep(0.1)
