"""One place that turns whatever went wrong into `error: …`, `hint: …` and an exit code."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starter.client.errors import ERROR, CommandError

INTERRUPTED = 130
DEFAULT_ADDRESS = "localhost:7233"


@dataclass(frozen=True, slots=True)
class Failure:
    """What people are told, and what pipelines get."""

    message: str
    hint: str = ""
    code: int = ERROR
    expected: bool = True
    """False for a fault of ours."""

    def __str__(self) -> str:
        first, *rest = self.message.splitlines() or ["unknown"]
        lines = [f"error: {first}", *(f"       {line}" for line in rest)]
        return "\n".join([*lines, f" hint: {self.hint}"] if self.hint else lines)


def unreachable(address: str) -> CommandError:
    """Temporal did not answer."""
    return CommandError(
        f"Temporal did not answer at {address}", hint="start it with `autopilot up`, or set TEMPORAL_ADDRESS"
    )


def explain(error: BaseException) -> Failure:
    """The failure to show for any exception."""
    if isinstance(error, CommandError):
        return Failure(error.message, error.hint, error.code)
    if isinstance(error, KeyboardInterrupt):
        return Failure("interrupted", code=INTERRUPTED)
    known = _temporal(error) or _ours(error)
    if known:
        return known
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return Failure(f"{place}{error.strerror or error}", "see `autopilot doctor`")
    return Failure(
        f"unexpected {type(error).__name__}: {error}",
        "this is a bug in Mesh Autopilot: run the command again as `autopilot --debug …`, "
        "and report its output together with that of `autopilot doctor -o json`",
        expected=False,
    )


def _ours(error: BaseException) -> Failure | None:
    module = type(error).__module__
    if not module.startswith(("autopilot.", "worker.", "starter.")):
        return None
    from autopilot.mesh.errors import MeshError  # noqa: PLC0415
    from autopilot.spec.errors import SpecError  # noqa: PLC0415

    if isinstance(error, SpecError):
        many = f"{len(error.problems)} problems\n" if len(error.problems) > 1 else ""
        return Failure(f"{many}{error}", "nothing was started and nothing was written")
    if isinstance(error, MeshError):
        return _mesh(error)
    # Errors of the embedded stack, a connection, an operation or a package's kind say themselves what to do.
    itself = (
        "autopilot.local.",
        "autopilot.kinds",
        "autopilot.spec.crd.",
        "worker.temporal_client",
        "worker.codecs",
        "starter.",
    )
    return Failure(str(error)) if module.startswith(itself) else None


def _mesh(error: BaseException) -> Failure:
    from autopilot.mesh.errors import InvalidChange, LeaseHeld, LeaseLost, MeshUnavailable  # noqa: PLC0415

    match error:
        case LeaseHeld():
            return Failure(f"{error} (held by {error.holder})", f"see `autopilot get {error.holder.partition('#')[0]}`")
        case LeaseLost():
            return Failure(str(error), "nothing was written; see `autopilot leases`")
        case MeshUnavailable():
            return Failure(
                str(error), "check that the mesh and its proxies answer (`autopilot doctor`), then try again"
            )
        case InvalidChange():
            return Failure(str(error), "see `autopilot plan -f FILE`")
        case _:
            return Failure(str(error))


def _temporal(error: BaseException) -> Failure | None:
    text = str(error)
    if isinstance(error, RuntimeError) and "client connect" in text:
        found = re.search(r"\b(\[[0-9a-fA-F:]+\]:\d+|\d+\.\d+\.\d+\.\d+:\d+)", text)
        return explain(unreachable(found[1] if found else temporal_address()))
    if isinstance(error, KeyError) and "Unknown payload encoding" in text:
        return Failure(
            "Temporal's payloads are encoded with a codec that this command does not have",
            "set AUTOPILOT_CODEC to the name of the worker's codec",
        )
    return _from_temporal(error) if type(error).__module__.startswith("temporalio") else None


def _from_temporal(error: BaseException) -> Failure:
    from temporalio.client import (  # noqa: PLC0415
        RPCTimeoutOrCancelledError,
        WorkflowFailureError,
        WorkflowQueryFailedError,
        WorkflowQueryRejectedError,
        WorkflowUpdateFailedError,
    )
    from temporalio.exceptions import WorkflowAlreadyStartedError  # noqa: PLC0415
    from temporalio.service import RPCError  # noqa: PLC0415

    match error:
        case WorkflowAlreadyStartedError():
            return Failure(
                f"the target is held by {error.workflow_id}, which is still running",
                f"`autopilot watch {error.workflow_id}` follows it, `autopilot abort {error.workflow_id}` ends it",
            )
        case RPCError():
            return _rpc(error)
        case WorkflowUpdateFailedError() | WorkflowFailureError():
            cause: BaseException = error.cause
            while cause.__cause__ is not None:
                cause = cause.__cause__
            refused = isinstance(error, WorkflowUpdateFailedError)
            return Failure(f"{'refused: ' if refused else 'the operation failed: '}{cause}", "see `autopilot get ID`")
        case RPCTimeoutOrCancelledError() | WorkflowQueryFailedError() | WorkflowQueryRejectedError():
            return Failure(f"the operation did not answer: {error}", "check that a worker runs: `autopilot worker`")
        case _:
            return Failure(str(error))


def _rpc(error: BaseException) -> Failure:
    from temporalio.service import RPCError, RPCStatusCode  # noqa: PLC0415

    assert isinstance(error, RPCError)  # noqa: S101 - for the type checker
    match error.status:
        case RPCStatusCode.UNAVAILABLE:
            return explain(unreachable(temporal_address()))
        case RPCStatusCode.NOT_FOUND:
            return Failure(error.message, "list operations with `autopilot list --all`")
        case RPCStatusCode.UNAUTHENTICATED | RPCStatusCode.PERMISSION_DENIED:
            return Failure(
                f"Temporal at {temporal_address()} refused access: {error.message}",
                "set TEMPORAL_API_KEY or the TEMPORAL_TLS_* variables",
            )
        case RPCStatusCode.DEADLINE_EXCEEDED | RPCStatusCode.CANCELLED | RPCStatusCode.FAILED_PRECONDITION:
            return Failure(
                f"Temporal did not answer in time: {error.message}",
                "check that a worker runs: `autopilot worker`, or `autopilot up` for everything",
            )
        case _:
            return Failure(
                f"Temporal at {temporal_address()} returned an error: {error.message}", "see `autopilot doctor`"
            )


def temporal_address() -> str:
    """Where clients look for Temporal, from its own configuration, else the running local stack's."""
    from temporalio.envconfig import ClientConfigProfile  # noqa: PLC0415

    try:
        configured = ClientConfigProfile.load().address
    except (RuntimeError, ValueError, OSError):
        configured = None  # the profile cannot be read: whoever connects says so
    if configured:
        return configured
    from starter.client.environment import local_stack  # noqa: PLC0415

    stack = local_stack()
    return stack.temporal if stack is not None and stack.temporal else DEFAULT_ADDRESS
