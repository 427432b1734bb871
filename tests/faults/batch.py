"""From points and an event to judged cells: sets the scene, strikes, waits until all is at rest, and looks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence

from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from autopilot.operations.common import Outcome
from autopilot.reports.canary import CanaryReport
from autopilot.reports.experiment import ExperimentReport
from tests.faults.cell import Cell
from tests.faults.events.event import Event
from tests.faults.judge import LATE, Seen, Terms, restored_after, violations
from tests.faults.kept_reports import check_reports
from tests.faults.waiting import WaitedInVain, until
from tests.faults.walks import Point
from tests.faults.world.dataplane import Routes
from tests.faults.world.sampler import Sampler
from tests.faults.world.scene import Scene
from tests.faults.world.world import World

_NUMBERS = itertools.count(1)
_REST = 45.0
"""Seconds until every rollout has ended and every guard has seen to its lease."""
_TAIL = 30
"""Requests that must all be answered by one version in the end."""
_STILL = 1.0
"""Seconds of rest that are believed: a worker hears within some milliseconds that what it held may go on."""
_READS = 5.0
"""Seconds that a proxy has to read its files."""
_RUNNING = "ExecutionStatus = 'Running'"


async def run(world: World, event: Event, points: Sequence[Point]) -> list[Cell]:
    """One batch: every point on a service of its own, all struck by one event.

    Returns:
        The cells, judged; one that never stood at its point is not `covered`.
    """
    assert len(points) <= len(world.targets), "more points than services"
    number = next(_NUMBERS)
    cells = []
    for index, (point, target) in enumerate(zip(points, world.targets, strict=False)):
        operation = point.walk.operation(target, f"b{number}-{index}")
        cells.append(Cell(point, event.name, event.net, target, operation))
    sampler = Sampler(list(world.planes.values()))
    scene = Scene(world, cells, sampler)
    async with sampler.looking(), scene.driven():
        begun = time.time()
        await scene.assemble(ttl=event.ttl, heartbeat=event.heartbeat_timeout, grace=event.grace)
        await event.strike(scene)
        scene.go_all()
        ended = await rest(scene, event.patience)
        await sampler.look()
        await _judge(scene, event, ended)
        stall = world.control.worst_stall(begun)
        for cell in cells:
            cell.stall = stall
        await clear(scene)
    return cells


async def rest(scene: Scene, patience: float) -> bool:
    """Waits until no rollout is under way and no lease is left; whatever takes long is aborted."""
    with contextlib.suppress(WaitedInVain):
        await until(_still(scene), "rollouts to end", limit=patience, every=0.25)
        return True
    for cell in scene.cells:
        await scene.say(cell, "abort")
    with contextlib.suppress(WaitedInVain):
        await until(_still(scene), "rollouts to end", limit=_REST, every=0.25)
        return True
    return False


def _still(scene: Scene) -> Callable[[], Awaitable[bool]]:
    """Whether all has been at rest for a moment: what was held until now may be about to take a lease.

    So it is with an acquisition that goes on when its operation has been terminated: nobody had a lease until then, and
    the guard process alone ends the one that it takes.
    """
    since: float | None = None

    async def still() -> bool:
        nonlocal since
        if not await at_rest(scene):
            since = None
            return False
        since = since or time.monotonic()
        return time.monotonic() - since >= _STILL

    return still


async def at_rest(scene: Scene) -> bool:
    if scene.sampler.held:
        return False
    try:
        running = await scene.world.client.count_workflows(f"{_RUNNING} AND WorkflowType IN ('Canary', 'Chaos')")
    except RPCError:
        return False
    return running.count == 0


async def _judge(scene: Scene, event: Event, ended: bool) -> None:
    world, sampler = scene.world, scene.sampler
    # Who restores a moment before the end is at rest only when proxies have read it: how long version 2 answered
    # meanwhile is judged by its own time, and a proxy that never has its base is found below.
    with contextlib.suppress(WaitedInVain):
        await world.based(limit=_READS)
    now = time.time()
    with contextlib.suppress(WaitedInVain):
        await until(
            lambda: all(len(world.answers.of(str(cell.target), now)) >= _TAIL for cell in scene.cells),
            "requests at rest",
            limit=_TAIL * world.shape.period + 10,
            every=0.1,
        )
    routes: dict[str, Routes] = {}
    odd: set[str] = set()
    for plane in world.planes.values():
        routes |= await plane.routes()
        odd |= await plane.not_base()
    reported = await asyncio.gather(*(_outcome(scene, cell) for cell in scene.cells))
    for cell, outcome in zip(scene.cells, reported, strict=True):
        name = str(cell.target)
        await check_reports(scene, cell, event)
        if cell.point.of_commit == "after" and cell.reported and not _promoted(cell):
            cell.stood = False  # it came to this point by another way: it had committed nothing when the event came
        found = routes[name]
        if event.net != "guard":  # there it is known already, from the time when nobody else was alive
            cell.gone = sampler.gone.get(name)
        cell.terms = Terms(
            struck=cell.struck,
            bound=bound_of(cell, event),
            ttl=event.ttl,
            lives=event.lives,
            may_end=may_end(cell, event),
            told_to_fail="harm" in cell.point.walk.actions,
        )
        cell.seen = Seen(
            answers=tuple(world.answers.of(name, cell.struck)),
            tail=tuple(world.answers.of(name, now)[:_TAIL]),
            file_weight=world.plane(cell.target).base_weight(cell.target),
            proxy_weight=found.weights[1],
            overlays=found.overlays,
            table_is_base=name not in odd,
            leases=sampler.leases_of(cell.target),
            outcome="" if event.reruns and cell.point.of_commit != "before" else outcome,
            life=tuple(moment for moment in sampler.life[name] if moment >= cell.struck),
            committed=sampler.committed.get(name),
            ended=ended or outcome != "",
        )
        cell.restore_began = scene.restore_began(cell)
        if event.waits is not None and cell.stood and (cell.restore_began or 0.0) > event.waits:
            cell.violations.append(f"its restore began {LATE}, {cell.restore_began:.2f} s after the event")
        cell.landed = world.control.landings(cell.operation)
        wrong = violations(cell.terms, cell.seen) if cell.stood else []
        cell.violations += [f"{sentence} (reports: {'; '.join(cell.reported) or 'none'})" for sentence in wrong]
        cell.violations += [f"a late {name} was not refused" for name in dict.fromkeys(cell.landed)]
        cell.restored = restored_after(cell.terms, cell.seen)


def _promoted(cell: Cell) -> bool:
    return any(said.startswith(Outcome.PROMOTED.value) for said in cell.reported)


def bound_of(cell: Cell, event: Event) -> float:
    """Seconds after the event until when version 2 may answer."""
    if event.net != "envoy":
        return event.bound
    return max(0.0, cell.deadline - cell.struck) + event.bound if cell.deadline else event.bound


def may_end(cell: Cell, event: Event) -> frozenset[str]:
    """Where the rollout may have come to rest: what had not begun to commit, and was ended, is the base."""
    if not cell.point.walk.commits or (event.ends and cell.point.of_commit == "before"):
        return frozenset({"base"})
    if cell.point.of_commit == "after":
        return frozenset({"promoted"})
    return frozenset({"base", "promoted"})


async def _outcome(scene: Scene, cell: Cell) -> str:
    """What the rollout reported; empty where it left no report."""
    kind: type[CanaryReport | ExperimentReport] = CanaryReport if cell.point.walk.kind == "canary" else ExperimentReport
    handle = scene.world.client.get_workflow_handle(cell.operation, result_type=kind)
    try:
        return (await asyncio.wait_for(handle.result(), 2)).outcome.value
    except (WorkflowFailureError, RPCError, TimeoutError):
        return ""


async def clear(scene: Scene) -> None:
    """Leaves the world as the next batch must find it; what was a fault of this batch is in its cells."""
    world = scene.world
    async for execution in world.client.list_workflows(_RUNNING):
        await scene.tolerant(world.client.get_workflow_handle(execution.id).terminate("between batches"))
    await until(lambda: _no_guards(world), "the last guards to end", limit=20, every=0.2)
    for plane in world.planes.values():
        for status in await plane.mesh.leases():
            await plane.mesh.lift(status.lease)
    world.fails(set())
    if world.clocks is not None:
        world.clocks.right()
    world.control.forget()
    await world.restore()
    world.answers.forget()


async def _no_guards(world: World) -> bool:
    return (await world.client.count_workflows(_RUNNING)).count == 0
