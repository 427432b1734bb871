"""What series counted, cut at the same moments: proxies are scraped at times of their own, and outages do not wait.

Ten seconds of an outage that both arms shared lie in the window of the arm that was scraped after it and not in that of
the arm scraped before it: compared like that, seven of ten healthy rollouts were rolled back. So nothing is compared
before every series has a sample at or after the same moment, and what a series counted across that moment is divided in
proportion to time.

The moments are those at which the canary was scraped, so that its counts are exact: divided, the first failures of an
outage would count for the time before it, when stable, exact, had none. Of stable they count for a little too early,
which blames nobody. A series that has not been scraped for longer than usual is not waited for; what it counted
meanwhile comes late.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace

from autopilot.telemetry.model import Counters

NEAR = 0.1
"""Samples that are apart by so much of the time between two of them count as taken at once."""
PATIENCE = 2.5
"""Intervals after which a series is not waited for: one scrape may fail, and one is always late."""


@dataclass(frozen=True, slots=True)
class Span:
    """What one series counted between two samples; times in seconds since the epoch."""

    series: str
    arm: str
    began: float
    ended: float
    counted: Counters

    @property
    def length(self) -> float:
        """Seconds."""
        return self.ended - self.began


@dataclass(slots=True)
class Aligner:
    """Holds spans until they can be cut.

    Args:
        lead: the arm at whose samples everything is cut, as long as it has any.
    """

    lead: str
    start: float | None = None
    """From when on nothing was taken yet, seconds since the epoch; what came before all were known is left out."""
    _first: float | None = None
    """When the newest sample of the first look was taken."""
    _leads: bool = False
    """Whether the lead was in that look."""
    _spans: list[Span] = field(default_factory=list)
    _last: dict[str, Span] = field(default_factory=dict)
    """By series; of one that was seen once, a span of no length."""
    _moments: list[float] = field(default_factory=list)
    """When the lead was sampled, as far as nothing was cut there yet."""

    @property
    def waiting(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._spans)

    def look(self, newest: float) -> None:
        """The first look is over."""
        self._first = newest
        self._leads = any(span.arm == self.lead for span in self._last.values())

    def begin(self, series: str, arm: str, time: float) -> None:
        """A series is seen for the first time, or anew."""
        self._last[series] = Span(series, arm, time, time, Counters())
        if arm == self.lead:
            self._moments.append(time)

    def add(self, span: Span) -> None:
        """Takes a span."""
        self._spans.append(span)
        self._last[span.series] = span
        if span.arm == self.lead:
            self._moments.append(span.ended)

    def forget(self, series: str) -> None:
        """Waits for this series no more."""
        self._last.pop(series, None)

    def until(self, present: Container[str], newest: float) -> float | None:
        """The latest moment up to which all series are known; None where nothing can be cut yet.

        Args:
            present: the series that there are now.
            newest: when the newest sample was taken, seconds since the epoch.
        """
        there = [span for series, span in self._last.items() if series in present]
        usual = max((span.length for span in there), default=0.0)
        live = [span for span in there if newest - span.ended <= PATIENCE * (span.length or usual)]
        if not live or not usual:
            return None
        if self.start is None:
            self.start = self._started(usual)
        if self.start is None or any(not span.length and span.ended <= self.start + NEAR * usual for span in live):
            return None
        counted = [span for span in live if span.length > 0]
        least = min(span.ended for span in counted)
        # Whoever is a moment behind counts as being there: clocks and reads differ a little.
        near = max(span.ended for span in counted if span.ended - least <= NEAR * span.length)
        if all(span.arm != self.lead for span in counted):
            return near
        return max((moment for moment in self._moments if self.start < moment <= near), default=None)

    def _started(self, usual: float) -> float | None:
        """The first sample of the lead that is no earlier than the first ones of all others."""
        if self._first is None or not self._leads:
            return self._first
        latest = self._first - NEAR * usual
        return min((moment for moment in self._moments if moment >= latest), default=None)

    def alone(self, present: Container[str]) -> bool:
        """Whether one arm alone has series: then there is nothing to be compared, and nothing to wait for."""
        return len({span.arm for series, span in self._last.items() if series in present}) < 2

    def take_all(self, newest: float) -> dict[str, list[Counters]]:
        """What each arm counted and was not taken yet, however far its series have come."""
        found: dict[str, list[Counters]] = {}
        for span in self._spans:
            found.setdefault(span.arm, []).append(span.counted)
        self._spans, self._moments, self.start = [], [], newest
        return found

    def take(self, moment: float) -> dict[str, list[Counters]]:
        """What each arm counted up to that moment and was not taken yet."""
        if self.start is not None:
            self._cut(self.start)  # nothing where it was cut before
        found: dict[str, list[Counters]] = {}
        for span in self._cut(moment):
            found.setdefault(span.arm, []).append(span.counted)
        self.start = moment
        self._moments = [each for each in self._moments if each > moment]
        return found

    def _cut(self, moment: float) -> list[Span]:
        """Takes out what was counted before the moment."""
        before, after = [], []
        for span in self._spans:
            if span.ended <= moment + NEAR * span.length:
                before.append(span)
            elif span.began >= moment - NEAR * span.length:
                after.append(span)
            else:
                part = (moment - span.began) / span.length
                before.append(replace(span, ended=moment, counted=_part(span.counted, part)))
                after.append(replace(span, began=moment, counted=_part(span.counted, 1 - part)))
        self._spans = after
        return before


def _part(counted: Counters, part: float) -> Counters:
    """So much of everything."""
    return Counters(
        requests=counted.requests * part,
        errors=counted.errors * part,
        timed=counted.timed * part,
        buckets=tuple((bound, count * part) for bound, count in counted.buckets),
        client_errors=None if counted.client_errors is None else counted.client_errors * part,
        aborts=counted.aborts * part,
    )
