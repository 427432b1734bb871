"""Requests that an arm's own sidecars took and no caller's proxy sent: a lower bound that no skew of clocks can raise.

Let R(t) be all that an arm's sidecars have taken for their applications, and S(t) all tries that callers' proxies have
begun to that arm (retries, hangs and those of its baseline among them). A try is counted by its sender first, so
``R(t) - S(t)`` is at most H(t), what passed no proxy so far; it lies below by what is under way, and by what was lost
on the way. So whatever R - S rises to *for the first time*, passed no proxy: the increments of its running maximum are
a lower bound of those of H, once the maximum has caught up with it, for which `SETTLE` seconds are given.

R and S are not read at one instant: either may be some milliseconds ahead, or a second where a proxy is slow to answer.
What may have come meanwhile is taken off, or put on while settling, and a maximum counts only where it lasted
from one look to the next. A proxy that began to count anew has the comparison begin anew, and so has one that comes or
goes. What is lost on the way for good (connections that break) hides as many requests that passed no proxy: nothing is
found that is not there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from autopilot.evidence.bypass_check import LEAST
from autopilot.telemetry.model import RESTART_SLACK, Arrivals

SETTLE = 5.0
"""Seconds in which a comparison that began anew finds out what is under way."""

_SAVED = 10.0
"""Seconds of `LEAST` that may come at once: health checks come in bursts."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """What came to one arm's sidecars in one tick."""

    requests: float = 0.0
    unsent: float = 0.0
    """Of these, at least so many passed no proxy of a caller, beyond `LEAST` a second."""

    def __add__(self, other: Arrived) -> Arrived:
        return Arrived(self.requests + other.requests, self.unsent + other.unsent)


@dataclass(slots=True)
class Unsent:
    """Follows one arm."""

    _base: Arrivals | None = None
    _before: Arrivals | None = None
    _least: float = -math.inf
    """R - S since the base at the look before, at the least."""
    _most: float = -math.inf
    """The most that it can have been while settling, or has been for certain since."""
    _rate: float = 0.0
    """Requests a second between the two looks before."""
    _allowance: float = _SAVED * LEAST
    _pending: Arrived = field(default_factory=Arrived)

    def look(self, now: Arrivals) -> None:
        """Takes the next look at the arm."""
        base, before = self._base, self._before
        self._before = now
        if base is None or before is None or _began_anew(before, now):
            self._base, self._least, self._most, self._rate = now, -math.inf, -math.inf, 0.0
            return
        seconds = now.time - before.time
        if seconds <= 0:
            return
        came = sum(now.received.values()) - sum(before.received.values())
        apart = now.skew * max(came / seconds, self._rate)
        doubt = apart + 3 * math.sqrt(apart) + 1
        beyond = sum(now.received.values()) - sum(base.received.values())
        beyond -= sum(now.sent.values()) - sum(base.sent.values())
        if before.time - base.time < SETTLE:
            self._most = max(self._most, beyond + doubt)
        else:
            most = max(self._most, min(beyond - doubt, self._least))
            self._allowance = min(self._allowance + LEAST * seconds, _SAVED * LEAST)
            allowed = min(most - self._most, self._allowance)
            self._allowance -= allowed
            self._pending += Arrived(requests=came, unsent=most - self._most - allowed)
            self._most = most
        self._least, self._rate = beyond - doubt, came / seconds

    def take(self) -> Arrived:
        """What has come together since this was last asked."""
        taken, self._pending = self._pending, Arrived()
        return taken


def _began_anew(before: Arrivals, now: Arrivals) -> bool:
    """Whether any proxy's totals are not those of before, gone on."""
    return (
        _fell(before.received, now.received)
        or _fell(before.sent, now.sent)
        or any(now.started.get(name, at) > at + RESTART_SLACK for name, at in before.started.items())
    )


def _fell(before: Mapping[str, float], now: Mapping[str, float]) -> bool:
    return before.keys() != now.keys() or any(now[name] < total for name, total in before.items())
