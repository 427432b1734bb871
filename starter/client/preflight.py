"""Which mesh a command means, and whether it can do what a spec asks for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from autopilot.mesh.capabilities import BASELINE
from autopilot.mesh.errors import InvalidChange, MeshError, MeshUnavailable
from autopilot.mesh.leases.timing import too_short
from autopilot.mesh.model import Change, InjectFault, Receipt, Target
from autopilot.mesh.port import Mesh
from autopilot.mesh.traffic_split import split
from autopilot.reports.canary import CANARY_TTL, canary_id
from autopilot.reports.experiment import CHAOS_HEARTBEAT, CHAOS_TTL, experiment_id
from autopilot.spec.canary import MeshCanary
from autopilot.spec.chaos.experiment import ExperimentSpec, MeshExperiment
from autopilot.spec.chaos.limit_checks import beyond
from starter.client.environment import heartbeat_timeout, local_stack


def mesh_file(path: Path | None = None, state: Path | None = None) -> Path:
    """The mesh file that is meant: the one given, else `$AUTOPILOT_MESH`, else the running embedded stack's.

    Raises:
        MeshError: none is.
    """
    if path is not None:
        return path
    if from_environment := os.environ.get("AUTOPILOT_MESH"):
        return Path(from_environment)
    running = local_stack(state)
    if running is not None:
        return running.mesh_file
    raise MeshError(
        "no mesh is configured: give its file with --mesh or AUTOPILOT_MESH, "
        "or start the embedded one with `autopilot up`"
    )


@contextlib.asynccontextmanager
async def open_meshes(paths: Sequence[Path] | None = None) -> AsyncIterator[list[Mesh]]:
    """Opens the meshes that are meant: those named, else the one that every command means.

    Raises:
        MeshError: none is, or a file describes no mesh.
    """
    async with contextlib.AsyncExitStack() as stack_of:
        files = list(paths) if paths else [mesh_file()]
        yield [await stack_of.enter_async_context(open_mesh(path)) for path in files]


@contextlib.asynccontextmanager
async def open_mesh(path: Path | None = None) -> AsyncIterator[Mesh]:
    """Opens the mesh that is meant.

    Raises:
        MeshError: none is, or its file describes no mesh.
    """
    from autopilot.mesh import providers  # noqa: PLC0415

    mesh = providers.open_mesh(mesh_file(path))
    try:
        yield mesh
    finally:
        await mesh.close()


async def at_the_proxies(mesh: Mesh, receipt: Receipt) -> str:
    """How a restore stands, in words: what was written counts, whether or not a proxy answers."""
    try:
        await mesh.verify(receipt)
    except MeshUnavailable as error:
        return f"restored, as far as files go, but {error}"
    return "restored, the proxies say so"


async def check_experiment(mesh: Mesh, experiment: MeshExperiment, *, queue: bool = False) -> list[str]:
    """What stands in the way of an experiment, one sentence each; whoever has a schedule may find its target held."""
    spec = experiment.spec
    if spec.target.mesh not in (None, mesh.name):
        return [f"spec.target.mesh is {spec.target.mesh!r}, and this mesh is {mesh.name!r}; choose with --mesh"]
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
    problems += [_held(target, holder) for holder in state.holders if holder != own]
    return problems


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


def _held(target: Target, holder: str) -> str:
    return (
        f"{target.ref} is held by {holder}; wait for its end, `--queue` to start after it, "
        f"or end it with `autopilot abort {holder}`"
    )


async def check(mesh: Mesh, canary: MeshCanary, *, queue: bool = False) -> list[str]:
    """What stands in the way of a rollout, one sentence each; empty when it may start, or with `queue` may wait."""
    spec = canary.spec
    if spec.target.mesh not in (None, mesh.name):
        return [f"spec.target.mesh is {spec.target.mesh!r}, and this mesh is {mesh.name!r}; choose with --mesh"]
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
    if queue:
        return problems
    problems += [_held(target, holder) for holder in state.holders if holder != own]
    return problems
