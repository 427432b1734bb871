"""Whether faults take effect, and what users get meanwhile: counters one hop up, where Envoy hides nothing.

Cluster counters show nothing of injected aborts, and of requests that hang only that they began; so each kind of fault
has a counter of its own that tells how many requests met it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from autopilot.telemetry.model import Subject


@dataclass(frozen=True, slots=True)
class Mark:
    """How one fault is recognised in counters."""

    kind: str
    """The fault's type."""
    name: str
    """What its routes and clusters are called."""
    whole: bool = True
    """Whether all endpoints in scope are concerned."""
    proxies: tuple[tuple[str, str], ...] = ()
    """(proxy, listener) that lay it; none where that is not known."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Totals since the counters began, by series: a series that falls has begun anew."""

    met: Mapping[str, float] = field(default_factory=dict)
    """Requests that met one fault."""
    of: Mapping[str, float] = field(default_factory=dict)
    """Requests to the target that passed the same proxies."""


@dataclass(frozen=True, slots=True)
class Hop:
    """Totals of one caller's requests to one service."""

    caller: str
    service: str
    """`namespace/service`."""
    requests: Mapping[str, float] = field(default_factory=dict)
    tries: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, float] = field(default_factory=dict)
    """As callers met them, aborts that proxies made themselves among them."""


class FaultEffects(Protocol):
    """Sees what experiments do."""

    @property
    def lag(self) -> float:
        """Seconds until what happens now can be seen."""
        ...

    def seen_by(self, subject: Subject, mark: Mark) -> str:
        """What shows that this fault takes effect, in words; empty where nothing does."""
        ...

    async def effects(self, subject: Subject, marks: Sequence[Mark]) -> list[Counted]:
        """What each fault has met so far.

        Raises:
            TelemetryError: nothing answered.
        """
        ...

    async def hops(self, subjects: Sequence[Subject]) -> list[Hop]:
        """What the callers of these services have counted.

        Raises:
            TelemetryError: nothing answered.
        """
        ...

    async def close(self) -> None:
        """Closes connections."""
        ...


def grown(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """What was counted between two readings of the same series."""
    total = 0.0
    for name, value in now.items():
        old = before.get(name, 0.0)
        total += value - old if value >= old else value
    return total
