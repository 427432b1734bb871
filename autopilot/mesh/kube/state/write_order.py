"""The order of writes, as far as objects in the cluster show it: nothing is written over what was laid later."""

from __future__ import annotations

from typing import Protocol

from autopilot.mesh.errors import LeaseLost, StaleWrite
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.json_patch import version
from autopilot.mesh.kube.client.resources import Resource
from autopilot.mesh.model import Holder, Writer


class Ordered(Protocol):
    """Whatever says who laid it, and in which of its writes."""

    @property
    def operation(self) -> str:
        """The workflow id."""
        ...

    @property
    def order(self) -> tuple[int, int]:
        """As `Writer.order`."""
        ...


def refuse_later(laid: Ordered, holder: Holder, name: str) -> None:
    """Refuses to write over what was laid later.

    Args:
        laid: what is there.
        holder: who is about to write, as the author of one of its writes.
        name: of the object.

    Raises:
        StaleWrite: a later write of the same holder laid it.
        LeaseLost: a later holder did.
    """
    mine = Writer.of(holder).order
    if laid.order <= mine:
        return
    fencing, write = laid.order
    if fencing == mine[0]:
        raise StaleWrite(
            f"write {mine[1]} of {laid.operation}#{fencing} was delayed: its write {write} is laid on {name} already"
        )
    raise LeaseLost(f"{laid.operation}#{fencing} has laid a later overlay on {name}")


def write_as_read(api: KubeApi, resource: Resource, body: Object, before: Object | None) -> Object:
    """Creates an object of ours, or changes it as it was read: a write that was delayed meets neither.

    Args:
        api: the cluster.
        resource: its kind.
        body: what is to be there.
        before: what was read; None where there was none.

    Raises:
        Conflict: somebody wrote it meanwhile.
    """
    if before is None:
        return api.create(resource, body)
    return api.apply(resource, {**body, "metadata": {**body["metadata"], "resourceVersion": version(before)}})
