"""The events: each a few lines that kill, break or command something while every rollout stands at its point."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest

from tests.faults.cell import Cell
from tests.faults.clocks import HOUR
from tests.faults.events import EVENTS, LONG, SHORT, event
from tests.faults.judge import LATE
from tests.faults.late import LATE_ATTEMPTS
from tests.faults.scene import Scene
from tests.faults.switches import DISK_FULL, REFUSING, TELEMETRY_DOWN

_OUTAGE = 3.0
"""Seconds that something is down which comes back: longer than the short TTL."""
_DEAD = SHORT + 2.5
"""Seconds that everything stays dead: past what the nets are given."""
_WORKER_DIED = 26.0
"""Seconds until Temporal gives up on what a killed worker had begun, and something to spare."""


@event("nothing", "none", ttl=LONG, bound=LONG + 2)
async def nothing(scene: Scene) -> None:
    """Standing at a point must itself change nothing."""
    scene.struck_now()
    scene.go_all()


# Commands


@event("abort by signal", "clean-up", ttl=LONG, bound=1.0, lives=False, ends=True, patience=30)
async def aborted(scene: Scene) -> None:
    await scene.each(lambda cell: scene.say(cell, "abort"))


@event("cancel", "clean-up", ttl=LONG, bound=1.0, lives=False, ends=True, patience=30)
async def cancelled(scene: Scene) -> None:
    await scene.each(lambda cell: scene.tolerant(scene.handle(cell).cancel()))


@event("terminate", "guard child", ttl=LONG, bound=2.0, lives=False, ends=True, patience=30)
async def terminated(scene: Scene) -> None:
    await scene.each(_terminate(scene))


@event("terminate, a late write", "guard child", ttl=LONG, bound=2.0, lives=False, ends=True, patience=30)
async def terminated_with_a_zombie(scene: Scene) -> None:
    """What the rollout had begun goes on a second later, when its guard has restored."""
    await scene.each(_terminate(scene), later=1.0)


@event("terminate, worker dead and restarted", "guard child", ttl=LONG, bound=2.0, lives=False, ends=True, patience=35)
async def terminated_without_a_worker(scene: Scene) -> None:
    await scene.world.worker.kill()
    for cell in scene.cells:
        await _terminate(scene)(cell)
    scene.go_all()
    await scene.world.worker.start()
    scene.struck_now()  # the net is there with the worker; how long Python takes to start is the machine's affair


@event("reset to the first task", "none", bound=SHORT + 2, reruns=True)
async def reset(scene: Scene) -> None:
    await scene.each(lambda cell: scene.tolerant(_reset(scene, cell)))


# Late attempts


@event("attempts wake up after their successors", "none", ttl=LONG, bound=LONG + 2)
async def late_attempts(scene: Scene) -> None:
    """Whatever was written is tried again after each activity that follows, until the operation's end."""
    scene.world.control.switch(LATE_ATTEMPTS, on=True)
    scene.struck_now()
    scene.go_all()


@event("aborted, attempts wake up late", "clean-up", ttl=LONG, bound=1.0, lives=False, ends=True, patience=30)
async def aborted_with_late_attempts(scene: Scene) -> None:
    scene.world.control.switch(LATE_ATTEMPTS, on=True)
    await scene.each(lambda cell: scene.say(cell, "abort"))


@event("reset, the earlier run's attempts wake up late", "none", bound=SHORT + 2, reruns=True)
async def reset_with_late_attempts(scene: Scene) -> None:
    scene.world.control.switch(LATE_ATTEMPTS, on=True)
    await scene.each(lambda cell: scene.tolerant(_reset(scene, cell)))


def _terminate(scene: Scene) -> Callable[[Cell], Awaitable[None]]:
    return lambda cell: scene.tolerant(scene.handle(cell).terminate("the crash suite"))


async def _reset(scene: Scene, cell: Cell) -> None:
    client = scene.world.client
    description = await scene.handle(cell).describe()
    history = await client.get_workflow_handle(cell.operation, run_id=description.run_id).fetch_history()
    completed = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    first = next((item.event_id for item in history.events if item.event_type == completed), None)
    if first is None:
        return  # not one task is done: there is nothing to go back to
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=cell.operation, run_id=description.run_id),
            workflow_task_finish_event_id=first,
            request_id=f"reset-{cell.operation}",
            reason="the crash suite",
        )
    )


