"""`pause`, `resume`, `abort`, `approve` and `promote`: a person's word to a running operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autopilot.operations.common import Approval, Command, Promotion
from starter.cli.options import Identity, Reason, Who
from starter.client.errors import CommandError
from starter.client.identity import caller

if TYPE_CHECKING:
    from temporalio.client import Client


async def pause(name: Identity, reason: Reason = "", who: Who = None) -> int:
    """Hold an operation at its current step: it keeps its lease and its watch, and harm still rolls back."""
    from starter.client import operations  # noqa: PLC0415

    client, workflow_id = await _find(name)
    return _tell(workflow_id, await operations.pause(client, workflow_id, Command(caller=caller(who), reason=reason)))


async def resume(name: Identity, reason: Reason = "", who: Who = None) -> int:
    """Continue a paused operation."""
    from starter.client import operations  # noqa: PLC0415

    client, workflow_id = await _find(name)
    return _tell(workflow_id, await operations.resume(client, workflow_id, Command(caller=caller(who), reason=reason)))


async def abort(name: Identity, reason: Reason = "", who: Who = None) -> int:
    """Restore the mesh, then end the operation as Aborted; returns once the mesh is restored.

    Without --reason the report says that no reason was given.
    """
    from starter.client import operations  # noqa: PLC0415

    client, workflow_id = await _find(name)
    return _tell(workflow_id, await operations.abort(client, workflow_id, Command(caller=caller(who), reason=reason)))


async def approve(
    name: Identity,
    gate: Annotated[int, typer.Option("--gate", min=0, help="Number of the gate's step; 0: the gate it waits at.")] = 0,
    reason: Reason = "",
    who: Who = None,
) -> int:
    """Approve the gate that an operation waits at."""
    from starter.client import operations  # noqa: PLC0415

    client, workflow_id = await _find(name)
    approval = Approval(caller=caller(who), reason=reason, gate=gate)
    return _tell(workflow_id, await operations.approve(client, workflow_id, approval))


async def promote(
    name: Identity,
    full: Annotated[bool, typer.Option("--full", help="Skip all remaining steps; needs --reason.")] = False,
    reason: Reason = "",
    who: Who = None,
) -> int:
    """Continue past a pause; with --full, skip all remaining steps."""
    from starter.client import operations  # noqa: PLC0415

    if full and not reason.strip():
        raise CommandError(
            "--full needs a reason, because it skips the checks that protect users", hint="add --reason '…'"
        )
    client, workflow_id = await _find(name)
    promotion = Promotion(caller=caller(who), reason=reason, full=full)
    return _tell(workflow_id, await operations.promote(client, workflow_id, promotion))


def _tell(workflow_id: str, answer: str) -> int:
    """The operation's own answer."""
    print(f"{workflow_id}: {answer}")
    return 0


async def _find(name: str) -> tuple[Client, str]:
    from starter.client import operations  # noqa: PLC0415

    client = await operations.connect()
    return client, await operations.resolve(client, name)
