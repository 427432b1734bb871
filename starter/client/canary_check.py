"""Whether a mesh can do what a rollout asks for, and whether its Prometheus can."""

from __future__ import annotations

from autopilot.mesh.capabilities import BASELINE
from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.leases.timing import too_short
from autopilot.mesh.model import Target
from autopilot.mesh.port import Mesh
from autopilot.mesh.traffic_split import split
from autopilot.reports.canary import CANARY_TTL, canary_id
from autopilot.spec.canary import MeshCanary
from starter.client import prometheus
from starter.client.environment import heartbeat_timeout
from starter.client.preflight import held, other_mesh


async def check(mesh: Mesh, canary: MeshCanary, *, queue: bool = False) -> list[str]:
    """What stands in the way of a rollout, one sentence each; empty when it may start, or with `queue` may wait."""
    return [*await _routes(mesh, canary, queue=queue), *await prometheus.check(mesh, canary)]


async def _routes(mesh: Mesh, canary: MeshCanary, *, queue: bool) -> list[str]:
    spec = canary.spec
    if other := other_mesh(mesh, spec.target.mesh):
        return [other]
    target = Target(mesh=mesh.name, namespace=canary.metadata.namespace, service=spec.target.service)
    try:
        state = await mesh.observe(target, split(spec, spec.walk[0].weight))
    except InvalidChange as error:
        return [f"spec.target: {error}"]
    problems = []
    if spec.analysis.baseline == "virtual":
        problems += [
            f"spec.analysis.baseline: this mesh does not support it: {one.note}"
            for one in await mesh.capabilities()
            if one.change == BASELINE and not one.supported
        ]
    known = ", ".join(arm.name for arm in state.arms)
    for role, name in (("stable", spec.arms.stable), ("canary", spec.arms.canary)):
        arm = state.arm(name)
        if arm is None:
            problems.append(f"spec.arms.{role}: {target.ref} has no arm {name!r}; it has {known}")
        elif not arm.endpoints:
            problems.append(f"spec.arms.{role}: arm {name!r} of {target.ref} has no endpoints; start it first")
        elif role == "stable" and not arm.base_weight:
            problems.append(
                f"spec.arms.stable: {name!r} serves no traffic of {target.ref} now, "
                f"{', '.join(f'{one.name} {one.base_weight:g} %' for one in state.arms if one.base_weight)} does"
            )
    others = [arm.name for arm in state.arms if arm.base_weight and arm.name != spec.arms.stable]
    if not problems and others:
        problems.append(
            f"{target.ref} sends traffic to {', '.join(others)} as well as to {spec.arms.stable}, and a rollout begins "
            "with one stable version: give it 100 in the mesh file"
        )
    own = canary_id(mesh.name, target.namespace, canary.metadata.name)
    if refused := await mesh.refused(target, own):
        problems.append(refused)
    if short := too_short(CANARY_TTL, mesh.max_unattended, heartbeat_timeout()):
        problems.append(short)
    problems += [] if queue else held(target, state.holders, own)
    return problems
