"""Ticks put together until a comparison means something: by requests alone, so that evidence stays valid.

Evidence compares the arms tick by tick. With one request to each arm in a tick it says next to nothing, and with one to
stable alone nothing at all, though the same requests counted over half a minute would: a fifth of them failing took
three times as long to find at one request a second. So ticks are held back until they make a comparison: the canary has
a request, and stable has its share, half of what it has had for each of the canary's in this step so far. What is held
back is decided by counts of requests, on which the evidence conditions anyway, and never by failures.

Where stable is silent one waits to see whether it is so: for `LONGEST` seconds, or until the canary has had so many
requests that stable would be without any share. Only then it is compared with what stable did before.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from autopilot.evidence.statistics.arrays import BatchArm, Counts, Flags, over_all, summed

LONGEST = 30.0
"""Seconds after which a group is closed in any case."""

HALF = 0.5
"""Part of stable's usual share that is waited for: all of it would take long by chance."""

ALONE = 0.02
"""The canary is alone in a tick where stable has fewer requests than this share of the canary's."""


def whole(
    canary: Counts,
    stable: Counts,
    seconds: Counts | float,
    *,
    before_canary: Counts,
    before_stable: Counts,
    alone: Flags | bool = False,
) -> Flags:
    """Whether requests so far make a comparison, shape ``batch``, as booleans.

    Args:
        canary: its requests in this group, answered or overdue (`seen`), shape ``batch``, as all others are.
        stable: stable's, with a baseline's.
        seconds: how long the group has lasted.
        before_canary: the canary's requests in this step's earlier groups.
        before_stable: stable's.
        alone: whether the canary gets all traffic: then stable's silence says nothing new.
    """
    both = before_canary + canary
    share = np.divide(before_stable + stable, both, out=np.ones_like(both), where=both > 0)
    company = (canary >= 1) & (stable >= np.where(before_canary > 0, 0.0, 1.0)) & (stable >= HALF * share * canary)
    silent = ((ALONE * canary >= 1) | alone) & (stable < ALONE * canary)
    return np.asarray(company | silent | (np.asarray(seconds) >= LONGEST))


def seen(arm: BatchArm) -> Counts:
    """Requests of an arm: of one that hangs only the overdue ones are known, and only its histogram has them."""
    return np.maximum(arm.requests, arm.timed)


def added(first: BatchArm, second: BatchArm) -> BatchArm:
    """One arm's requests in two ticks."""
    wide = first.slow if first.slow.shape[-1] else np.zeros_like(second.slow)
    more = second.slow if second.slow.shape[-1] else np.zeros_like(wide)
    return BatchArm(
        requests=first.requests + second.requests,
        errors=first.errors + second.errors,
        timed=first.timed + second.timed,
        slow=wide + more,
        client_errors=summed(first.client_errors, second.client_errors),
        aborts=summed(first.aborts, second.aborts),
    )


def of_rows(arm: BatchArm, rows: Flags) -> BatchArm:
    """The arm with nothing in all other rows: rows of shape ``batch``, as booleans."""
    found = {field.name: getattr(arm, field.name) for field in fields(arm)}
    kept = {name: np.where(over_all(rows, values), values, 0.0) for name, values in found.items() if values is not None}
    return BatchArm(**kept)
