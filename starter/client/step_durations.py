"""How long the steps of a rollout will take at the traffic of the last half hour, where a Prometheus has it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.port import Mesh
from autopilot.spec.values.units import format_seconds
from starter.client.prometheus import prometheus

if TYPE_CHECKING:
    from autopilot.evidence.model import Judge, Tick
    from autopilot.spec.canary import CanaryStep, MeshCanary, PromQL

HISTORY = 1800.0
"""Seconds that are looked at."""
_ALONE = 1e-6
"""The weight at which the formula treats stable's share as known: that of the past, where the canary is alone."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What the steps will take.

    Attributes:
        rate: requests/s of the service.
        seconds: of each step, for nine rollouts of ten of a canary like stable; its limit where it takes longer.
        requests: of the canary that it takes to exclude harm of `detect` size, in each step.
        warnings: metrics without data, and steps that will not come to an end, one sentence each.
    """

    rate: float
    seconds: tuple[float, ...]
    requests: tuple[float, ...]
    warnings: tuple[str, ...]


async def of(canary: MeshCanary, mesh: Mesh) -> Pace | None:
    """Reads stable's last half hour; None where this machine knows no Prometheus, or that knows nothing of it."""
    try:
        reached = prometheus(mesh)
    except InvalidChange:
        return None  # `plan` says elsewhere that it cannot be asked
    if reached is None:
        return None
    from autopilot.evidence import configuration  # noqa: PLC0415 - slow to load
    from autopilot.telemetry import quantiles, query_preflight  # noqa: PLC0415
    from autopilot.telemetry.counter_deltas import Differencer  # noqa: PLC0415
    from autopilot.telemetry.model import Subject, TelemetryError  # noqa: PLC0415
    from autopilot.telemetry.prometheus.history import ticks  # noqa: PLC0415
    from autopilot.telemetry.query_template import filled  # noqa: PLC0415

    spec = canary.spec
    arms = (spec.arms.stable, spec.arms.canary)
    subject = Subject(mesh=mesh.name, namespace=canary.metadata.namespace, service=spec.target.service, arms=arms)
    source = reached.source

    async def ask(metric: PromQL) -> float | None:
        return await source.query(filled(metric.query, subject.namespace, subject.service, spec.arms))

    try:
        looks = await source.history(subject, HISTORY, latency=bool(configuration.boundaries_of(spec.analysis)))
        newest = looks[-1].samples if looks else ()
        lacking = query_preflight.without_histogram(spec.analysis, newest, spec.arms.stable)
        lacking += await query_preflight.without_value(spec.analysis, ask)
    except TelemetryError:
        return None  # `plan` says elsewhere that it cannot be asked
    finally:
        await source.close()
    boundaries = quantiles.lately(looks, spec.arms.stable).boundaries()
    analysis = configuration.with_boundaries(spec.analysis, boundaries or configuration.UNKNOWN)
    canary = canary.model_copy(update={"spec": spec.model_copy(update={"analysis": analysis})})
    found = list(ticks(Differencer(spec.arms.canary, spec.arms.stable, configuration.boundaries_of(analysis)), looks))
    paced = _paced(canary, found)
    return None if paced is None else replace(paced, warnings=(*lacking, *paced.warnings))


def _paced(document: MeshCanary, found: list[Tick]) -> Pace | None:
    from autopilot.evidence import canary, configuration  # noqa: PLC0415

    seconds = sum(tick.seconds for tick in found)
    requests = sum(tick.stable.requests + tick.canary.requests for tick in found)
    if not seconds or not requests:
        return None
    rate, judge = requests / seconds, configuration.judge_from(document.spec.analysis)
    usual = canary.usual(judge, canary.observe(judge, canary.start(judge), found), found)
    steps = [_step(step, rate, usual) for step in document.spec.walk]
    return Pace(
        rate=rate,
        seconds=tuple(min(took, step.limit) for step, (took, _) in zip(document.spec.walk, steps, strict=True)),
        requests=tuple(needed for _, needed in steps),
        warnings=tuple(
            f"a step of {step.weight:g} % needs about {needed:,.0f} canary requests to exclude harm of the size to "
            f"`detect`, {_long(took)} at today's {rate:.3g} requests/s: it will be inconclusive after "
            f"{format_seconds(step.limit)} (raise its weight or `timeout`, or `detectAbsolute`)"
            for step, (took, needed) in zip(document.spec.walk, steps, strict=True)
            if took > step.limit
        ),
    )


def _long(seconds: float) -> str:
    return format_seconds(round(seconds)) if math.isfinite(seconds) else "for ever"


def _step(
    step: CanaryStep, rate: float, usual: list[tuple[Judge, tuple[float, ...], tuple[float, ...]]]
) -> tuple[float, float]:
    """Seconds of one step, and canary requests; `usual` as `autopilot.evidence.canary.usual` has it."""
    from autopilot.evidence.statistics import sample_size  # noqa: PLC0415

    weight = min(step.weight / 100, 1.0)
    beside = weight if weight < 1 else _ALONE
    needed = 0.0
    for own, shares, scale in usual:
        for share, phi in zip(shares, scale, strict=True):
            needed = max(needed, sample_size.requests_to_exclude(own, stable=share, weight=beside, phi=phi) or 0.0)
    needed = max(needed, step.min_requests)
    if not weight:
        return (math.inf if needed else step.hold), needed
    return max(step.hold, needed / (rate * weight)), needed
