"""What users met of services lately, for probes: counters read at each look, and the difference over a window.

Counters are those that a service's callers have of it: what was answered, and how. A fault that lies at the callers
ends requests before these see them (an abort, a denial), or holds them back (a delay). Where the mesh has a witness
that counts what proxies answered themselves, aborts count as what they were for users; delays show one hop up alone.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from activities.probes.counter_window import History, Totals
from activities.probes.tolerance import Seen, judged
from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.mesh.model import Target, baseline_of
from autopilot.mesh_registry.meshes import AttachedMesh
from autopilot.spec.chaos.probes import MeshProbe
from autopilot.spec.values.units import format_seconds
from autopilot.telemetry.hub import Hub
from autopilot.telemetry.model import (
    Subject,
    TelemetryError,
)

SCRAPES: Final = 2.5
"""Scrape intervals without a sample after which there is no data: one scrape may fail, and one is always late."""
_SHARED: Final = 0.1
"""Seconds for which all probes share one reading."""
_ARMS_KEPT: Final = 15.0
"""Seconds for which the arms of a service are not asked for again."""
_STALE: Final = 2.0
_WHOLE: Final = 0.9
"""Share of the window that a rate needs: over less time it varies too much by chance."""


class Traffic:
    """The traffic of services of one mesh, read from its proxies. All are read at once, whoever looks.

    Args:
        attached: the mesh and its telemetry.
        clock: seconds since the epoch; must be the clock of the samples' `time`.
    """

    def __init__(self, attached: AttachedMesh, clock: Callable[[], float] = time.time) -> None:
        self._attached = attached
        self._clock = clock
        self._since = clock()
        self._histories: dict[Target, History] = {}
        self._arms: dict[Target, tuple[float, tuple[str, ...]]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._read_at = -math.inf
        self._failure = ""

    def forget(self) -> None:
        """Starts a new window: requests before now no longer count."""
        self._since = self._clock()
        self._histories.clear()
        self._read_at = -math.inf

    def follow(self, probe: MeshProbe, target: Target) -> History:
        """The history of a probe's service; it is read from now on whenever anybody looks."""
        history = self._histories.setdefault(target, History(self._since))
        history.boundaries |= {probe.window, probe.slower_than}
        history.longest = max(history.longest, probe.window)
        return history

    def patience(self, probe: MeshProbe) -> float:
        """Seconds from the first look in which having no data yet means nothing."""
        return max(probe.window, SCRAPES * (self._interval or 0.0)) + max(1.0, probe.interval)

    def early(self, probe: MeshProbe, target: Target) -> bool:
        """Whether nothing is wrong with the counters, but that they have not been read for long enough."""
        history = self._histories.get(target)
        now = self._clock()
        heard = not self._failure and now - self._read_at <= probe.timeout + _STALE
        return heard and history is not None and now - history.since < self.patience(probe)

    async def refuse(self, target: Target) -> None:
        """Checks that there is such a service, and something that counts its traffic.

        Raises:
            InvalidChange: there is not.
            MeshUnavailable: the mesh does not answer.
        """
        if self._attached.proxies is None:
            raise InvalidChange(
                "this mesh is read through Prometheus, and this worker has none: start it with --prometheus URL"
            )
        await self._arms_of(target)

    async def look(self, probe: MeshProbe, target: Target) -> Seen:
        """What users met of the service over the last window.

        Raises:
            MeshError: its arms cannot be told.
        """
        history = self.follow(probe, target)
        await self.read()
        if self._failure:
            return Seen(None, note=self._failure)
        ends = history.over(probe.window)
        if ends is None:
            return Seen(None, note=_without(f"no counters of {target.ref} were read yet", history.missing))
        since, now = ends
        silent = self._clock() - now.time
        if silent > probe.window + SCRAPES * (self._interval or 0.0) + _STALE:
            return Seen(None, note=_without(f"no new counters of {target.ref} for {silent:.0f} s", history.missing))
        value, said = _measured(probe, since, now)
        if value is None:
            return Seen(None, said, _without(said, history.missing))
        ok, note = await judged(probe.tolerance, value, f"{probe.metric} of {target.ref}: ")
        return Seen(ok, _without(said, history.missing), f"{note} ({said})" if note else "")

    async def read(self) -> None:
        """Reads the counters of every service that is followed, unless somebody has just done so.

        Raises:
            MeshError: the arms of a service cannot be told.
        """
        if self._reading is None and self._clock() - self._read_at < _SHARED:
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="traffic for probes")
            self._reading.add_done_callback(self._read_done)
        await asyncio.shield(self._reading)

    async def close(self) -> None:
        """Cancels a running reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _read_done(self, task: asyncio.Task[None]) -> None:
        self._reading = None
        if not task.cancelled():
            task.exception()  # a waiting caller gets the error; without one it is not needed

    async def _read(self) -> None:
        histories = dict(self._histories)
        subjects = [
            Subject(
                mesh=target.mesh, namespace=target.namespace, service=target.service, arms=await self._arms_of(target)
            )
            for target in histories
        ]
        witness = self._attached.witness
        try:
            observations = await self._hub.source.observe(subjects)
            hops = await witness.hops(subjects) if witness is not None else []
        except TelemetryError as failure:
            self._failure = str(failure)
            return
        self._failure = ""
        self._read_at = self._clock()
        for (target, history), observation in zip(histories.items(), observations, strict=True):
            history.fold(observation, [hop for hop in hops if hop.service == target.ref])

    async def _arms_of(self, target: Target) -> tuple[str, ...]:
        """Its arms, and those that double them; asked for now and then, for a rollout may bring one."""
        asked, arms = self._arms.get(target, (-math.inf, ()))
        if self._clock() - asked < _ARMS_KEPT:
            return arms
        try:
            state = await self._attached.mesh.observe(target)
        except MeshError:
            if arms:
                return arms
            raise
        names = [arm.name for arm in state.arms]
        arms = tuple(dict.fromkeys([*names, *map(baseline_of, names)]))
        self._arms[target] = (self._clock(), arms)
        return arms

    @property
    def _hub(self) -> Hub:
        return self._attached.hub("mesh")

    @property
    def _interval(self) -> float | None:
        return self._attached.interval("mesh")


def _measured(probe: MeshProbe, since: Totals, now: Totals) -> tuple[float | None, str]:
    """The value of the metric and the counts behind it; None where these are too few."""
    seconds = now.time - since.time
    span = f"in {format_seconds(round(seconds, 1))}"
    if probe.metric == "requestRate":
        ended = (now.completed - now.answered) - (since.completed - since.answered)
        given = now.given - since.given + max(0.0, ended)
        if seconds < _WHOLE * probe.window:
            return (
                None,
                f"counted for only {format_seconds(round(seconds, 1))} of {format_seconds(probe.window)} so far",
            )
        return given / seconds, f"{given / seconds:.4g} requests a second {span}"
    if probe.metric == "slowShare":
        waiting = max(0.0, now.overdue[probe.slower_than] - since.overdue.get(probe.slower_than, 0.0))
        total = now.timed[probe.slower_than] - since.timed.get(probe.slower_than, 0.0) + waiting
        bad = now.late[probe.slower_than] - since.late.get(probe.slower_than, 0.0) + waiting
        what = f"took longer than {format_seconds(probe.slower_than)}"
    else:
        waiting = max(0.0, now.overdue[probe.window] - since.overdue.get(probe.window, 0.0))
        total = now.completed - since.completed + waiting
        bad = now.failed - since.failed + waiting
        what = "failed"
    if total <= 0 or total < probe.least:
        return None, f"{total:.0f} requests {span}; at least {max(1, probe.least)} are needed"
    hung = f", {waiting:.0f} without an answer" if waiting else ""
    share = min(1.0, max(0.0, bad / total))
    return (
        share if probe.metric == "slowShare" else 1.0 - share
    ), f"{bad:.0f} of {total:.0f} requests {what} {span}{hung}"


def _without(said: str, missing: dict[str, str]) -> str:
    return "; ".join([said, *(f"{name} is missing: {why}" for name, why in missing.items())])
