"""What is observed: cumulative counters of one series at one instant, and the port every source implements."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

RESTART_SLACK = 2.5
"""Seconds by which a start time may move without being a restart: sources know it to the second at best."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose traffic is counted: a service of a mesh, and its arms."""

    mesh: str
    namespace: str
    service: str
    arms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the series began, in one view."""

    requests: float = 0.0
    """Requests completed, one way or the other."""
    errors: float = 0.0
    """Of these, the failed: HTTP 5xx, resets, no response."""
    timed: float = 0.0
    """Requests in the latency histogram, which may trail the counters by a flush."""
    buckets: tuple[tuple[float, float], ...] = ()
    """Cumulative: (upper bound in seconds, requests at most so slow)."""
    client_errors: float | None = None
    """Requests answered with a client error: HTTP 4xx, or a gRPC status that stands for one. None where the source
    cannot tell."""
    aborts: float = 0.0
    """Of the errors, those whose caller left before an answer began, as far as the source tells (Istio's flag DC)."""


@dataclass(frozen=True, slots=True)
class SeriesSample:
    """One series (one proxy's counters for one arm) at one instant."""

    series: str
    """What makes it one series, for instance `proxy web/shop/reviews/v2`."""
    arm: str
    time: float
    """When the counters were read, seconds since the epoch."""
    started: float | None
    """When they began to count; a later start than before is a reset. None where the source can't tell."""
    attempt: Counters
    """Attempt view: every try counts, retried ones too; judges an arm."""
    user: Counters
    """User view: what callers got after retries; gives exposure."""
    active: float = 0.0
    """Tries under way, those that wait for a connection among them."""
    begun: float | None = None
    """Tries that have begun, `active` ones among them, counted no earlier than `active`; None where that is unknown."""
    took: float = 0.0
    """Seconds by which the counters may be older or younger than `time` says."""
    told_by: str = ""
    """Who counted, where several count the same requests; in one look it is the same for a whole arm."""

    @property
    def given(self) -> float:
        """Requests of callers that this arm was given, answered or not; those completed where tries are unknown."""
        if self.begun is None:
            return self.user.requests
        retried = self.attempt.requests - self.user.requests
        return max(self.user.requests, self.begun - retried)


@dataclass(frozen=True, slots=True)
class Door:
    """What stands in front of one arm's endpoints, and who leads there."""

    clusters: frozenset[str]
    """The callers' clusters that lead to the arm: its own, and that of its baseline."""
    sidecars: frozenset[tuple[str, str]]
    """(proxy, cluster of its application), one for every endpoint."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Totals of one arm at both ends of the way: only of arms all of whose sidecars and callers have answered."""

    arm: str
    time: float
    """When the last of them was read, seconds since the epoch."""
    received: Mapping[str, float]
    """By sidecar: requests taken for the application, whether it could be reached or not."""
    sent: Mapping[str, float]
    """By caller: tries begun to the arm, retries and those of its baseline among them."""
    started: Mapping[str, float] = field(default_factory=dict)
    """When each proxy began to count, where it says so."""
    skew: float = 0.0
    """Seconds between the earliest and the latest instant at which any of them may have been read."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything a source saw of one subject in one poll; `missing` names what did not answer and why."""

    subject: Subject
    time: float
    samples: tuple[SeriesSample, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    arrivals: tuple[Arrivals, ...] = ()
    """Of arms where it can be told."""


class TelemetryError(Exception):
    """A source could not answer; the message names its address and what to do."""


@runtime_checkable
class TelemetrySource(Protocol):
    """Where counters come from. One call answers for all subjects, so that queries do not grow with rollouts."""

    @property
    def name(self) -> str:
        """Name of this source for messages, with its address where it has one."""
        ...

    async def observe(self, subjects: Sequence[Subject]) -> list[Observation]:
        """Reads the counters of every subject, in the order asked; never raises for one subject alone.

        Raises:
            TelemetryError: the source as a whole did not answer.
        """
        ...

    async def close(self) -> None:
        """Closes connections."""
        ...


@runtime_checkable
class ScrapedSource(Protocol):
    """A source that knows the interval of its samples."""

    @property
    def interval(self) -> float | None:
        """Seconds between two samples of a series; None until that was seen."""
        ...


@runtime_checkable
class HistorySource(Protocol):
    """A source with a history of counts."""

    async def history(self, subject: Subject, seconds: float, *, latency: bool = True) -> list[Observation]:
        """The looks that were taken of a subject in the last `seconds`, oldest first; none where nothing was kept.

        Args:
            subject: its arms alone are looked for.
            seconds: how far to look back.
            latency: whether histograms are wanted: most of the answer is theirs.

        Raises:
            TelemetryError: the source did not answer.
        """
        ...


@runtime_checkable
class QuerySource(Protocol):
    """Evaluates a user's own query to one number."""

    async def query(self, expression: str) -> float | None:
        """The value now, which may be infinite; None for an empty or NaN result, or one that is stale.

        Raises:
            TelemetryError: the source did not answer, or refused the expression, or gave several series.
        """
        ...


def sendable(value: float | None) -> float | None:
    """A query's value as messages and records take it: JSON has no infinity, so the largest number stands for it."""
    if value is None or math.isnan(value):
        return None
    return min(max(value, -sys.float_info.max), sys.float_info.max)
