"""How far an experiment has gone: shares of traffic, failures beyond what there was before, a budget's burn.

Pure functions of counts. The share is judged with evidence that holds at every look, so that a fault at 10 % is not
stopped by the luck of the first hundred requests; failures are counted, for each is one too many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import betaln

from autopilot.wire import Wire

_ALPHA = 0.001
"""Chance that a fault within its share is ever said to be beyond it."""
_KEPT = 200
"""Counts that are remembered of a window."""
_PRIOR = 20.0
"""How many requests the mixture's prior is worth."""


class Count(Wire):
    """What people met by one moment, since the first fault."""

    time: float
    requests: float
    failures: float


def share_evidence(met: float, of: float, cap: float) -> float:
    """Evidence that more than a share `cap` of requests meet a fault: the logarithm of an e-process.

    A mixture over shares by a Beta prior around the cap (the two-arm test of the project's notes on chaos), looked at
    as often as one likes: that it ever reaches ``log(1/alpha)`` has a chance of at most ``alpha``.

    Args:
        met: requests that met the fault.
        of: requests there were, those among them.
        cap: share from 0 to 1, not 0.
    """
    rest = max(0.0, of - met)
    if met <= 0 or cap >= 1:
        return 0.0
    a, b = _PRIOR * cap, _PRIOR * (1 - cap)
    return float(betaln(a + met, b + rest) - betaln(a, b) - met * math.log(cap) - rest * math.log1p(-cap))


def beyond_share(met: float, of: float, cap: float) -> str:
    """Why the fault meets more of the traffic than it may; empty where that is not shown.

    Args:
        met: requests that met it.
        of: requests to the target meanwhile.
        cap: percent of them.
    """
    of = max(of, met)
    if not of or met / of <= cap / 100 or share_evidence(met, of, cap / 100) < -math.log(_ALPHA):
        return ""
    return (
        f"faults met {100 * met / of:.1f} % of the requests ({met:.0f} of {of:.0f}); {cap:g} % are allowed (maxTraffic)"
    )


def excess(count: Count, before: float) -> float:
    """Failures beyond the number that the earlier failure rate explains.

    Args:
        count: since the first fault.
        before: share of requests that failed before it.
    """
    return max(0.0, count.failures - before * count.requests)


def beyond_failures(count: Count, before: float, most: int) -> str:
    """Why there were more failures than allowed; empty where there were not."""
    more = excess(count, before)
    if more <= most:
        return ""
    return f"{more:.0f} more requests failed than the earlier failure rate explains; {most} are allowed (maxFailures)"


def burn(counts: Sequence[Count], objective: float, window: float, *, least: float = 20.0) -> float | None:
    """Burn rate of an error budget over the last `window` seconds, as a multiple; None where it is unknown.

    Args:
        counts: running totals, oldest first.
        objective: share of requests that should succeed.
        window: seconds.
        least: with fewer requests nothing is said.
    """
    if not counts:
        return None
    last = counts[-1]
    first = next((count for count in reversed(counts) if count.time <= last.time - window), counts[0])
    requests = last.requests - first.requests
    if requests < least:
        return None
    return (last.failures - first.failures) / requests / (1 - objective)


def trimmed(counts: Sequence[Count], window: float) -> tuple[Count, ...]:
    """What `burn` still needs."""
    if not counts:
        return ()
    edge = counts[-1].time - window
    kept = [count for count in counts if count.time > edge]
    older = [count for count in counts if count.time <= edge]
    return _spaced((*older[-1:], *kept), window)


def _spaced(counts: tuple[Count, ...], window: float) -> tuple[Count, ...]:
    """At most `_KEPT` of them, evenly; the first and the last always: what is heartbeat must stay small."""
    if len(counts) <= _KEPT:
        return counts
    found = [counts[0]]
    for count in counts[1:-1]:
        if count.time - found[-1].time >= window / (_KEPT - 2):
            found.append(count)
    return (*found, counts[-1])
