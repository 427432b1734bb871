"""Activities for runs of a schedule: read Temporal and the mesh, start operations, archive records."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import (
    Client,
    ScheduleDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from activities.contracts.schedule import (
    Answer,
    AskRequest,
    EndRunRequest,
    PauseRequest,
    ScheduleSignatures,
    Started,
    StartRequest,
)
from activities.schedules import temporal_schedules
from autopilot.kinds import CHAOS, kind_of, of_operation
from autopilot.mesh.errors import InvalidChange, MeshError
from autopilot.mesh.leases.admission import EXCLUDES
from autopilot.mesh.model import Target
from autopilot.mesh_registry.meshes import Meshes
from autopilot.operations.task_queues import operation_queue
from autopilot.reports.schedule import (
    Counted,
    Missed,
    Running,
    RunRecord,
    Scheduled,
    ScheduledInput,
    Situation,
    hand_id,
)
from autopilot.reports.schedule_rules import decide, missed
from autopilot.spec.chaos.schedule import Freeze

_SCHEDULE, _TOKEN = "autopilot.schedule", "autopilot.token"
"""In the memo of what a schedule started: which one, and which of its runs."""
_KIND = SearchAttributeKey.for_keyword("AutopilotKind")
_TARGET = SearchAttributeKey.for_keyword("AutopilotTarget")
_MESH = SearchAttributeKey.for_keyword("AutopilotMesh")
_BEAT = 2.0
"""Seconds between heartbeats of a wait."""
_LOOKED_AT = 65536
"""Bytes of an archive's end in which a record that was written just now would lie."""
_ANSWER = timedelta(seconds=10)


