"""`autopilot leases`: who holds what in a mesh, and a person's hand on it; needs no Temporal."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from autopilot.mesh.model import LeaseStatus, Target
from autopilot.spec.mesh import TARGET_REF
from autopilot.spec.values.units import format_seconds
from starter.cli.options import MeshOption, OutputOption, Reason, Who, duration
from starter.client.errors import ERROR, CommandError
from starter.client.identity import actor
from starter.views.output import emit, note, show, table
from starter.views.output_format import Output

if TYPE_CHECKING:
    from autopilot.mesh.leases.overrides import Actor, Halt, Tombstone
    from autopilot.mesh.port import Mesh


async def leases(
    *,
    lift: Annotated[
        str, typer.Option("--lift", metavar="ID", help="Restore its target and block it until --hand-back.")
    ] = "",
    hand_back: Annotated[
        str, typer.Option("--hand-back", metavar="NAMESPACE/SERVICE", help="Allow operations on this target again.")
    ] = "",
    until: Annotated[
        float | None,
        typer.Option(
            "--until", parser=duration, metavar="DURATION", help="with --lift: hand the target back after this time."
        ),
    ] = None,
    reason: Reason = "",
    who: Who = None,
    mesh: MeshOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Show every lease on this mesh, who restores it, and when its overlay expires without renewal.

    With --lift, take a target back by hand: it is restored, its operation ends TakenOver, and nothing acquires it
    before --hand-back. Needs neither Temporal nor a worker.
    """
    from starter.client import preflight  # noqa: PLC0415

    if lift and hand_back:
        raise CommandError("--lift and --hand-back exclude each other", hint="use one of them")
    async with preflight.open_mesh(mesh) as opened:
        if lift:
            return await _lift(opened, lift, until, actor(who, reason), output)
        if hand_back:
            return await _hand_back(opened, hand_back, actor(who, reason))
        name, found = opened.name, await opened.leases()
        halts, stones = await opened.orders()
        unreadable = await opened.unreadable()
    stones = [stone for stone in stones if stone.stands(time.time())]
    if output.machine:
        emit({"mesh": name, "leases": found, "halts": halts, "taken_over": stones, "unreadable": unreadable}, output)
        return 0
    _orders(halts, stones)
    for one in unreadable:
        show(Text(f"cannot be read: {one.where}: {one.why}; {one.effect}", "bold red"))
    if unreadable:
        note("run the version of Mesh Autopilot that wrote these, or remove them once their operations have ended")
    if not found and not unreadable:
        note(f"no lease is held on {name}: the mesh has its base configuration")
        return 0
    if not found:
        return 0
    columns = ["target", "holder", "aspects", "phase", "tier", "expires in", "state"]
    wide = output is Output.WIDE
    columns += ["changes", "time to live", "renewed"] if wide else []
    show(table(columns, [_row(each, wide=wide) for each in found]))
    return 0


async def _lift(mesh: Mesh, operation: str, until: float | None, by: Actor, output: Output) -> int:
    from starter.client.preflight import at_the_proxies  # noqa: PLC0415

    holders = {status.lease.holder.operation for status in await mesh.leases()}
    matching = [holder for holder in sorted(holders) if holder == operation or holder.endswith(f"/{operation}")]
    if len(matching) != 1:
        known = ", ".join(sorted(holders)) or "no operation"
        raise CommandError(
            f"{operation!r} means {', '.join(matching) or 'no lease holder on this mesh'}", hint=f"held by {known}"
        )
    receipts = await mesh.take_over(matching[0], by, None if until is None else time.time() + until)
    states = [await at_the_proxies(mesh, receipt) for receipt in receipts]
    if output.machine:
        told = {str(receipt.target): state for receipt, state in zip(receipts, states, strict=True)}
        emit({"operation": matching[0], "targets": told}, output)
        return 0
    for receipt, state in zip(receipts, states, strict=True):
        show(f"{receipt.target}: {state}; {matching[0]} ends TakenOver")
        note(f"nothing acquires it before `autopilot leases --hand-back {receipt.target.ref}`")
    return 0


async def _hand_back(mesh: Mesh, ref: str, by: Actor) -> int:
    namespace, _, service = ref.partition("/")
    if not re.fullmatch(TARGET_REF, ref):
        raise CommandError(
            f"{ref!r} is not NAMESPACE/SERVICE", hint="`autopilot leases` lists the targets that were taken over"
        )
    if await mesh.hand_back(Target(mesh=mesh.name, namespace=namespace, service=service), by):
        show(f"operations may use {ref} again")
        return 0
    note(f"{ref} was not taken over")
    return ERROR


def _orders(halts: list[Halt], stones: list[Tombstone]) -> None:
    for line in (*(halt.reason for halt in halts), *(stone.reason for stone in stones)):
        show(Text(line, "bold yellow"))


def _row(value: LeaseStatus, *, wide: bool) -> list[str | Text]:
    now = time.time()
    left = "-" if value.deadline is None else format_seconds(max(0, round(value.deadline - now)))
    state = _state(value)
    holder, aspects = str(value.lease.holder), ", ".join(value.lease.aspects)
    cells: list[str | Text] = [value.lease.target.ref, holder, aspects, value.phase, value.tier, left, state]
    if wide:
        changes = "; ".join(change.words for change in value.changes)
        ttl, renewed = format_seconds(value.lease.ttl), format_seconds(max(0, round(now - value.renewed)))
        cells += [changes or "-", ttl, f"{renewed} ago"]
    return cells


def _state(value: LeaseStatus) -> Text:
    if value.condemned:
        return Text(f"condemned: {value.condemned}", "red")
    if value.yield_to:
        return Text(f"gives way to {value.yield_to}", "yellow")
    return Text("halted", "yellow") if value.halted else Text("held", "green")
