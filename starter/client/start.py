"""Starting operations, for any program to do: the part that needs workflow classes and specifications.

`starter.client.operations` has what commands a running operation, and stays light.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError

from autopilot.kinds import of_operation
from autopilot.operations.bounds import SPEC
from autopilot.operations.common import InputLike
from autopilot.operations.task_queues import operation_queue, restore_queue, watch_queue
from starter.client.operations import KIND, MESH, TARGET, OperationError

_ANSWER = timedelta(seconds=10)


class OperationRunning(OperationError):
    """An operation of that name runs already; `workflow_id` is the holder."""

    def __init__(self, message: str, workflow_id: str) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id


async def start_operation(client: Client, given: InputLike) -> WorkflowHandle[Any, Any]:
    """Starts an operation of the kind that its id names; returns at once.

    Raises:
        OperationError: its specification is too large, or its kind is not known.
        OperationRunning: one of that name is under way.
    """
    kind = of_operation(given.workflow_id)
    if kind is None:
        raise OperationError(f"{given.workflow_id} is of no kind that is installed here")
    refuse_large(given.spec)
    attributes = (
        (KIND, kind.document),
        (TARGET, f"{given.namespace}/{given.spec.target.service}"),
        (MESH, given.mesh),
    )
    try:
        return await client.start_workflow(
            kind.load("workflow").run,
            given,
            id=given.workflow_id,
            task_queue=operation_queue(given.mesh),
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            search_attributes=TypedSearchAttributes([SearchAttributePair(*pair) for pair in attributes]),
            static_summary=given.summary,
        )
    except WorkflowAlreadyStartedError as error:
        raise OperationRunning(
            f"{given.workflow_id} is already running: follow it with `autopilot watch {given.workflow_id}`, "
            f"or end it with `autopilot abort {given.workflow_id}`",
            given.workflow_id,
        ) from error


def refuse_large(spec: BaseModel) -> None:
    """Refuses a specification that, as part of each report, would make reports too large for Temporal.

    Raises:
        OperationError: it is.
    """
    size = len(spec.model_dump_json().encode())
    if size > SPEC:
        raise OperationError(
            f"the specification has {size:,} bytes as JSON, and at most {SPEC:,} are supported: "
            "use fewer or shorter probes, or split it"
        )


async def workers(client: Client, mesh: str) -> dict[str, int]:
    """Task queue of a mesh → how many workers asked it for work lately; none means that nothing will happen."""
    found = {}
    for queue, kind in (
        (operation_queue(mesh), TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
        (restore_queue(mesh), TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
        (watch_queue(mesh), TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
    ):
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
            ),
            timeout=_ANSWER,
        )
        found[queue] = len(answer.pollers)
    return found
