"""Starting and commanding operations: what the command line does, for any program to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.experiment_signatures import HoldBeat
from activities.signatures import WATCH_QUEUE, WORKFLOW_QUEUE, WatchBeat
from autopilot.findings import ExperimentInput, ExperimentReport
from autopilot.local import stack
from autopilot.operations.canary_status import CanaryStatus, Progress
from autopilot.operations.common import Approval, Command, Promotion, kind_of
from autopilot.operations.experiment_status import ChaosProgress, ExperimentStatus
from autopilot.report import CanaryInput, CanaryReport
from worker import connection
from workflows.canary import CanaryWorkflow
from workflows.chaos import ChaosWorkflow

KIND = SearchAttributeKey.for_keyword("AutopilotKind")
TARGET = SearchAttributeKey.for_keyword("AutopilotTarget")
MESH = SearchAttributeKey.for_keyword("AutopilotMesh")
PHASE = SearchAttributeKey.for_keyword("AutopilotPhase")
OUTCOME = SearchAttributeKey.for_keyword("AutopilotOutcome")

_ANSWER = timedelta(seconds=10)


class OperationError(Exception):
    """An operation could not be started, found or commanded; the message says what to do."""


class OperationRunning(OperationError):
    """An operation of that name runs already; `workflow_id` is the holder."""

    def __init__(self, message: str, workflow_id: str) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id


class OperationUnfinished(OperationError):
    """There is no report yet."""


class OperationClosed(OperationError):
    """It was closed from outside (cancelled, terminated, timed out) and left no report; `status` says how."""

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class OperationRow:
    """One operation in a list."""

    workflow_id: str
    kind: str
    target: str
    mesh: str
    phase: str
    outcome: str
    started: datetime
    closed: datetime | None


async def connect(state: Path | None = None) -> Client:
    """Connects as Temporal's own configuration says; where it says nothing, to the embedded stack if one runs.

    Raises:
        TemporalUnavailable: nothing answered; the message names the address.
    """
    running = stack.describe(state)
    return await connection.connect(running.temporal if running and running.alive else None)


async def start_canary(client: Client, canary: CanaryInput) -> WorkflowHandle[CanaryWorkflow, CanaryReport]:
    """Starts a rollout; returns at once.

    Raises:
        OperationRunning: one of that name is under way.
    """
    target = f"{canary.namespace}/{canary.spec.target.service}"
    arms = canary.spec.arms
    try:
        return await client.start_workflow(
            CanaryWorkflow.run,
            canary,
            id=canary.workflow_id,
            task_queue=WORKFLOW_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            search_attributes=_attributes("MeshCanary", target, canary.mesh),
            static_summary=f"{target}: {arms.stable} → {arms.canary}",
        )
    except WorkflowAlreadyStartedError as error:
        raise _running(canary.workflow_id) from error


async def start_experiment(
    client: Client, experiment: ExperimentInput
) -> WorkflowHandle[ChaosWorkflow, ExperimentReport]:
    """Starts an experiment; returns at once.

    Raises:
        OperationRunning: one of that name is under way.
    """
    target = f"{experiment.namespace}/{experiment.spec.target.service}"
    said = experiment.spec.title or experiment.spec.hypothesis.title
    try:
        return await client.start_workflow(
            ChaosWorkflow.run,
            experiment,
            id=experiment.workflow_id,
            task_queue=WORKFLOW_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            search_attributes=_attributes("MeshExperiment", target, experiment.mesh),
            static_summary=f"{target}: {said}" if said else target,
        )
    except WorkflowAlreadyStartedError as error:
        raise _running(experiment.workflow_id) from error


def _attributes(kind: str, target: str, mesh: str) -> TypedSearchAttributes:
    pairs = ((KIND, kind), (TARGET, target), (MESH, mesh))
    return TypedSearchAttributes([SearchAttributePair(key, value) for key, value in pairs])


def _running(workflow_id: str) -> OperationRunning:
    return OperationRunning(
        f"{workflow_id} is under way already: look at it with `autopilot watch {workflow_id}`, "
        f"or end it with `autopilot abort {workflow_id}`",
        workflow_id,
    )


async def workers(client: Client) -> dict[str, int]:
    """Task queue → how many workers asked it for work lately; none means that nothing will happen."""
    found = {}
    for queue, kind in (
        (WORKFLOW_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
        (WATCH_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
    ):
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
            ),
            timeout=_ANSWER,
        )
        found[queue] = len(answer.pollers)
    return found


async def list_operations(client: Client, *, running_only: bool) -> list[OperationRow]:
    """Operations, the newest first."""
    query = "AutopilotKind IS NOT NULL" + (" AND ExecutionStatus = 'Running'" if running_only else "")
    return [_row(execution) async for execution in client.list_workflows(query)]


async def resolve(client: Client, text: str) -> str:
    """The workflow id that `canary/MESH/NAMESPACE/NAME`, `NAMESPACE/NAME` or `NAME` means.

    Raises:
        OperationError: nothing, or more than one, answers to it.
    """
    if text.count("/") >= 3:
        return text
    rows = await list_operations(client, running_only=False)
    matching = [row for row in rows if row.workflow_id.endswith(f"/{text}")]
    matching = [row for row in matching if row.closed is None] or matching
    ids = list(dict.fromkeys(row.workflow_id for row in matching))
    if len(ids) == 1:
        return ids[0]
    if not ids:
        raise OperationError(f"no operation is called {text!r}; `autopilot list --all` shows those there are")
    raise OperationError(f"{text!r} may mean {', '.join(ids)}; write the whole id")


async def status(client: Client, workflow_id: str) -> CanaryStatus | ExperimentStatus:
    """An operation as it stands, also after its end.

    Raises:
        OperationError: there is none, or no worker could answer.
    """
    handle = client.get_workflow_handle(workflow_id)
    kind: type[CanaryStatus | ExperimentStatus] = ExperimentStatus if _is_chaos(workflow_id) else CanaryStatus
    try:
        found: CanaryStatus | ExperimentStatus = await handle.query("status", result_type=kind, rpc_timeout=_ANSWER)
    except WorkflowQueryFailedError as error:
        raise OperationError(f"{workflow_id} could not say how it is: {error}") from error
    except RPCError as error:
        raise _explained(error, workflow_id) from error
    return found


def _is_chaos(workflow_id: str) -> bool:
    return kind_of(workflow_id) == "chaos"


async def progress(client: Client, workflow_id: str) -> Progress | ChaosProgress | None:
    """The step under way, as its watch last heartbeat it; None while nothing is watched.

    Raises:
        OperationError: there is no such operation.
    """
    try:
        description = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=_ANSWER)
    except RPCError as error:
        raise _explained(error, workflow_id) from error
    for pending in description.raw_description.pending_activities:
        if pending.activity_type.name == "telemetry.watch" and pending.heartbeat_details.payloads:
            (beat,) = await client.data_converter.decode(pending.heartbeat_details.payloads, [WatchBeat])
            return WatchBeat.model_validate(beat).progress
        if pending.activity_type.name == "chaos.hold" and pending.heartbeat_details.payloads:
            (beat,) = await client.data_converter.decode(pending.heartbeat_details.payloads, [HoldBeat])
            return HoldBeat.model_validate(beat).progress
    return None


async def report(client: Client, workflow_id: str) -> CanaryReport | ExperimentReport:
    """The report of a finished operation.

    Raises:
        OperationUnfinished: it is under way.
        OperationClosed: it was closed from outside and left none.
        OperationError: there is no such operation.
    """
    kind: type[CanaryReport | ExperimentReport] = ExperimentReport if _is_chaos(workflow_id) else CanaryReport
    handle = client.get_workflow_handle(workflow_id, result_type=kind)
    try:
        description = await handle.describe(rpc_timeout=_ANSWER)
    except RPCError as error:
        raise _explained(error, workflow_id) from error
    if description.status is WorkflowExecutionStatus.RUNNING:
        raise OperationUnfinished(f"{workflow_id} is under way; its report comes when it ends")
    try:
        found: CanaryReport | ExperimentReport = await handle.result(rpc_timeout=_ANSWER)
    except WorkflowFailureError as error:
        status = description.status.name.lower() if description.status else "closed"
        raise OperationClosed(
            f"{workflow_id} was {status} from outside; its guard restores the mesh (`autopilot leases` shows it)",
            status,
        ) from error
    except RPCError as error:
        raise _explained(error, workflow_id) from error
    return found


async def pause(client: Client, workflow_id: str, command: Command) -> str:
    """Holds the operation where it is."""
    return await _update(client, workflow_id, "pause", command)


async def resume(client: Client, workflow_id: str, command: Command) -> str:
    """Goes on after a pause."""
    return await _update(client, workflow_id, "resume", command)


async def abort(client: Client, workflow_id: str, command: Command) -> str:
    """Restores and ends; returns when the base is back."""
    return await _update(client, workflow_id, "abort", command, limit=timedelta(seconds=60))


async def approve(client: Client, workflow_id: str, approval: Approval) -> str:
    """Lets a rollout pass the gate it waits at."""
    return await _update(client, workflow_id, "approve", approval)


async def promote(client: Client, workflow_id: str, promotion: Promotion) -> str:
    """Goes past this pause, or with `full` past everything that is left."""
    return await _update(client, workflow_id, "promote", promotion)


async def _update(client: Client, workflow_id: str, name: str, command: Command, *, limit: timedelta = _ANSWER) -> str:
    handle = client.get_workflow_handle(workflow_id)
    try:
        answer: str = await handle.execute_update(
            name, command, id=f"{name}-{uuid4()}", result_type=str, rpc_timeout=limit
        )
    except WorkflowUpdateFailedError as error:
        raise OperationError(f"{workflow_id} refused to {name}: {error.cause}") from error
    except RPCError as error:
        raise _explained(error, workflow_id) from error
    return answer


def _explained(error: RPCError, workflow_id: str) -> OperationError:
    if error.status is RPCStatusCode.NOT_FOUND:
        return OperationError(f"no operation {workflow_id} is under way; `autopilot list --all` shows those there are")
    if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
        return OperationError(f"no worker answered for {workflow_id}: is `autopilot worker` running?")
    return OperationError(f"Temporal refused ({error.status.name}): {error.message}")


def _row(execution: WorkflowExecution) -> OperationRow:
    attributes = execution.typed_search_attributes
    closed = execution.status is not WorkflowExecutionStatus.RUNNING
    how = execution.status.name.title() if closed and execution.status else ""
    return OperationRow(
        workflow_id=execution.id,
        kind=attributes.get(KIND) or "",
        target=attributes.get(TARGET) or "",
        mesh=attributes.get(MESH) or "",
        phase="Ended" if closed else attributes.get(PHASE) or "Starting",
        outcome=attributes.get(OUTCOME) or how,
        started=execution.start_time,
        closed=execution.close_time,
    )
