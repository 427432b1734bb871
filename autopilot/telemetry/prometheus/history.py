"""What was scraped before anyone watched, as the looks a watch would have had: one for each round of scrapes.

Proxies are scraped one after the other, so every scrape by itself is a look at one proxy. Folded like that, ticks would
be shorter than the scrapes they hold, and windows of clustering shorter than anything that was measured. A look here is
a whole round: as long as the interval of whoever is scraped most seldom, with the newest sample of everyone in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median

from autopilot.evidence.model import Tick
from autopilot.telemetry.counter_deltas import Differencer
from autopilot.telemetry.model import Observation, SeriesSample, Subject
from autopilot.telemetry.ticks import HubTick

_EARLY = 0.9
"""Share of the interval after which the next round begins: scrapes are not punctual to the millisecond."""

_HOLE = 2.5
"""Ticks longer than so many rounds are left out: while nobody scraped, the failures of many windows became one's."""


def observations(subject: Subject, series: Mapping[str, Sequence[SeriesSample]]) -> list[Observation]:
    """Looks at all series together, oldest first.

    Args:
        subject: whose they are.
        series: samples by series, each in the order of time.
    """
    interval = _interval(series.values())
    rounds: list[dict[str, SeriesSample]] = []
    began = -math.inf
    for sample in sorted((sample for found in series.values() for sample in found), key=lambda sample: sample.time):
        if sample.time >= began + _EARLY * interval:
            rounds.append({})
            began = max(sample.time, began + interval)  # who comes early makes no round shorter
        rounds[-1][sample.series] = sample
    looks = [tuple(found.values()) for found in rounds]
    return [Observation(subject=subject, time=max(one.time for one in look), samples=look) for look in looks]


def ticks(differencer: Differencer, looks: Sequence[Observation]) -> Iterator[Tick]:
    """What happened between the looks, but for holes."""
    usual = median(after.time - before.time for before, after in pairwise(looks)) if len(looks) > 1 else 0.0
    for look in looks:
        item = differencer.fold(look)
        if isinstance(item, HubTick) and item.tick.seconds <= _HOLE * usual:
            yield item.tick


def _interval(series: Iterable[Sequence[SeriesSample]]) -> float:
    """Seconds between two scrapes of whoever is scraped most seldom; 0 where nobody was scraped twice."""
    gaps = [[after.time - before.time for before, after in pairwise(found)] for found in series]
    return max((median(each) for each in gaps if each), default=0.0)
