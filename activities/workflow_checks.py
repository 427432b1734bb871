"""Whether an operation's workflow can still receive results, looked at in the background: callers never wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Literal

import structlog
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import PendingWorkflowTaskState, WorkflowExecutionStatus
from temporalio.api.workflow.v1 import PendingWorkflowTaskInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse
from temporalio.client import Client
from temporalio.service import RPCStatusCode

from activities.server_answers import Answer, ask

_log = structlog.get_logger()

WorkflowState = Literal["unknown", "runs", "failing", "notPolled", "closed", "gone"]
"""`unknown`: not looked at yet. `failing`: its own code fails again and again. `notPolled`: a workflow task waits, and
no worker takes it. `closed`: it has ended. `gone`: Temporal does not know it, at two looks."""

_EVERY: Final = 15.0
"""Seconds between two looks at one workflow."""
_LIMIT: Final = 2.0
"""Seconds that one look may take."""
_FORGET: Final = 600.0
"""Seconds after which a workflow that is not asked about any more is forgotten."""
_ATTEMPTS: Final = 3
"""Failed attempts of one workflow task from which the failure counts as lasting, not as a worker restart."""
_TAKEN: Final = 10.0
"""Seconds in which a workflow task is taken where workers poll: a longer wait is no restart of a worker."""
_ENDED: Final = frozenset(
    {
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT,
    }
)


@dataclass(frozen=True, slots=True)
class WorkflowCheck:
    """What the last look at a workflow found.

    Attributes:
        state: of the workflow.
        seconds: for how long it had been failing or not polled when it was looked at; else 0.
    """

    state: WorkflowState = "unknown"
    seconds: float = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing will ever receive a result."""
        return self.state in ("closed", "gone")


@dataclass(frozen=True, slots=True)
class _Seen:
    """All that is known of one workflow; times are of the monotonic clock."""

    check: WorkflowCheck = WorkflowCheck()
    asked: float = 0.0
    """When a caller last wanted to know."""
    begun: float | None = None
    """When the last look began."""
    answered: float | None = None
    """When the last look that had an answer ended."""
    task: tuple[int, int] | None = None
    """The workflow task that waits for a worker, by the time it was scheduled."""
    waits: float = 0.0
    """Since when that task is known to wait."""
    absent: bool = False
    """Whether Temporal did not know it at the last look that had an answer."""


class WorkflowChecks:
    """Remembers what was found of each workflow, and looks again at most every fifteen seconds.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def of(self, workflow_id: str, client: Client | None) -> WorkflowCheck:
        """What is known; starts a look in the background where one is due and a client is given. Never waits."""
        now = self._clock()
        seen = replace(self._seen.get(workflow_id, _Seen()), asked=now)
        due = seen.begun is None or now - seen.begun >= _EVERY
        if client is not None and due and workflow_id not in self._running:
            seen = replace(seen, begun=now)
            look = asyncio.create_task(self._look(workflow_id, client), name=f"look at workflow {workflow_id}")
            self._running[workflow_id] = look
            look.add_done_callback(lambda _: self._running.pop(workflow_id, None))
            self._seen = {key: one for key, one in self._seen.items() if now - one.asked < _FORGET}
        self._seen[workflow_id] = seen
        return seen.check

    async def settle(self) -> None:
        """Waits for the looks that are under way."""
        await asyncio.gather(*self._running.values())

    async def close(self) -> None:
        """Ends the looks that are under way."""
        checks = list(self._running.values())
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

    async def _look(self, workflow_id: str, client: Client) -> None:
        # Not `describe()` of a handle: that has the SDK retry a refused connection for ten seconds.
        call = client.workflow_service.describe_workflow_execution(
            DescribeWorkflowExecutionRequest(
                namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
            ),
            retry=False,
            timeout=timedelta(seconds=_LIMIT),
        )
        answer = await ask(call, _LIMIT + 0.5)
        before = self._seen.get(workflow_id, _Seen())
        found = self._found(before, answer)
        self._seen[workflow_id] = found
        if found.check.state != before.check.state:
            _tell(workflow_id, before.check, found.check)

    def _found(self, before: _Seen, answer: Answer[DescribeWorkflowExecutionResponse]) -> _Seen:
        if answer.status is RPCStatusCode.NOT_FOUND:  # once, it may be a server that has not read its namespaces yet
            check = WorkflowCheck("gone") if before.absent else before.check
            return replace(before, check=check, answered=self._clock(), task=None, absent=True)
        if answer.value is None:
            return before  # what was found earlier is all that is known
        before = replace(before, absent=False)
        if answer.value.workflow_execution_info.status in _ENDED:  # it may still show a task that waits
            return replace(before, check=WorkflowCheck("closed"), answered=self._clock(), task=None)
        pending = answer.value.pending_workflow_task
        if pending.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED:
            before = self._waiting(before, pending)
        else:
            before = replace(before, check=WorkflowCheck("runs"), answered=self._clock(), task=None)
        if pending.attempt < _ATTEMPTS:
            return before
        failing = max(0.0, time.time() - pending.original_scheduled_time.ToSeconds())
        return replace(before, check=WorkflowCheck("failing", failing))

    def _waiting(self, before: _Seen, pending: PendingWorkflowTaskInfo) -> _Seen:
        """A task waits for a worker.

        Any task does for an instant, and the clocks of server and worker may differ by an hour: so the wait is measured
        by our own clock, and the server's time counts only back to our last look.
        """
        now, scheduled = self._clock(), pending.scheduled_time
        task = scheduled.seconds, scheduled.nanos
        waits = before.waits
        if task != before.task:
            since_look = now - before.answered if before.answered is not None else 0.0
            waits = now - max(0.0, min(time.time() - scheduled.ToSeconds(), since_look))
        seconds = now - waits
        check = WorkflowCheck("notPolled", seconds) if seconds >= _TAKEN else WorkflowCheck("runs")
        return replace(before, check=check, answered=now, task=task, waits=waits)


def _tell(workflow_id: str, before: WorkflowCheck, now: WorkflowCheck) -> None:
    """Logs a change of state once."""
    match now.state:
        case "failing":
            _log.warning("the workflow fails again and again", workflow=workflow_id, seconds=round(now.seconds))
        case "notPolled":
            _log.warning(
                "no worker polls for the workflow; is a worker for its task queue running?",
                workflow=workflow_id,
                seconds=round(now.seconds),
            )
        case "closed" | "gone":
            _log.warning(
                "the workflow has ended" if now.state == "closed" else "Temporal does not know the workflow",
                workflow=workflow_id,
            )
        case _ if before.state != "unknown":
            _log.info("the workflow runs again", workflow=workflow_id)
