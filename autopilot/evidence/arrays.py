"""The arrays of judgement: a tick of many rollouts at once. Apart from the plain types, which need no numpy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
"""Counts with any leading batch axes; a scalar case has shape `()`."""


@dataclass(frozen=True, slots=True)
class BatchArm:
    """`ArmTick` for many rollouts at once: shapes `batch`, and `batch + (boundaries,)` for `slow`."""

    requests: Counts
    errors: Counts
    timed: Counts
    slow: Counts


@dataclass(frozen=True, slots=True)
class BatchTick:
    """`Tick` for many rollouts at once."""

    seconds: float
    canary: BatchArm
    stable: BatchArm
    readings: dict[str, Counts] = field(default_factory=dict)