# Deaths


@event("worker SIGKILL, restarted", "lease", patience=_WORKER_DIED)
async def worker_killed(scene: Scene) -> None:
    scene.struck_now()
    await scene.world.worker.kill()
    scene.go_all()
    await scene.world.worker.start()


@event("Temporal SIGKILL, restarted", "lease", patience=_WORKER_DIED)
async def temporal_killed(scene: Scene) -> None:
    scene.struck_now()
    await scene.world.temporal.kill()
    scene.go_all()
    await asyncio.sleep(_OUTAGE)
    await scene.world.temporal.start()


@event("guard SIGKILL, restarted", "none")
async def guard_killed(scene: Scene) -> None:
    scene.struck_now()
    await scene.world.guard.kill()
    scene.go_all()
    await asyncio.sleep(_OUTAGE)
    await scene.world.guard.start()


@event("worker and Temporal dead", "guard", patience=_WORKER_DIED)
async def only_the_guard_lives(scene: Scene) -> None:
    world = scene.world
    await scene.sampler.look()
    scene.struck_now()
    await asyncio.gather(world.worker.kill(), world.temporal.kill())
    scene.go_all()
    await asyncio.sleep(_DEAD)
    await scene.sampler.look()
    for cell in scene.cells:
        cell.gone = scene.sampler.gone.get(str(cell.target))
        late = time.time() if scene.sampler.leases_of(cell.target) else cell.gone or 0.0
        if late > cell.struck + SHORT + 2:
            cell.violations.append(f"its lease went {LATE}: it was there {late - cell.struck:.1f} s after the event")
    await world.temporal.start()
    await world.worker.start()


@event("worker, Temporal and guard dead", "envoy", bound=1.0, patience=_WORKER_DIED)
async def only_envoy_lives(scene: Scene) -> None:
    world = scene.world
    await asyncio.gather(world.worker.kill(), world.temporal.kill(), world.guard.kill())
    await scene.sampler.look()
    scene.struck_now()
    scene.go_all()
    await asyncio.sleep(_DEAD)
    await asyncio.gather(world.temporal.start(), world.guard.start())
    await world.worker.start()


# Failures


@event("mesh refuses", "lease")
async def refused(scene: Scene) -> None:
    await _switched(scene, REFUSING, _OUTAGE)


@event("mesh hangs", "lease")
async def hanging(scene: Scene) -> None:
    """Another process holds the lock that every writer needs."""
    with contextlib.ExitStack() as locks:
        for plane in scene.world.planes.values():
            await asyncio.to_thread(locks.enter_context, plane.mesh.store.locked())
        scene.struck_now()
        scene.go_all()
        await asyncio.sleep(_OUTAGE)


@event("disk full", "lease")
async def disk_full(scene: Scene) -> None:
    disk = scene.world.disk
    if not disk.mounted:
        await _switched(scene, DISK_FULL, _OUTAGE)
        return
    disk.fill()
    scene.struck_now()
    scene.go_all()
    await asyncio.sleep(_OUTAGE)
    disk.empty()


@event("telemetry down", "lease")
async def telemetry_down(scene: Scene) -> None:
    await _switched(scene, TELEMETRY_DOWN, 2 * _OUTAGE)


async def _switched(scene: Scene, name: str, seconds: float) -> None:
    scene.world.control.switch(name, on=True)
    scene.struck_now()
    scene.go_all()
    await asyncio.sleep(seconds)
    scene.world.control.switch(name, on=False)


# Clocks


def _clock(part: str, hours: int) -> None:
    """One event: the clock of one part jumps, and stays there until all is at rest."""

    @event(f"{part}'s clock {hours:+d} h", "lease", patience=12, moves_clocks=True)
    async def moved(scene: Scene) -> None:
        clocks = scene.world.clocks
        assert clocks is not None, "this world has no clocks to move"
        clocks.move(part, hours * HOUR)
        scene.struck_now()
        scene.go_all()


for _part in ("worker", "guard", "envoy"):
    for _hours in (1, -1):
        _clock(_part, _hours)

__all__ = ["EVENTS"]