class ScheduleActivities(ScheduleSignatures):
    """Schedules over one Temporal and the meshes of this process.

    Args:
        client: of the Temporal that this worker works for.
        meshes: asked what stands against a start; one that is not driven here says nothing.
        folder: of reports; records lie in `schedules` in it.
        clock: seconds since the epoch.
    """

    def __init__(self, client: Client, meshes: Meshes, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._meshes = meshes
        self._folder = folder / "schedules"
        self._clock = clock

    @activity.defn(name="schedule.ask")
    async def ask(self, request: AskRequest) -> Answer:
        """Gathers the facts, and decides."""
        wanted, now = request.wanted, self._clock()
        description = await self._description(wanted.id)
        counted = _counted(description)
        running, (refused, frozen) = await asyncio.gather(self._running(wanted), self._mesh_says(wanted.scheduled))
        decision = decide(
            wanted.schedule,
            Situation(
                schedule=wanted.id,
                scheduled=request.scheduled,
                now=now,
                hand=wanted.hand,
                running=running,
                waiting=await self._waiting(request, description) if running else "",
                told=request.after if request.waited_since is None else None,
                waited=None if request.waited_since is None else now - request.waited_since,
                refused=_stopped(request, description) or refused,
                frozen=frozen,
            ),
        )
        gone, more = self._missed(request, now, counted)
        return Answer(
            decision=decision, now=now, running=running, missed=gone, more_missed=more, counted=counted or Counted()
        )

    def _missed(self, request: AskRequest, now: float, counted: Counted | None) -> tuple[tuple[Missed, ...], bool]:
        if request.wanted.hand is not None:
            return (), False  # a run outside the cron; the next cron run reports what was missed
        begun = request.wanted.since if request.after is None else max(request.wanted.since, request.after)
        known = None if request.counted is None or counted is None else (request.counted, counted)
        return missed(
            request.wanted.schedule,
            after=begun,
            until=request.scheduled if request.waited_since is None else now,
            own=request.scheduled,
            pauses=request.wanted.pauses,
            waited=request.waited_for,
            counted=known,
        )

    async def _description(self, schedule: str) -> ScheduleDescription | None:
        """What Temporal keeps; None where the schedule was deleted meanwhile."""
        try:
            return await self._client.get_schedule_handle(schedule).describe(rpc_timeout=_ANSWER)
        except RPCError as error:
            if temporal_schedules.is_gone(error):
                return None
            raise

    async def _running(self, wanted: ScheduledInput) -> Running | None:
        handle = self._client.get_workflow_handle(wanted.scheduled.workflow_id)
        try:
            found = await handle.describe(rpc_timeout=_ANSWER)
        except RPCError as error:
            if temporal_schedules.is_gone(error):
                return None
            raise
        if found.status is not WorkflowExecutionStatus.RUNNING:
            return None
        return Running(
            workflow_id=found.id,
            run_id=found.run_id,
            schedule=await found.memo_value(_SCHEDULE, ""),
            since=found.start_time.timestamp(),
        )

    async def _waiting(self, request: AskRequest, description: ScheduleDescription | None) -> str:
        """Another run of this schedule that is under way while an operation is: it waits for its end."""
        begun = () if description is None else description.info.running_actions
        others = [action.workflow_id for action in begun]  # type: ignore[attr-defined]
        by_hand = self._client.get_workflow_handle(hand_id(request.wanted.id))
        try:
            if (await by_hand.describe(rpc_timeout=_ANSWER)).status is WorkflowExecutionStatus.RUNNING:
                others.append(by_hand.id)
        except RPCError as error:
            if not temporal_schedules.is_gone(error):
                raise
        return next((other for other in others if other != request.run), "")

    async def _mesh_says(self, wanted: Scheduled) -> tuple[str, tuple[Freeze, ...]]:
        """Why nothing may start there, and the administrator's calendar; the operation checks again when it begins."""
        attached = self._meshes.attached.get(wanted.mesh)
        if attached is None:
            return "", ()
        target = Target(mesh=wanted.mesh, namespace=wanted.namespace, service=wanted.service)
        mesh = attached.mesh
        try:
            refused = await mesh.refused(target, wanted.workflow_id)
            held = [] if wanted.queue else await mesh.leases()
        except MeshError as error:
            return f"the mesh does not answer: {error}", mesh.ceilings.freeze
        experiment = kind_of(wanted.workflow_id) == CHAOS.name
        for status in held:
            lease = status.lease
            if lease.target != target or lease.holder.operation == wanted.workflow_id:
                continue
            # An experiment may run beside what excludes no faults; what others lay is not known before they start.
            beside = experiment and "faults" not in lease.aspects
            if beside and not any("faults" in EXCLUDES[each] for each in lease.aspects):
                continue
            refused = refused or f"{target} is held by {lease.holder.operation}"
        return refused, mesh.ceilings.freeze

    @activity.defn(name="schedule.start")
    async def start(self, request: StartRequest) -> Started:
        """Starts the operation; on a retry, finds the run that it started before."""
        wanted = _wanted(request)
        kind = of_operation(wanted.workflow_id)
        if kind is None:
            raise InvalidChange(
                f"{wanted.workflow_id} is of no kind that is installed here; install its package where workers run"
            )
        if run := await self._started_before(wanted, request.token):
            return Started(run_id=run)
        target = f"{wanted.namespace}/{wanted.service}"
        attributes = ((_KIND, kind.document), (_TARGET, target), (_MESH, wanted.mesh))
        try:
            handle = await self._client.start_workflow(
                kind.load("workflow").run,
                wanted.input,
                id=wanted.workflow_id,
                task_queue=operation_queue(wanted.mesh),
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo={_SCHEDULE: str(wanted.input.get("schedule", "")), _TOKEN: request.token},
                search_attributes=TypedSearchAttributes([SearchAttributePair(*pair) for pair in attributes]),
                static_summary=wanted.summary,
                rpc_timeout=_ANSWER,
            )
        except WorkflowAlreadyStartedError as error:
            run = await self._started_before(wanted, request.token)
            return Started(run_id=run) if run else Started(held=error.workflow_id)
        return Started(run_id=handle.result_run_id or "")

    async def _started_before(self, wanted: Scheduled, token: str) -> str:
        try:
            found = await self._client.get_workflow_handle(wanted.workflow_id).describe(rpc_timeout=_ANSWER)
        except RPCError as error:
            if temporal_schedules.is_gone(error):
                return ""
            raise
        return found.run_id if await found.memo_value(_TOKEN, "") == token else ""

    @activity.defn(name="schedule.wait")
    async def wait(self, request: EndRunRequest) -> bool:
        """Aborts the run where the schedule says so, then waits for its end."""
        run = self._client.get_workflow_handle(request.running.workflow_id, run_id=request.running.run_id)
        ended = asyncio.create_task(_end_of(run))
        begun = activity.info().scheduled_time.timestamp()  # a wait that goes on elsewhere becomes no longer
        try:
            if request.abort is not None:
                await run.signal("abort", request.abort, rpc_timeout=_ANSWER)
            while not ended.done():
                left = request.limit - (time.time() - begun)
                if left <= 0:
                    return False
                activity.heartbeat()
                await asyncio.wait({ended}, timeout=min(_BEAT, left))
            ended.result()
        except RPCError as error:
            if not temporal_schedules.is_gone(error):
                raise
        finally:
            ended.cancel()
        return True

    @activity.defn(name="schedule.archive")
    async def archive(self, record: RunRecord) -> str:
        """Appends the record to its schedule's file, once."""
        name = f"{re.sub(r'[^A-Za-z0-9.-]+', '_', record.schedule)}.jsonl"
        key = activity.info().workflow_run_id or ""
        line = record.model_dump_json()[:-1] + f',"key":"{key}"}}\n'
        await asyncio.to_thread(self._append, name, key, line)
        return name

    def _append(self, name: str, key: str, line: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / name).open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOOKED_AT))
            tail = file.read()
            if f'"key":"{key}"'.encode() in tail:
                return  # its answer was lost
            torn = b"" if not tail or tail.endswith(b"\n") else b"\n"
            file.write(torn + line.encode())

    @activity.defn(name="schedule.pause")
    async def pause_after(self, request: PauseRequest) -> str:
        """Pauses it with its note."""
        try:
            paused = await temporal_schedules.pause(self._client, request.schedule, request.note, self._clock())
        except RPCError as error:
            if temporal_schedules.is_gone(error):
                return "the schedule no longer exists"
            raise
        return "paused" if paused else "the schedule was paused already"


def _wanted(request: StartRequest) -> Scheduled:
    given = request.operation or request.experiment
    if given is None:
        raise InvalidChange("the request names neither an experiment nor an operation")
    return given if isinstance(given, Scheduled) else Scheduled.of(given)


def _stopped(request: AskRequest, description: ScheduleDescription | None) -> str:
    """What happened to the schedule while its run waited: only Temporal knows it, the run does not."""
    if request.waited_since is None or request.wanted.hand is not None:
        return ""
    if description is None:
        return "the schedule was deleted while this run waited"
    state = description.schedule.state
    return f"the schedule was paused while this run waited: {state.note or 'no reason given'}" if state.paused else ""


def _counted(description: ScheduleDescription | None) -> Counted | None:
    if description is None:
        return None
    info = description.info
    return Counted(late=info.num_actions_missed_catchup_window, dropped=info.num_actions_skipped_overlap)


async def _end_of(run: WorkflowHandle[Any, Any]) -> None:
    """Returns when it has closed, however."""
    try:
        await run.result(follow_runs=False)
    except WorkflowFailureError:
        return
