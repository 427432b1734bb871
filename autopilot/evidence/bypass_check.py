"""Whether an arm gets requests that no caller's proxy sent: then its weight does not describe its load.

Whoever calls an instance by its own address passes no proxy that shares traffic out. Such requests are in no caller's
counters: the measured split (`autopilot.evidence.sample_ratio`) is as it was set, while the arm carries more than its
share. Its own sidecars have counted them. Telemetry says of each tick how many requests the sidecars took, and how many
of them at least nobody sent (`autopilot.telemetry.unproxied_requests`); here the share of the latter is tested against
`SHARE`, by the likelihood ratios of the split check, with its stakes: some on the whole rollout, some on the present
minute.

A few are in every mesh: health checks, somebody's terminal. `SHARE` of an arm's requests, and `LEAST` a second on top,
are let pass. A finding, and no harm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from pydantic import Field

from autopilot.evidence.sample_ratio import ALPHA, EPOCH, increment, plus, staked
from autopilot.wire import Wire

SHARE = 0.05
"""Of an arm's requests may pass no proxy, and it is no finding."""

LEAST = 1.0
"""Requests a second that may besides."""

_MEASURED = 2.0
"""Seconds for which requests are counted, once it is clear that there are any, so that their number can be told."""


class BypassState(Wire):
    """What the check remembers; small, and the same after a trip through JSON."""

    whole: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Log-likelihood ratios of each arm since watching began."""
    present: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """The same since the epoch began."""
    clear: bool = False
    """There was enough evidence after the tick before."""
    unsent: dict[str, float] = Field(default_factory=dict)
    """Requests of each arm that nobody sent, since there is enough evidence..."""
    measured: float = 0.0
    """...and for how many seconds they were counted."""
    epoch: int = 1
    seconds: float = 0.0
    """How long the epoch has lasted."""


class Bypass(Wire):
    """An arm is given requests that passed no proxy."""

    arm: str
    rate: float
    """About so many a second."""
    evidence: float
    needed: float

    @property
    def reason(self) -> str:
        """The finding in one sentence."""
        return f"{self.arm} is given {self.rate:,.0f} requests/s that passed no proxy of this mesh"


def update(
    state: BypassState, arrived: Mapping[str, tuple[float, float]], *, seconds: float = 1.0, alpha: float = ALPHA
) -> tuple[BypassState, Bypass | None]:
    """Folds one tick.

    Args:
        state: as the tick before left it; `BypassState()` at first.
        arrived: for each arm, in every tick the same ones, the requests that its sidecars took, and of these the ones
            that nobody sent beyond `LEAST`; noughts where it could not be told.
        seconds: that the tick covers.
        alpha: chance of any finding, over a whole rollout, where all is well.

    Returns:
        The new state, and a finding for as long as there is enough evidence of one.
    """
    anew = state.seconds >= EPOCH
    whole, present = {}, {}
    for arm, (requests, unsent) in arrived.items():
        more = increment(np.asarray(unsent), np.asarray(max(requests, unsent)), SHARE)[0]
        whole[arm] = plus(state.whole.get(arm), more)
        present[arm] = plus(None if anew else state.present.get(arm), more)
    epoch = state.epoch + anew
    found = {arm: staked(each, present[arm], epoch) for arm, each in whole.items()}
    evidence = float(np.logaddexp.reduce(list(found.values()))) - math.log(len(found)) if found else 0.0
    clear = evidence >= math.log(1 / alpha)
    new = BypassState(
        whole=whole,
        present=present,
        epoch=epoch,
        seconds=seconds + (0.0 if anew else state.seconds),
        clear=clear,
        unsent={arm: state.unsent.get(arm, 0.0) + unsent for arm, (_, unsent) in arrived.items()}
        if state.clear
        else {},
        measured=state.measured + seconds if state.clear else 0.0,
    )
    if not clear or new.measured < _MEASURED:
        return new, None
    arm = max(found, key=lambda name: found[name])
    rate = LEAST + new.unsent[arm] / new.measured
    return new, Bypass(arm=arm, rate=rate, evidence=evidence, needed=math.log(1 / alpha))
