"""Whether a mesh can do what an experiment asks for."""

from __future__ import annotations

from datetime import UTC, datetime

from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.mesh.leases.timing import too_short
from autopilot.mesh.model import Change, InjectFault, Target
from autopilot.mesh.port import Mesh
from autopilot.reports.experiment import CHAOS_HEARTBEAT, CHAOS_TTL, experiment_id
from autopilot.spec.chaos.experiment import ExperimentSpec, MeshExperiment
from autopilot.spec.chaos.limit_checks import beyond
from starter.client.preflight import held, other_mesh


async def check(mesh: Mesh, experiment: MeshExperiment, *, queue: bool = False) -> list[str]:
    """What stands in the way of an experiment, one sentence each; whoever has a schedule may find its target held."""
    spec = experiment.spec
    if other := other_mesh(mesh, spec.target.mesh):
        return [other]
    namespace = experiment.metadata.namespace
    target = Target(mesh=mesh.name, namespace=namespace, service=spec.target.service)
    try:
        state = await mesh.observe(target)
    except InvalidChange as error:
        return [f"spec.target.service: {error}"]
    weights = {arm.name: arm.weight for arm in state.arms}
    problems = beyond(spec, mesh.ceilings, namespace, datetime.now(UTC).date(), weights)
    for number in range(1, len(spec.method) + 1):
        changes = faults_of(spec, number)
        if not changes:
            continue
        try:
            await mesh.plan(target, changes)
        except InvalidChange as error:
            problems.append(f"step {number}: {error}")
    problems += (await check_actions(mesh, target, spec))[0]
    if short := too_short(CHAOS_TTL, mesh.max_unattended, CHAOS_HEARTBEAT):
        problems.append(short)
    if queue or spec.schedule is not None:
        return problems
    own = experiment_id(mesh.name, namespace, experiment.metadata.name)
    if refused := await mesh.refused(target, own):
        problems.append(refused)
    return [*problems, *held(target, state.holders, own)]


async def check_actions(mesh: Mesh, target: Target, spec: ExperimentSpec) -> tuple[list[str], list[str]]:
    """What stands against actions on workloads and nodes, and what could not be found out: one sentence each.

    The second stops nothing: workers may have permissions that this user does not have, and check again before they
    change anything.
    """
    problems, unknown = [], []
    for number, step in enumerate(spec.method, start=1):
        for action in step.actions:
            try:
                await mesh.check_action(target, action)
            except InvalidChange as error:
                problems.append(f"step {number}: {error}")
            except MeshError as error:
                unknown.append(
                    f"step {number}: whether {action.type} is possible was not checked; the worker checks it before it "
                    f"changes anything: {error}"
                )
    return problems, unknown


def faults_of(spec: ExperimentSpec, step: int) -> list[Change]:
    """What one step of a method lays, from 1."""
    return [InjectFault(fault=fault, scope=scope) for number, fault, scope in spec.injections if number == step]
