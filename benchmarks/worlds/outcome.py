"""How rollouts ended, the same for every rule that judges them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from autopilot.evidence.statistics.arrays import BatchArm, Counts
from worlds.moment import Flags, Rows

End = Literal["rolled_back", "promoted", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The ends of n rollouts: all arrays have shape (n,); exactly one of the three ends holds for each rollout."""

    ended: Counts
    """Seconds after the first tick began."""
    rolled_back: Flags
    promoted: Flags
    inconclusive: Flags
    requests: Counts
    """Requests that the canary was given until then."""
    failures: Counts
    """Of these, the failed."""
    weight: Counts
    """The canary's share of the traffic at the end, 0 to 1."""


class Tally:
    """Counts what the canary's clients meet, and notes how rollouts end."""

    def __init__(self, n: int) -> None:
        self._ended = np.full(n, np.nan)
        self._ends: dict[End, Flags] = {
            end: np.zeros(n, dtype=bool) for end in ("rolled_back", "promoted", "inconclusive")
        }
        self._requests, self._failures, self._weight = np.zeros(n), np.zeros(n), np.full(n, np.nan)

    @property
    def running(self) -> Flags:
        """Which rollouts have not ended, shape (n,)."""
        return np.asarray(np.isnan(self._ended))

    def count(self, canary: BatchArm, rows: Rows | None = None) -> None:
        """Adds a tick to the rollouts that run.

        Args:
            canary: what the canary did, shape (len(rows),), or (n,) without rows.
            rows: the rollouts that the arm's rows stand for.
        """
        where = np.arange(self._ended.size) if rows is None else rows
        running = self.running[where]
        self._requests[where] += np.where(running, canary.requests, 0.0)
        self._failures[where] += np.where(running, canary.errors, 0.0)

    def end(self, which: Flags | Rows, end: End, *, at: float, weight: Counts) -> None:
        """Ends rollouts; those that had ended before stay as they were.

        Args:
            which: their flags, shape (n,), or their positions.
            end: how.
            at: seconds after the first tick began.
            weight: the weight of every rollout, shape (n,).
        """
        now = np.zeros(self._ended.size, dtype=bool)
        now[which] = True
        now &= self.running
        self._ended[now], self._weight[now] = at, weight[now]
        self._ends[end] |= now

    def outcome(self) -> Outcome:
        """What was found.

        Raises:
            ValueError: some rollouts have not ended.
        """
        if self.running.any():
            raise ValueError(f"{int(self.running.sum())} rollouts have not ended")
        return Outcome(
            ended=self._ended,
            rolled_back=self._ends["rolled_back"],
            promoted=self._ends["promoted"],
            inconclusive=self._ends["inconclusive"],
            requests=self._requests,
            failures=self._failures,
            weight=self._weight,
        )
