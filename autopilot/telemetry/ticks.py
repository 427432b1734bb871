"""Ticks as watches get them: what happened between two looks, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from autopilot.evidence.model import ArmTick, Tick
from autopilot.telemetry.model import Counters
from autopilot.telemetry.unproxied_requests import Arrived


@dataclass(frozen=True, slots=True)
class Exposure:
    """What users met of the canary, in the user view: counts since the tick before."""

    requests: float = 0.0
    """Given to it, answered or not."""
    failures: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class HubTick:
    """What happened between two samples of the same series."""

    tick: Tick
    """Both arms in the attempt view: what a judge takes."""
    exposure: Exposure
    given: dict[str, float] = field(default_factory=dict)
    """Requests given to each arm in the user view."""
    arrived: dict[str, Arrived] = field(default_factory=dict)
    """What each arm's own sidecars took; of arms where it can be told."""
    active: float = 0.0
    """The canary's tries under way."""
    boundaries: tuple[float, ...] = ()
    """The histogram bounds, in seconds, that `tick.*.slow` refers to, in the order asked; empty before any was seen."""
    notes: tuple[str, ...] = ()
    """What is missing from this tick: proxies that did not answer, series that began anew."""

    @property
    def users(self) -> float:
        """Requests given to all arms in the user view."""
        return sum(self.given.values())

    @property
    def measured(self) -> float | None:
        """The canary's share of the requests in this tick; None without requests."""
        return self.exposure.requests / self.users if self.users > 0 else None


@dataclass(frozen=True, slots=True)
class Gap:
    """Nothing advanced: neither good nor bad, but time went by."""

    time: float
    """When this was noticed, seconds since the epoch."""
    silent_seconds: float
    """Since anything advanced, or since watching began."""
    reason: str


def merge(first: HubTick, second: HubTick) -> HubTick:
    """Two ticks in a row as one: counts and seconds add up, so a slow consumer loses nothing."""
    seconds = first.tick.seconds + second.tick.seconds
    return HubTick(
        tick=Tick(
            time=second.tick.time,
            seconds=seconds,
            canary=_join(first.tick.canary, second.tick.canary),
            stable=_join(first.tick.stable, second.tick.stable),
            baseline=_join(first.tick.baseline, second.tick.baseline)
            if first.tick.baseline is not None and second.tick.baseline is not None
            else None,
        ),
        exposure=Exposure(
            requests=first.exposure.requests + second.exposure.requests,
            failures=first.exposure.failures + second.exposure.failures,
            seconds=seconds,
        ),
        given={arm: first.given.get(arm, 0.0) + second.given.get(arm, 0.0) for arm in {**first.given, **second.given}},
        arrived={
            arm: first.arrived.get(arm, Arrived()) + second.arrived.get(arm, Arrived())
            for arm in {**first.arrived, **second.arrived}
        },
        active=second.active,
        boundaries=second.boundaries,
        notes=tuple(dict.fromkeys((*first.notes, *second.notes))),
    )


def _join(first: ArmTick, second: ArmTick) -> ArmTick:
    if len(first.slow) != len(second.slow):
        raise ValueError(f"{len(first.slow)} and {len(second.slow)} boundaries cannot be added")
    return first.plus(second)


def arm_tick(total: Counters, *, timed: float, slow: tuple[float, ...]) -> ArmTick:
    """One arm's tick from what its counters grew by."""
    return ArmTick(
        requests=total.requests,
        errors=total.errors,
        timed=timed,
        slow=slow,
        client_errors=total.client_errors,
        aborts=total.aborts,
    )
