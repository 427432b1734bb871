"""Whether traffic is split as configured: measured counts of requests against the weights.

A proxy that has not applied a weight, sticky cookies, a leak: each makes some arm's share of all requests differ from
its weight, and every comparison between arms doubtful. That is a finding, and no harm.

For each arm a test on both sides: that its odds are at most `TOLERANCE` times those set, and at least as little. Each a
mixture of binomial likelihood ratios over larger deviations, summed over ticks with the weights of each tick (notes on
canary statistics, 5 (g); the multinomial test of Lindon & Malek 2022, "Anytime-valid inference for multinomial count
data", arm by arm, for the arm is what one wants to know). A likelihood ratio with a monotone bound covers every split
within the tolerance. Arms and sides are averaged, so alpha is spent once. Deviations that begin late are found by
epochs, which begin anew with each change of weights and each minute, with stakes as in
`autopilot.evidence.statistics.metric_process`.

Counts have to be in the *user view*: retries stay with their arm, and would look like a larger share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from pydantic import Field

from autopilot.evidence.statistics.arrays import Counts
from autopilot.wire import Wire

ALPHA = 1e-4
"""Chance of any finding, over a whole rollout, where all is well."""

TOLERANCE = 1.1
"""Odds that differ by less are no finding: counters of different proxies are not read at the same moment."""

EPOCH = 60.0
"""Seconds."""

_STAKE = 0.5
_LEAST = 0.002
"""An arm set to less may get this share, and one set to nearly all may lack it: some requests are still under way.
That an arm gets *fewer* than it was set is measured against what was set, however little: nobody gets fewer than 0."""
_NONE = 1e-9
"""What stands for a weight of 0, whose logarithm there is none of."""

_SHIFTS: Counts = np.linspace(math.log(1.1), math.log(30.0), 16)
_DECIMALS = 6


class SplitState(Wire):
    """What the check remembers; small, and the same after a trip through JSON."""

    weights: dict[str, float] = Field(default_factory=dict)
    """As last set, as shares."""
    whole: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Log-likelihood ratios of each arm since the rollout began: more than set, then fewer."""
    present: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """The same since the epoch began."""
    counts: dict[str, float] = Field(default_factory=dict)
    """Requests since the weights were set."""
    epoch: int = 1
    seconds: float = 0.0
    """How long the epoch has lasted."""


class Mismatch(Wire):
    """An arm's share of the requests is not what was set."""

    arm: str
    set_share: float
    measured_share: float
    requests: float
    """Of all arms, since these weights were set."""
    evidence: float
    needed: float

    @property
    def reason(self) -> str:
        """The finding in one sentence."""
        measured, wanted = 100 * self.measured_share, 100 * self.set_share
        share = f"{measured:.1f}" if measured >= 0.1 else f"{measured:.2g}"
        return f"{self.arm} gets {share} % of {self.requests:,.0f} requests where {wanted:.3g} % is set"


def update(
    state: SplitState,
    weights: Mapping[str, float],
    counts: Mapping[str, float],
    *,
    seconds: float = 1.0,
    alpha: float = ALPHA,
) -> tuple[SplitState, Mismatch | None]:
    """Folds one tick.

    Args:
        state: as the tick before left it; `SplitState()` at first.
        weights: what is set for each arm during this tick; any unit, for shares of their sum count. Give the proxies a
            moment after a change: a tick during which they took it on belongs to neither weight, so leave it out.
        counts: requests each arm was given in this tick, user view.
        seconds: that the tick covers.
        alpha: chance of a finding where all is well.

    Returns:
        The new state, and a finding for as long as there is enough evidence of one.
    """
    total = math.fsum(weights.values())
    if total <= 0:
        return state, None
    shares = {arm: weight / total for arm, weight in weights.items()}
    changed = bool(state.weights) and state.weights != shares
    anew = state.seconds > 0 and (changed or state.seconds >= EPOCH)
    counted = {arm: (0.0 if changed else state.counts.get(arm, 0.0)) + counts.get(arm, 0.0) for arm in shares}
    requests = np.asarray(math.fsum(counts.get(arm, 0.0) for arm in shares))
    whole, present = dict(state.whole), dict[str, tuple[float, ...]]()  # whoever has left keeps what it had
    for arm, share in shares.items():
        more = increment(np.asarray(counts.get(arm, 0.0)), requests, share).ravel()
        whole[arm] = plus(state.whole.get(arm), more)
        present[arm] = plus(None if anew else state.present.get(arm), more)
    new = SplitState(
        weights=shares,
        whole=whole,
        present=present,
        counts=counted,
        epoch=state.epoch + anew,
        seconds=seconds + (0.0 if anew else state.seconds),
    )
    return new, _judge(new, alpha)


def increment(count: Counts, total: Counts, weight: float) -> Counts:
    """What a tick adds to one arm's log-likelihood ratios, shape ``batch + (2, 16)``: more than set, then fewer."""
    most, least = min(max(weight, _LEAST), 1 - _NONE), max(min(weight, 1 - _LEAST), _NONE)
    sides = np.array([1.0, -1.0])[:, None]
    odds = np.array([[math.log(most / (1 - most))], [math.log(least / (1 - least))]])
    edge = odds + sides * math.log(TOLERANCE)
    other = edge + sides * _SHIFTS
    # ln p = d - ln(1 + e^d) and ln(1 - p) = -ln(1 + e^d), with d the log odds.
    apart = np.logaddexp(0.0, other) - np.logaddexp(0.0, edge)
    return np.asarray(count[..., None, None] * (other - edge) - total[..., None, None] * apart)


def _judge(state: SplitState, alpha: float) -> Mismatch | None:
    found = {arm: staked(state.whole[arm], state.present.get(arm, (0.0,)), state.epoch) for arm in state.whole}
    evidence = float(np.logaddexp.reduce(list(found.values()))) - math.log(len(found))
    if evidence < math.log(1 / alpha):
        return None
    requests = math.fsum(state.counts.values())
    arm = _foremost(state, {arm: found[arm] for arm in state.weights}, requests)
    return Mismatch(
        arm=arm,
        set_share=state.weights[arm],
        measured_share=state.counts[arm] / requests if requests else 0.0,
        requests=requests,
        evidence=evidence,
        needed=math.log(1 / alpha),
    )


def staked(whole: tuple[float, ...], present: tuple[float, ...], epoch: int) -> float:
    """Evidence of one arm, from its log-likelihood ratios since the beginning and since the epoch began."""
    stakes = np.log([_STAKE, (1 - _STAKE) / (epoch * (epoch + 1))])
    return float(np.logaddexp(_mean(whole) + stakes[0], _mean(present) + stakes[1]))


def plus(before: tuple[float, ...] | None, more: Counts) -> tuple[float, ...]:
    """Log-likelihood ratios with those of one tick more."""
    return tuple(np.round(more if before is None else np.asarray(before) + more, _DECIMALS).tolist())


def _foremost(state: SplitState, found: Mapping[str, float], requests: float) -> str:
    """The arm with the most evidence; of two that mirror each other the smaller."""
    most = max(found.values())
    close = [arm for arm, value in found.items() if value >= most - 1.0] if requests else list(found)
    return min(close, key=lambda arm: state.weights[arm])


def _mean(ratios: tuple[float, ...]) -> float:
    return float(np.logaddexp.reduce(ratios)) - math.log(len(ratios))
