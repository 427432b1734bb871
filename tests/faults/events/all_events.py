"""The events: each a few lines that kill, break or command something while every rollout stands at its point."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus

from tests.faults.cell import Cell
from tests.faults.events import next_release
from tests.faults.events.event import EVENTS, LONG, SHORT, event
from tests.faults.events.late_attempts import LATE_ATTEMPTS
from tests.faults.events.switches import DISK_FULL, REFUSING, SLOTS_TAKEN, TELEMETRY_DOWN
from tests.faults.judge import LATE
from tests.faults.waiting import WaitedInVain, until
from tests.faults.world.clocks import HOUR
from tests.faults.world.scene import BETWEEN, Scene

_OUTAGE = 3.0
"""Seconds that something is down which comes back: longer than the short TTL."""
_DEAD = SHORT + 2.5
"""Seconds that everything stays dead: past what the nets are given."""
_DEAF = 26.0 + LONG
"""Seconds until a watch that looks every fifteen has seen that nobody polls for its workflow, and its lease is gone."""
_STILL_DEAF = 10.0
"""Seconds more: a lease that is kept alive all the same must show."""
_APART = 0.15
"""Seconds between aborts of which the begin of a restore is timed."""
_SLOW_TO_TELL = 12.0
"""Seconds: longer than a worker takes to start, so that it is there before Temporal knows what died."""
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


@event("abort, then cancel", "clean-up", ttl=LONG, bound=1.0, lives=False, ends=True, patience=30)
async def aborted_and_cancelled(scene: Scene) -> None:
    """A cancel that comes when the end is settled: while it restores, or tidies up, or reports."""
    await scene.each(lambda cell: _abort_and_cancel(scene, cell))


@event("abort, every slot taken", "clean-up", ttl=LONG, bound=1.0, lives=False, ends=True, patience=30, waits=0.5)
async def aborted_with_every_slot_taken(scene: Scene) -> None:
    """Short effects wait for others to end: a restore must not."""
    scene.world.control.switch(SLOTS_TAKEN, on=True)
    await scene.each(lambda cell: scene.say(cell, "abort"), between=_APART)
    await asyncio.sleep(_OUTAGE)
    scene.world.control.switch(SLOTS_TAKEN, on=False)


async def _abort_and_cancel(scene: Scene, cell: Cell) -> None:
    await scene.say(cell, "abort")
    await scene.tolerant(scene.handle(cell).cancel())


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


@event("reset to any task, terminated", "guard child", ttl=LONG, bound=2.0, lives=False, patience=30, reruns=True)
async def reset_and_terminated(scene: Scene) -> None:
    """The run that begins by the reset must have a guard of its own."""
    scene.struck_now()
    await asyncio.gather(*(scene.tolerant(_reset(scene, cell, number)) for number, cell in enumerate(scene.cells)))
    scene.go_all()
    await asyncio.gather(*(_guarded(scene, cell) for cell in scene.cells))
    for cell in scene.cells:
        cell.struck = time.time()
        await _terminate(scene)(cell)
        await asyncio.sleep(BETWEEN)


async def _guarded(scene: Scene, cell: Cell) -> None:
    """Waits until the run that began by a reset has started its guard, or has ended: before, there can be none."""

    async def begun() -> bool:
        description = await scene.handle(cell).describe()
        if description.status is not WorkflowExecutionStatus.RUNNING:
            return True
        handle = scene.world.client.get_workflow_handle(cell.operation, run_id=description.run_id)
        kinds = [item.event_type for item in (await handle.fetch_history()).events]
        since = max(
            (at for at, kind in enumerate(kinds) if kind == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED), default=0
        )
        return EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED in kinds[since:]

    with contextlib.suppress(WaitedInVain):
        await until(begun, f"{cell.operation} to have a guard", limit=1.5, every=0.1)


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


async def _reset(scene: Scene, cell: Cell, number: int = 0) -> None:
    """Resets to the end of a workflow task: the first; for odd numbers the last, which is past the guard's start."""
    client = scene.world.client
    description = await scene.handle(cell).describe()
    history = await client.get_workflow_handle(cell.operation, run_id=description.run_id).fetch_history()
    completed = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    tasks = [item.event_id for item in history.events if item.event_type == completed]
    if not tasks:
        return  # not one task is done: there is nothing to go back to
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=cell.operation, run_id=description.run_id),
            workflow_task_finish_event_id=tasks[-1 if number % 2 else (number // 2) % len(tasks)],
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


@event(
    "worker SIGKILL, a person answers meanwhile",
    "lease",
    ttl=LONG,
    bound=LONG + 2,
    patience=_WORKER_DIED + _SLOW_TO_TELL,
    may_fail=False,
    heartbeat=_SLOW_TO_TELL,
)
async def answered_while_the_worker_is_dead(scene: Scene) -> None:
    """Whoever waits for a person is answered while nobody watches: a watch that died must be no reason to fail.

    The workflow stops its watch before Temporal has noticed that nobody carries it out.
    """
    scene.struck_now()
    await scene.world.worker.kill()
    scene.go_all()
    for cell in scene.cells:
        await scene.say(cell, "resume")
    await scene.world.worker.start()


@event("Temporal SIGKILL, restarted", "lease", patience=_WORKER_DIED)
async def temporal_killed(scene: Scene) -> None:
    scene.struck_now()
    await scene.world.temporal.kill()
    scene.go_all()
    await asyncio.sleep(_OUTAGE)
    await scene.world.temporal.start()


@event("Temporal hangs", "lease", patience=_WORKER_DIED)
async def temporal_hangs(scene: Scene) -> None:
    scene.struck_now()
    scene.world.temporal.freeze()
    scene.go_all()
    await asyncio.sleep(_OUTAGE)
    scene.world.temporal.thaw()


@event("Temporal answers errors", "lease", patience=_WORKER_DIED, grace=1.0, may_fail=False, may_lose=False)
async def temporal_answers_errors(scene: Scene) -> None:
    """A server that answers is there: no lease may be given up, though no call succeeds for longer than the grace."""
    await scene.world.door.answer_errors(on=True)
    scene.struck_now()
    scene.go_all()
    await asyncio.sleep(2 * _OUTAGE + SHORT)
    await scene.world.door.answer_errors(on=False)


@event(
    "nobody polls for workflows, aborted",
    "lease",
    ttl=LONG,
    grace=2.0,
    bound=_DEAF,
    lives=False,
    patience=_DEAF + _STILL_DEAF + _WORKER_DIED,
)
async def nobody_polls(scene: Scene) -> None:
    """Long watches go on elsewhere, and hear nothing of an abort: they must not keep the leases alive."""
    world = scene.world
    await world.watcher.start()
    scene.struck_now()
    await world.worker.kill()
    scene.go_all()
    for cell in scene.cells:
        await scene.say(cell, "abort")
    await asyncio.sleep(_DEAF + _STILL_DEAF)
    await world.watcher.kill()
    await world.worker.start()


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


# Records of other versions


@event("beside foreign records, terminate", "guard child", ttl=LONG, bound=2.0, lives=False, ends=True, patience=30)
async def terminated_beside_a_foreign_record(scene: Scene) -> None:
    async with _foreign_records(scene):
        await scene.each(_terminate(scene))
        await asyncio.sleep(_OUTAGE)


@event("beside foreign records, worker and Temporal dead", "guard", patience=_WORKER_DIED)
async def only_the_guard_lives_beside_a_foreign_record(scene: Scene) -> None:
    async with _foreign_records(scene):
        await only_the_guard_lives(scene)


@contextlib.asynccontextmanager
async def _foreign_records(scene: Scene) -> AsyncIterator[None]:
    """Each mesh has records that this version cannot read, of another service; none may be altered."""
    written = [next_release.write(plane.place.file) for plane in scene.world.planes.values()]
    try:
        yield
    finally:
        altered = [name for one in written for name in one.changed()]
        for cell in scene.cells if altered else []:
            cell.violations.append(f"records of another version were altered: {', '.join(altered)}")
        for one in written:
            one.remove()


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
