"""How often a Prometheus scrapes, from the times of its samples: the query API does not report it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

WIDE = 150.0
"""Seconds to look back for a first idea of the interval: a minute is Prometheus' own default."""

WINDOWS = 2.5
"""Intervals to look back for the newest sample: one scrape may be late or fail, and no proxy is lost by it."""


def interval_of(result: Sequence[Any]) -> float | None:
    """Seconds between two scrapes, from the answer to a range selector; None where nobody was scraped twice.

    The median spacing of a series' samples, so that a scrape that failed does not count; of all series the longest, for
    a look is not complete before whoever is scraped most seldom was. Series of a single gap count only where there are
    no others: that gap may be a hole.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is no matrix.
    """
    gaps = [_gaps(sorted(float(at) for at, _ in entry["values"])) for entry in result]
    longest = max((median(each) for each in gaps if len(each) > 1), default=0.0)
    return longest or max((each[0] for each in gaps if each), default=None)


def window_for(interval: float | None, least: float) -> float:
    """Seconds to look back for newest samples: at least `least`; far where the interval is not known yet."""
    return max(least, WIDE if interval is None else WINDOWS * interval)


def within(result: Sequence[Any], window: float) -> list[Any]:
    """The series, cut to their samples of the `window` seconds before the newest of all; without those that have none.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is no matrix.
    """
    newest = max((float(entry["values"][-1][0]) for entry in result), default=-math.inf)
    cut = (
        {**entry, "values": [each for each in entry["values"] if float(each[0]) >= newest - window]} for entry in result
    )
    return [entry for entry in cut if entry["values"]]


def span(result: Sequence[Any]) -> tuple[float | None, float | None]:
    """When the oldest and the newest of these samples were taken; None where there are none.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is no matrix.
    """
    ends = [(float(entry["values"][0][0]), float(entry["values"][-1][0])) for entry in result if entry["values"]]
    return min((first for first, _ in ends), default=None), max((last for _, last in ends), default=None)


def since(result: Sequence[Any], oldest: float | None) -> list[Any]:
    """The series, classic and native, without samples from before `oldest`; without those that have none.

    Series that were asked for later than others must not reach further back: what is missing at the beginning of the
    others would be taken for not yet born.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is no matrix.
    """
    if oldest is None:
        return list(result)
    found = []
    for entry in result:
        kept = {
            kind: [each for each in entry[kind] if float(each[0]) >= oldest]
            for kind in ("values", "histograms")
            if kind in entry
        }
        if any(kept.values()):
            found.append({**entry, **kept})
    return found


def _gaps(times: Iterable[float]) -> list[float]:
    return [after - before for before, after in pairwise(times) if after > before]
