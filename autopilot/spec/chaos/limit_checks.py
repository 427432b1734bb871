"""Checks an experiment against its own limits and the administrator's, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from autopilot.spec.chaos.experiment import DEFAULT_SHARE, ExperimentSpec
from autopilot.spec.chaos.limits import Ceilings
from autopilot.spec.chaos.probes import MeshProbe

CALLERS_SIDE = ("delay", "bandwidth")
"""Kinds of faults that make requests slow before the target is reached, or after it has answered."""


def beyond(
    spec: ExperimentSpec, ceilings: Ceilings, namespace: str, today: date, weights: Mapping[str, float] | None = None
) -> list[str]:
    """Why the experiment is refused, one sentence each.

    Args:
        spec: the experiment.
        ceilings: what the mesh's administrator allows.
        namespace: the target's.
        today: in UTC.
        weights: percent of the target's traffic by arm, where they are known.
    """
    found = []
    safety = spec.safety
    if namespace in ceilings.protected:
        found.append(f"no experiment may run in namespace {namespace}: spec.chaos.protected of the mesh file lists it")
    found += [
        f"no experiment may start from {one.start} to {one.end}{f' ({one.reason})' if one.reason else ''}: "
        "spec.chaos.freeze of the mesh file"
        for one in ceilings.freeze
        if one.start <= today <= one.end
    ]
    if not ceilings.max_concurrent:
        found.append("spec.chaos.maxConcurrent of the mesh file is 0: no experiment may run here")
    elif safety.max_concurrent > ceilings.max_concurrent:
        found.append(_above("maxConcurrent", safety.max_concurrent, ceilings.max_concurrent))
    allowed = share_allowed(spec)
    if allowed > ceilings.max_traffic:
        found.append(_above("maxTraffic", allowed, ceilings.max_traffic, " %"))
    if safety.max_failures > ceilings.max_failures:
        found.append(_above("maxFailures", safety.max_failures, ceilings.max_failures))
    for number, step in enumerate(spec.method, start=1):
        share = _share(spec, number, weights or {})
        if share > allowed + 1e-6:
            wanted = f"spec.safety.maxTraffic: {share:g}"
            found.append(
                f"the faults of step {number} meet up to {share:g} % of the requests, and {allowed:g} % are allowed: "
                + (f"write {wanted} if that is meant" if safety.max_traffic is None else "make the scope smaller")
            )
        if step.actions and not ceilings.irreversible:
            kinds = ", ".join(sorted({action.type for action in step.actions}))
            found.append(
                f"step {number} has actions that cannot be undone ({kinds}): an administrator must allow it with "
                "spec.chaos.irreversible: true in the mesh file"
            )
    return found


def doubtful(spec: ExperimentSpec) -> list[str]:
    """What is allowed but probably not intended, one sentence each: a hypothesis that its own faults cannot affect."""
    at_callers = any(
        scope is None or scope.view == "app" for _, fault, scope in spec.injections if fault.type in CALLERS_SIDE
    )
    blind = [
        probe.name
        for probe in spec.hypothesis.probes
        if isinstance(probe, MeshProbe)
        and probe.metric == "slowShare"
        and probe.service in (None, spec.target.service)
        and at_callers
    ]
    return [
        f"probe {name} measures how slow {spec.target.service} itself is, and a delay at its callers does not show: "
        "name the service that users call (`service: …`)"
        for name in blind
    ]


def share_allowed(spec: ExperimentSpec) -> float:
    """Percent of the target's requests that its faults may meet."""
    return DEFAULT_SHARE if spec.safety.max_traffic is None else spec.safety.max_traffic


def _share(spec: ExperimentSpec, step: int, weights: Mapping[str, float]) -> float:
    """Upper bound of the share that the faults of a step can meet; what `narrowed` scopes meet is measured."""
    total = 0.0
    for number, _, scope in spec.injections:
        if number != step:
            continue
        if scope is None:
            total += 100.0
        elif not scope.narrowed:
            arm = weights.get(scope.arm, 100.0) if scope.arm else 100.0
            total += scope.share * arm / 100
    return min(100.0, total)


def _above(name: str, asked: float, ceiling: float, unit: str = "") -> str:
    return (
        f"spec.safety.{name} is {asked:g}{unit}, above the {ceiling:g}{unit} that spec.chaos.{name} of the mesh file "
        "allows: ask its administrator to raise it, or write a lower value"
    )
