"""`halt` and `unhalt`: the one stop button. They write to the mesh itself, and need neither Temporal nor a worker."""

from __future__ import annotations

import re
import time
from typing import Annotated

import typer

from starter.cli.options import Meshes, OutputOption, Reason, Who
from starter.client.errors import ERROR, CommandError
from starter.client.identity import actor
from starter.views.output import emit, show
from starter.views.output_format import Output

KindOption = Annotated[
    str, typer.Option("--kind", help="Only operations of this kind (canary, chaos, one of a package); default: all.")
]
NamespaceOption = Annotated[
    str, typer.Option("--namespace", "-n", help="Only targets in this namespace; default: all.")
]


async def halt(
    reason: Annotated[str, typer.Option("--reason", help="Why; shown to everyone whose operation is stopped.")] = "",
    kind: KindOption = "",
    namespace: NamespaceOption = "",
    *,
    restore: Annotated[bool, typer.Option("--restore", help="Also restore rollouts instead of holding them.")] = False,
    mesh: Meshes = None,
    who: Who = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Halt the mesh: no operation starts, experiments end and are restored, rollouts hold at their current step.

    Harm still rolls back, and abort still works. Needs only the mesh: Temporal and workers may be down.
    Without --reason the record says that no reason was given.
    """
    from autopilot.mesh.leases.overrides import Halt  # noqa: PLC0415
    from autopilot.operations.common import NO_REASON  # noqa: PLC0415
    from starter.client.preflight import at_the_proxies, open_meshes  # noqa: PLC0415

    _check(namespace, kind)
    by = actor(who, reason.strip() or NO_REASON)
    order = Halt(kind=kind, namespace=namespace, restore=restore, actor=by, since=time.time())
    told = []
    async with open_meshes(mesh) as opened:
        for each in opened:
            ended = await each.halt(order)
            held = [status for status in await each.leases() if status.halted]
            for holder, receipt in ended:
                state = await at_the_proxies(each, receipt)
                told.append({"mesh": each.name, "operation": holder.operation, "state": state})
            told += [
                {"mesh": each.name, "operation": status.lease.holder.operation, "state": "held where it is"}
                for status in held
            ]
            if not output.machine:
                show(f"{each.name}: {order.reason}")
    if output.machine:
        emit({"halt": order, "operations": told}, output)
        return 0
    for line in told:
        show(f"  {line['operation']}: {line['state']}")
    return 0


async def unhalt(
    kind: KindOption = "",
    namespace: NamespaceOption = "",
    reason: Reason = "",
    mesh: Meshes = None,
    who: Who = None,
) -> int:
    """Release the halt of this scope: held rollouts continue by themselves.

    Exit codes: 0 the halt was released, 1 there was no halt for this scope.
    """
    from starter.client.preflight import open_meshes  # noqa: PLC0415

    _check(namespace)
    by = actor(who, reason)
    found = False
    async with open_meshes(mesh) as opened:
        for each in opened:
            let_go = await each.unhalt(kind, namespace, by)
            found |= let_go
            pressed = [halt.name for halt in (await each.orders())[0]]
            rest = f"; still halted: {', '.join(pressed)}" if pressed else ""
            show(f"{each.name}: {'halt released' if let_go else 'no halt is in force for this scope'}{rest}")
    return 0 if found else ERROR


def _check(namespace: str, kind: str = "") -> None:
    from autopilot.mesh.leases.overrides import SCOPE  # noqa: PLC0415

    if not re.fullmatch(SCOPE, namespace):
        raise CommandError(f"{namespace!r} is not a namespace", hint="letters a to z, digits and dashes")
    from autopilot.kinds import BUILT_IN, kinds  # noqa: PLC0415

    known = {each.name for each in BUILT_IN} | {"security", "automation"}
    if kind and kind not in known and kind not in (known := known | {each.name for each in kinds()}):
        raise CommandError(f"there is no kind {kind!r}", hint=f"kinds: {', '.join(sorted(known))}")
