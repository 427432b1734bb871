"""`pause`, `resume`, `abort`, `approve` and `promote`: a person's word to a running operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autopilot.operations.common import Approval, Command, Promotion
from starter.errors import CommandError
from starter.identity import caller
from starter.options import Identity, Reason, Who

if TYPE_CHECKING:
    from temporalio.client import Client


async def pause(name: Identity, reason: Reason = "", who: Who = None) -> int:
    """Hold an operation where it is: its lease is kept, the watch goes on, and harm still restores."""
    from starter import operations  # noqa: PLC0415

    client, workflow_id = await _find(name)
    return _tell(workflow_id, await operations.pause(client, workflow_id, Command(caller=caller(who), reason=reason)))


async def resume(name: Identity, reason: Reason = "", who: Who = None) -> int:
    """Let a paused operation go on."""
    from starter import operations  # noqa: PLC0415

    client, workflow_id = await _find(name)
    return _tell(workflow_id, await operations.resume(client, workflow_id, Command(caller=caller(who), reason=reason)))


async def abort(name: Identity, reason: Reason = "", who: Who = None) -> int:
    """Restore the mesh, then end the operation as Aborted; returns once the mesh is restored.

    Without --reason the report says that no reason was given.
    """
    from starter import operations  # noqa: PLC0415

    client, workflow_id = await _find(name)
    return _tell(workflow_id, await operations.abort(client, workflow_id, Command(caller=caller(who), reason=reason)))


async def approve(
    name: Identity,
    gate: Annotated[int, typer.Option("--gate", min=0, help="The step whose gate it is; 0: the one it waits at.")] = 0,
    reason: Reason = "",
    who: Who = None,
) -> int:
    """Let an operation pass the gate it waits at."""
    from starter import operations  # noqa: PLC0415

    client, workflow_id = await _find(name)
    approval = Approval(caller=caller(who), reason=reason, gate=gate)
    return _tell(workflow_id, await operations.approve(client, workflow_id, approval))


async def promote(
    name: Identity,
    full: Annotated[bool, typer.Option("--full", help="Skip every step that is left; needs --reason.")] = False,
    reason: Reason = "",
    who: Who = None,
) -> int:
    """Go past this pause; with --full, skip every step that is left."""
    from starter import operations  # noqa: PLC0415

    if full and not reason.strip():
        raise CommandError("--full skips what would protect users, and must say why", hint="add --reason '…'")
    client, workflow_id = await _find(name)
    promotion = Promotion(caller=caller(who), reason=reason, full=full)
    return _tell(workflow_id, await operations.promote(client, workflow_id, promotion))


def _tell(workflow_id: str, answer: str) -> int:
    """The operation's own answer."""
    print(f"{workflow_id}: {answer}")
    return 0


async def _find(name: str) -> tuple[Client, str]:
    from starter import operations  # noqa: PLC0415

    client = await operations.connect()
    return client, await operations.resolve(client, name)
