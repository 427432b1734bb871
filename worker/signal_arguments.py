"""Signals take one argument at most: of one that says more, the rest is left out.

Without this a handler would fail, and with it every later task of its workflow: no abort would be heard any more.
"""

from __future__ import annotations

from temporalio.worker import (
    HandleSignalInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)


class FirstArgumentOnly(Interceptor):
    """Hands each signal of a workflow its first argument."""

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002, ARG002 - as the SDK names it
    ) -> type[WorkflowInboundInterceptor]:
        """The interceptor of the signals of one workflow."""
        return _Inbound


class _Inbound(WorkflowInboundInterceptor):
    async def handle_signal(self, input: HandleSignalInput) -> None:  # noqa: A002 - as the SDK names it
        input.args = input.args[:1]
        await super().handle_signal(input)
