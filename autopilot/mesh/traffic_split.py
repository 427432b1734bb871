"""How a step shares traffic: canary, stable, and a baseline arm where there is room for a fair comparison."""

from __future__ import annotations

from autopilot.mesh.model import RuleChoice, SplitTraffic, baseline_of
from autopilot.spec.canary import CanarySpec


def baseline_arm(spec: CanarySpec, weight: float) -> str:
    """The baseline arm at this canary weight in percent; empty where none was asked for, or there is no room.

    It gets as much as the canary, out of stable's share: from 50 % upwards nothing would be left of stable.
    """
    wanted = spec.analysis.baseline == "virtual" and 0 < weight < 50
    return baseline_of(spec.arms.stable) if wanted else ""


def split(spec: CanarySpec, weight: float) -> SplitTraffic:
    """The change that gives the canary `weight` percent."""
    weights = {spec.arms.stable: 100 - weight, spec.arms.canary: weight}
    if baseline := baseline_arm(spec, weight):
        weights |= {spec.arms.stable: 100 - 2 * weight, baseline: weight}
    choice = RuleChoice(only=spec.routes.only, but=spec.routes.except_)
    return SplitTraffic(weights=weights, stable=spec.arms.stable, choice=choice)
