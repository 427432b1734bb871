"""What a mesh's metrics must be able to say, whatever they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from autopilot.telemetry.model import SeriesSample, Subject

Matrix = Sequence[Any]
"""The `result` of a range selector: entries of `metric` (labels) and `values` ([seconds since the epoch, text])."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest samples of one subject."""

    samples: tuple[SeriesSample, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    """What is not in the samples, and why."""


class Dialect(Protocol):
    """Names of metrics and labels, and what they mean. Pure: asking is the source's part."""

    @property
    def histograms(self) -> Mapping[str, Sequence[float]]:
        """The names of histograms where they are native, and the bounds that they usually have, in their own unit."""
        ...

    def metrics(self, *, latency: bool = True) -> tuple[str, ...]:
        """The metrics that are read, for stores that must be asked for each by its name; counts of requests first."""
        ...

    def selector(
        self, subjects: Sequence[Subject], window: float, *, latency: bool = True, strict: bool = False, name: str = ""
    ) -> str:
        """The one query for all subjects: every counter that is needed, raw, over the last `window` seconds.

        Args:
            subjects: whose counters are asked for.
            window: seconds to look back.
            latency: whether histograms are asked for: most of the answer is theirs.
            strict: whether only the subjects' own arms are asked for, where the dialect would take others along.
            name: one of `metrics` or `histograms`: only that one is asked for, without a pattern for metric names.
        """
        ...

    def newest(self, result: Matrix, subjects: Sequence[Subject]) -> list[Reading]:
        """The newest sample of every series, for every subject, in the order asked.

        Raises:
            ValueError, KeyError, TypeError, IndexError: it is no matrix.
        """
        ...

    def history(self, result: Matrix, subject: Subject) -> dict[str, list[SeriesSample]]:
        """All samples by series, each in the order of time.

        Raises:
            ValueError, KeyError, TypeError, IndexError: it is no matrix.
        """
        ...
