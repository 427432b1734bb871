"""What an experiment would do to this mesh: its faults with who undoes them, how far it may go, and the first diff."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from autopilot.mesh.capabilities import fault_change
from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.model import InjectFault, Target
from autopilot.reports.experiment import experiment_id
from autopilot.reports.schedule_rules import clock_notes
from autopilot.spec.chaos.experiment import Action, Cordon, Drain, PodKill, Scale
from autopilot.spec.chaos.faults import describe
from autopilot.spec.chaos.limit_checks import doubtful, share_allowed
from autopilot.spec.chaos.probes import secrets_of
from autopilot.spec.chaos.scope import describe_scope
from autopilot.spec.secret_ref import described
from autopilot.spec.values.units import format_seconds
from starter.client.experiment_check import check_actions, faults_of
from starter.views.output import table
from starter.views.plan_parts import outlook, written

if TYPE_CHECKING:
    from autopilot.mesh.port import Mesh
    from autopilot.spec.chaos.experiment import MeshExperiment
    from starter.client.manifests import Manifest


async def plan(mesh: Mesh, manifest: Manifest, problems: list[str]) -> dict[str, Any]:
    """The plan of one experiment, for programs; writes nothing."""
    experiment = cast("MeshExperiment", manifest.document)
    spec, namespace = experiment.spec, experiment.metadata.namespace
    target = Target(mesh=mesh.name, namespace=namespace, service=spec.target.service)
    abilities = {ability.change: ability for ability in await mesh.capabilities()}
    _, unknown = await check_actions(mesh, target, spec)
    planned, diff = None, ""
    holders: tuple[str, ...] = ()
    first = next((number for number, step in enumerate(spec.method, start=1) if step.faults), None)
    try:
        holders = (await mesh.observe(target)).holders
        if first is not None:
            planned = await mesh.plan(target, faults_of(spec, first))
            diff = planned.diff
    except InvalidChange as error:
        if not problems:  # otherwise the check has named it
            problems.append(f"{manifest.file}: {manifest.ref}: {error}")
    faults = []
    for number, step in enumerate(spec.method, start=1):
        for change in faults_of(spec, number):
            if not isinstance(change, InjectFault):
                continue
            ability = abilities.get(fault_change(change.fault.type))
            faults.append(
                {
                    "step": number,
                    "hold": step.hold,
                    "fault": describe(change.fault),
                    "scope": describe_scope(change.scope) if change.scope else "everything",
                    "tier": ability.tier if ability else None,
                    "exactness": ability.note if ability else "",
                }
            )
        faults += [
            {
                "step": number,
                "hold": step.hold,
                "fault": action.type,
                "scope": _acts_on(action, target.ref),
                "tier": None,
                "exactness": _lost(action),
            }
            for action in step.actions
        ]
    return {
        "workflow_id": experiment_id(mesh.name, namespace, experiment.metadata.name),
        "file": manifest.file,
        "target": str(target),
        "title": spec.title or spec.hypothesis.title,
        "faults": faults,
        "probes": [f"{probe.name} ({probe.type}, {probe.mode})" for probe in spec.hypothesis.probes],
        "abort": [f"{probe.name} ({probe.type})" for probe in spec.abort],
        "needs_consent": list(spec.needs_consent),
        "secrets": [
            f"{described(text.secret_ref, namespace)} (header {name} of probe {probe.name})"
            for probe in spec.probes
            for name, text in secrets_of(probe).items()
        ],
        "limits": {
            "maxTraffic": share_allowed(spec),
            "maxFailures": spec.safety.max_failures,
            "maxConcurrent": spec.safety.max_concurrent,
        },
        "schedule": spec.schedule.model_dump(mode="json", by_alias=True) if spec.schedule else None,
        "clocks": clock_notes(spec.schedule, datetime.now(UTC)) if spec.schedule else [],
        "tier": planned.tier if planned else None,
        "holders": holders,
        "diff": diff,
        "doubts": [*doubtful(spec), *unknown],
        "problems": problems,
    }


def _acts_on(action: Action, target: str) -> str:
    """The pods, workload or node that an action changes."""
    match action:
        case PodKill():
            return f"{action.count} of the pods of {target}{f' {action.arm}' if action.arm else ''}"
        case Scale():
            return f"{action.workload} to {action.replicas} replicas"
        case Cordon() | Drain():
            return f"node {action.node}"


def _lost(action: Action) -> str:
    """What an action gives up for good."""
    words = ["reversible: false"]
    if isinstance(action, PodKill | Drain) and action.force:
        words.append("force: also pods without a controller, for good")
    if isinstance(action, Drain) and action.delete_empty_dir_data:
        words.append("deleteEmptyDirData: also data in emptyDir volumes")
    return "; ".join(words)


def picture(value: dict[str, Any]) -> Group:
    """The same for people."""
    faults = table(
        ("step", "for", "fault", "scope", "tier", "exactness"),
        [
            (
                str(fault["step"]),
                format_seconds(fault["hold"]),
                fault["fault"],
                fault["scope"] or "-",
                str(fault["tier"] or "-"),
                fault["exactness"] or "-",
            )
            for fault in value["faults"]
        ],
    )
    limits = value["limits"]
    parts: list[RenderableType] = [
        Text.assemble(
            (value["workflow_id"], "bold"), f"  {value['target']}", f": {value['title']}" if value["title"] else ""
        ),
        Padding(faults, (0, 0, 0, 2)),
        Text(f"  hypothesis: {', '.join(value['probes'])}"),
        Text(
            f"  ends if faults apply to more than {limits['maxTraffic']:g} % of the requests, after "
            f"{limits['maxFailures']} additional failures"
            + (f", or when {', '.join(value['abort'])} fails" if value["abort"] else "")
        ),
    ]
    if value["needs_consent"]:
        kinds = ",".join(value["needs_consent"])
        parts.append(Text(f"  needs a worker started with AUTOPILOT_ALLOW_PROBES={kinds}", "yellow"))
    if value["secrets"]:
        parts.append(Text(f"  the worker reads and sends: {', '.join(value['secrets'])}"))
    parts += [Text(f"  {doubt}", "yellow") for doubt in value["doubts"]]
    if value["schedule"]:
        parts.append(Text(f"  runs on schedule: {value['schedule']['cron']} ({value['schedule']['timeZone']})"))
        parts += [Text(f"  {line}", "yellow") for line in value["clocks"]]
    parts += outlook(value["tier"], value["holders"], value["problems"])
    parts += written("the first step with faults", value["diff"], planned=value["tier"] is not None)
    return Group(*parts)
