"""The arrays of judgement: a tick of many rollouts at once. Apart from the plain types, which need no numpy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
"""Counts with any leading batch axes; a scalar case has shape `()`."""

Flags = NDArray[np.bool_]
"""Which rows of a batch are meant, shape `batch`."""


def over_all(rows: Flags, values: Counts) -> Flags:
    """Rows of shape ``batch`` as a mask of values of shape ``batch + …``."""
    return rows.reshape((*rows.shape, *[1] * (values.ndim - rows.ndim)))


@dataclass(frozen=True, slots=True)
class BatchArm:
    """`ArmTick` for many rollouts at once: shapes `batch`, and `batch + (boundaries,)` for `slow`."""

    requests: Counts
    errors: Counts
    timed: Counts
    slow: Counts
    client_errors: Counts | None = None
    aborts: Counts | None = None
    """None for none, as in simulations."""


@dataclass(frozen=True, slots=True)
class BatchTick:
    """`Tick` for many rollouts at once."""

    seconds: float
    canary: BatchArm
    stable: BatchArm
    readings: dict[str, Counts] = field(default_factory=dict)
    baseline: BatchArm | None = None


def joined(first: BatchArm, second: BatchArm | None) -> BatchArm:
    """Two arms counted as one."""
    if second is None:
        return first
    return BatchArm(
        requests=first.requests + second.requests,
        errors=first.errors + second.errors,
        timed=first.timed + second.timed,
        slow=first.slow + second.slow if first.slow.shape == second.slow.shape else first.slow,
        client_errors=summed(first.client_errors, second.client_errors),
        aborts=summed(first.aborts, second.aborts),
    )


def summed(first: Counts | None, second: Counts | None) -> Counts | None:
    """The sum of counts of which either may be unknown."""
    return second if first is None else first if second is None else first + second
