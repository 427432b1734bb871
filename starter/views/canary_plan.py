"""What a rollout would do to this mesh: its steps and how long they take, who restores, and the first step's diff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from autopilot.evidence.configuration import implied
from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.model import Plan, Target
from autopilot.mesh.traffic_split import split
from autopilot.reports.canary import canary_id
from autopilot.spec.values.units import format_seconds
from starter.client import step_durations
from starter.views.output import table
from starter.views.plan_parts import outlook, written

if TYPE_CHECKING:
    from autopilot.mesh.port import Mesh
    from autopilot.spec.canary import CanarySpec, CanaryStep, MeshCanary
    from starter.client.manifests import Manifest


async def plan(mesh: Mesh, manifest: Manifest, problems: list[str]) -> dict[str, Any]:
    """The plan of one rollout, for programs; writes nothing."""
    canary = cast("MeshCanary", manifest.document)
    spec = canary.spec
    namespace = canary.metadata.namespace
    target = Target(mesh=mesh.name, namespace=namespace, service=spec.target.service)
    first = spec.walk[0].weight
    change = split(spec, first)
    planned: Plan | None = None
    holders: tuple[str, ...] = ()
    paced = await step_durations.of(canary, mesh)
    try:
        planned = await mesh.plan(target, [change])
        holders = (await mesh.observe(target, change)).holders
    except InvalidChange as error:
        if not problems:  # otherwise the check has named it
            problems.append(f"{manifest.file}: {manifest.ref}: {error}")
    return {
        "workflow_id": canary_id(mesh.name, namespace, canary.metadata.name),
        "file": manifest.file,
        "target": str(target),
        "arms": {"stable": spec.arms.stable, "canary": spec.arms.canary},
        "steps": [_step(number, step, paced) for number, step in enumerate(spec.walk, start=1)],
        "rate": paced.rate if paced else None,
        "warnings": list(paced.warnings) if paced else [],
        "shortest": sum(step.hold for step in spec.walk),
        "judged_by": _judged_by(spec),
        "tier": planned.tier if planned else None,
        "holders": holders,
        "routes": list(planned.notes) if planned else [],
        "diff": planned.diff if planned else "",
        "problems": problems,
    }


def _step(number: int, step: CanaryStep, paced: step_durations.Pace | None) -> dict[str, Any]:
    return {
        "number": number,
        "weight": step.weight,
        "hold": step.hold,
        "min_requests": step.min_requests,
        "limit": step.limit,
        "approval": step.pause is not None,
        "seconds": paced.seconds[number - 1] if paced else None,
        "requests": paced.requests[number - 1] if paced else None,
    }


def _judged_by(spec: CanarySpec) -> list[str]:
    named = [f"{metric.name} ({metric.type})" for metric in spec.analysis.metrics]
    return [*named, *(f"{metric.name} (4xx, where telemetry tells them)" for metric in implied(spec.analysis))]


def picture(value: dict[str, Any]) -> Group:
    """The same for people."""
    arms, tier = value["arms"], value["tier"]
    steps = table(
        ("#", "weight", "hold at least", "requests at least", "about", "inconclusive after", "then"),
        [
            (
                str(step["number"]),
                f"{step['weight']:g} %",
                format_seconds(step["hold"]),
                str(step["min_requests"]),
                "-" if step["seconds"] is None else format_seconds(round(step["seconds"])),
                format_seconds(step["limit"]),
                "waits for approval" if step["approval"] else "goes on",
            )
            for step in value["steps"]
        ],
    )
    parts: list[RenderableType] = [
        Text.assemble((value["workflow_id"], "bold"), f"  {value['target']}: {arms['stable']} → {arms['canary']}"),
        Padding(steps, (0, 0, 0, 2)),
        Text(f"  at least {format_seconds(value['shortest'])}; judged by {', '.join(value['judged_by'])}"),
    ]
    if value["rate"] is not None:
        whole = format_seconds(round(sum(step["seconds"] for step in value["steps"])))
        alike = f"if {arms['canary']} is like {arms['stable']}"
        parts.append(Text(f"  at today's {value['rate']:.3g} requests/s: {whole} in nine rollouts of ten, {alike}"))
    parts += [Text(f"  warning: {warning}", "yellow") for warning in value["warnings"]]
    parts += [Text(f"  {note}") for note in value["routes"]]
    parts += outlook(tier, value["holders"], value["problems"])
    parts += written("the first step", value["diff"], planned=tier is not None)
    return Group(*parts)
