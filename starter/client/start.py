"""Starting operations, for any program to do: the part that needs workflow classes and specifications.

`starter.client.operations` has what commands a running operation, and stays light.
"""

from __future__ import annotations

from datetime import timedelta

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

from autopilot.operations.bounds import SPEC
from autopilot.operations.task_queues import operation_queue, restore_queue, watch_queue
from autopilot.reports.canary import CanaryInput, CanaryReport
from autopilot.reports.experiment import ExperimentInput, ExperimentReport
from autopilot.spec.canary import CanarySpec
from autopilot.spec.chaos.experiment import ExperimentSpec
from starter.client.operations import KIND, MESH, TARGET, OperationError
from workflows.canary.workflow import CanaryWorkflow
from workflows.chaos.workflow import ChaosWorkflow

_ANSWER = timedelta(seconds=10)


class OperationRunning(OperationError):
    """An operation of that name runs already; `workflow_id` is the holder."""

    def __init__(self, message: str, workflow_id: str) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id


async def start_canary(client: Client, canary: CanaryInput) -> WorkflowHandle[CanaryWorkflow, CanaryReport]:
    """Starts a rollout; returns at once.

    Raises:
        OperationError: its specification is too large.
        OperationRunning: one of that name is under way.
    """
    refuse_large(canary.spec)
    target = f"{canary.namespace}/{canary.spec.target.service}"
    arms = canary.spec.arms
    try:
        return await client.start_workflow(
            CanaryWorkflow.run,
            canary,
            id=canary.workflow_id,
            task_queue=operation_queue(canary.mesh),
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
        OperationError: its specification is too large.
        OperationRunning: one of that name is under way.
    """
    refuse_large(experiment.spec)
    target = f"{experiment.namespace}/{experiment.spec.target.service}"
    said = experiment.spec.title or experiment.spec.hypothesis.title
    try:
        return await client.start_workflow(
            ChaosWorkflow.run,
            experiment,
            id=experiment.workflow_id,
            task_queue=operation_queue(experiment.mesh),
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            search_attributes=_attributes("MeshExperiment", target, experiment.mesh),
            static_summary=f"{target}: {said}" if said else target,
        )
    except WorkflowAlreadyStartedError as error:
        raise _running(experiment.workflow_id) from error


def refuse_large(spec: CanarySpec | ExperimentSpec) -> None:
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


def _attributes(kind: str, target: str, mesh: str) -> TypedSearchAttributes:
    pairs = ((KIND, kind), (TARGET, target), (MESH, mesh))
    return TypedSearchAttributes([SearchAttributePair(key, value) for key, value in pairs])


def _running(workflow_id: str) -> OperationRunning:
    return OperationRunning(
        f"{workflow_id} is already running: follow it with `autopilot watch {workflow_id}`, "
        f"or end it with `autopilot abort {workflow_id}`",
        workflow_id,
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
