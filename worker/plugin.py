"""One plugin configures client, worker, replayer and test environments alike, so that they cannot drift apart."""

from __future__ import annotations

import dataclasses

import pydantic
from temporalio.plugin import SimplePlugin
from temporalio.worker import WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.error_mapping import ErrorInterceptor
from autopilot.kinds import kinds
from worker.converter import keeping_codec
from worker.signal_arguments import FirstArgumentOnly
from workflows.chaos.scheduled_run import ScheduledRun
from workflows.operation.guard import GuardWorkflow


def all_workflows() -> list[type]:
    """Those of every kind, and those that all share: for the worker of the workflow queue and for replayers.

    They are not part of the plugin, which would give them to every worker.
    """
    return [*(kind.load("workflow") for kind in kinds()), GuardWorkflow, ScheduledRun]


_PASSED_THROUGH = (
    "autopilot",
    "activities.contracts",
    "numpy",
    "scipy",
)
"""Modules without I/O on import: loaded once per process instead of once per workflow."""


class AutopilotPlugin(SimplePlugin):
    """Pydantic on the wire, typed failures, and our core passed through the sandbox."""

    def __init__(self) -> None:
        super().__init__(
            "meshautopilot.io",
            data_converter=keeping_codec,
            interceptors=[ErrorInterceptor(), FirstArgumentOnly()],
            workflow_runner=_pass_through,
            # A payload that cannot be read fails its workflow; any other bug parks it until a fix is deployed.
            workflow_failure_exception_types=[pydantic.ValidationError],
        )


def _pass_through(existing: WorkflowRunner | None) -> WorkflowRunner:
    runner = existing or SandboxedWorkflowRunner()
    if not isinstance(runner, SandboxedWorkflowRunner):
        return runner
    return dataclasses.replace(runner, restrictions=runner.restrictions.with_passthrough_modules(*_PASSED_THROUGH))
