"""Finding, reading and commanding operations: what the command line does, for any program to do.

It must answer at once in an emergency: report and status models are imported by kind, and workflow classes are not
imported at all. `starter.client.start` has what starts operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode

from autopilot.kinds import Kind, of_operation
from autopilot.local.address import temporal_address
from autopilot.local.layout import Layout
from worker import temporal_client

if TYPE_CHECKING:
    from autopilot.operations.common import Approval, Command, ProgressLike, Promotion, ReportLike, StatusLike

KIND = SearchAttributeKey.for_keyword("AutopilotKind")
TARGET = SearchAttributeKey.for_keyword("AutopilotTarget")
MESH = SearchAttributeKey.for_keyword("AutopilotMesh")
PHASE = SearchAttributeKey.for_keyword("AutopilotPhase")
OUTCOME = SearchAttributeKey.for_keyword("AutopilotOutcome")

_ANSWER = timedelta(seconds=10)


class OperationError(Exception):
    """An operation could not be started, found or commanded; the message says what to do."""


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
    return await temporal_client.connect(temporal_address(Layout.find(state).record))


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
        raise OperationError(f"no operation is called {text!r}; list operations with `autopilot list --all`")
    raise OperationError(f"{text!r} is ambiguous: {', '.join(ids)}; give the full id")


async def status(client: Client, workflow_id: str) -> StatusLike:
    """An operation as it stands, also after its end.

    Raises:
        OperationError: there is none, or no worker could answer.
    """
    handle = client.get_workflow_handle(workflow_id)
    try:
        found: StatusLike = await handle.query(
            "status", result_type=_kind(workflow_id).load("status"), rpc_timeout=_ANSWER
        )
    except WorkflowQueryFailedError as error:
        raise OperationError(f"{workflow_id} did not answer the status query: {error}") from error
    except RPCError as error:
        raise _explained(error, workflow_id) from error
    return found


def _kind(workflow_id: str) -> Kind:
    kind = of_operation(workflow_id)
    if kind is None:
        raise OperationError(f"{workflow_id} is of no kind that is installed here; see `autopilot list`")
    return kind


async def progress(client: Client, workflow_id: str) -> ProgressLike | None:
    """The step under way, as its watch last heartbeat it; None while nothing is watched.

    Raises:
        OperationError: there is no such operation.
    """
    try:
        description = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=_ANSWER)
    except RPCError as error:
        raise _explained(error, workflow_id) from error
    kind = _kind(workflow_id)
    for pending in description.raw_description.pending_activities:
        model = kind.progress_model(pending.activity_type.name)
        if model is not None and pending.heartbeat_details.payloads:
            (beat,) = await client.data_converter.decode(pending.heartbeat_details.payloads, [dict])
            found: ProgressLike = model.model_validate(beat["progress"])
            return found
    return None


async def report(client: Client, workflow_id: str) -> ReportLike:
    """The report of a finished operation.

    Raises:
        OperationUnfinished: it is under way.
        OperationClosed: it was closed from outside and left none.
        OperationError: there is no such operation.
    """
    handle = client.get_workflow_handle(workflow_id)
    try:
        description = await handle.describe(rpc_timeout=_ANSWER)
    except RPCError as error:
        raise _explained(error, workflow_id) from error
    if description.status is WorkflowExecutionStatus.RUNNING:
        raise OperationUnfinished(f"{workflow_id} is running; its report is written when it ends")
    handle = client.get_workflow_handle(workflow_id, result_type=_kind(workflow_id).load("report"))
    try:
        found: ReportLike = await handle.result(rpc_timeout=_ANSWER)
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
        return OperationError(f"no operation {workflow_id} is running; list operations with `autopilot list --all`")
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
