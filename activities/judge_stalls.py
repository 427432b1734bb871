"""Measures how long a judge was held up: the time between two of its rounds beyond the length of a tick."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from autopilot.observability.metrics import JUDGE_STALL, JUDGE_WORST_STALL


class Stalls:
    """The stalls of one judge, which begins now; exported for all judges of this process.

    Args:
        kind: of the operation.
        tick: seconds between two rounds where nothing holds the judge up.
        clock: monotonic seconds.
    """

    def __init__(
        self, kind: Literal["canary", "chaos"], tick: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kind = kind
        self._tick = tick
        self._clock = clock
        self._last = clock()
        self.worst = 0.0
        """The longest stall so far, in seconds."""

    def passed(self) -> None:
        """A round begins: what it found is judged now."""
        now = self._clock()
        self._note(now - self._last - self._tick)
        self._last = now

    def ended(self) -> None:
        """The verdict leaves the judge: all time since the round that found it is a stall."""
        self._note(self._clock() - self._last)

    def _note(self, seconds: float) -> None:
        stall = max(0.0, seconds)
        JUDGE_STALL.labels(self._kind).observe(stall)
        if stall > self.worst:
            self.worst = stall
            worst = max(_worst.get(self._kind, 0.0), stall)
            _worst[self._kind] = worst
            JUDGE_WORST_STALL.labels(self._kind).set(worst)


_worst: dict[str, float] = {}
"""Of this process, by kind: a gauge cannot be read back."""


def worst_stall() -> float:
    """The longest stall of any judge in this process since it started, in seconds."""
    return max(_worst.values(), default=0.0)
