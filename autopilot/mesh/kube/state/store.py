"""Where books, orders and audit records lie in a cluster, and how they are written by many at a time.

Everything is read, changed and written back only if nobody wrote meanwhile (the resourceVersion); who was too late
reads again. A book lies beside its service; halts and audit records lie in Autopilot's own namespace.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from autopilot.mesh.errors import MeshError, MeshUnavailable, UnreadableRecord
from autopilot.mesh.kube.client.api_errors import Conflict
from autopilot.mesh.kube.client.client import KubeApi, Object
from autopilot.mesh.kube.client.resources import CONFIG_MAP, LEASE
from autopilot.mesh.kube.state.target_object import from_object, to_object
from autopilot.mesh.kube.state.target_record import SELECTOR, OpenTargetRecord, TargetRecord, name_of
from autopilot.mesh.leases.overrides import Halt, unread_halt
from autopilot.mesh.leases.unreadable import why_of
from autopilot.mesh.model import Target

_T = TypeVar("_T")
_LIMIT = 10.0
"""Seconds that a step is tried while others write the same object."""
_HALTS = "autopilot-halts"
_FRESH = 1.0
"""Seconds that halts are remembered: a renewal must not cost a request more."""


class KubeStore:
    """What one mesh keeps in one cluster.

    Args:
        api: the cluster.
        mesh: the mesh's name.
        namespace: Autopilot's own.
        clock: monotonic seconds.
    """

    def __init__(self, api: KubeApi, mesh: str, namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.api = api
        self.mesh = mesh
        self.namespace = namespace
        self._clock = clock
        self.damaged: list[UnreadableRecord] = []
        """The books that could not be read, when all were last read."""
        self.unread_halts: list[UnreadableRecord] = []
        """The halts that could not be read, when they were last read."""
        self._halts: tuple[float, list[Halt]] = (-_FRESH, [])

    def open(self, target: Target, *, orders: bool = True) -> OpenTargetRecord:
        """The target's book as it stands; an empty one where there is none.

        Args:
            target: whose.
            orders: whether halts are looked up too. To restore nobody needs leave, and so nothing waits for them.

        Raises:
            MeshError: it cannot be read.
        """
        body = self.api.get(LEASE, name_of(target), target.namespace)
        book, version = (TargetRecord(target=target), "") if body is None else from_object(body)
        if book.target != target:
            if book.leases or book.overlays or book.unread:
                raise MeshError(
                    f"{target.ref} is held through mesh {book.target.mesh!r} of the same cluster, and this one is "
                    f"called {self.mesh!r}; end that operation first, and use one name for a cluster"
                )
            book = book.model_copy(update={"target": target})  # no lease: the next operation may name it
        return OpenTargetRecord(book, version, self.halts() if orders else [])

    def close(self, opened: OpenTargetRecord) -> None:
        """Writes it back.

        Raises:
            Conflict: somebody wrote meanwhile; nothing was written.
        """
        if not opened.changed:
            return
        written = (self.api.replace if opened.version else self.api.create)(LEASE, to_object(opened))
        opened.version = str(written["metadata"]["resourceVersion"])
        opened.read = opened.book

    def step(self, target: Target, act: Callable[[OpenTargetRecord], _T], *, orders: bool = True) -> _T:
        """One step on a book: read, change, write; again where others were faster.

        What `act` raises is raised, after what it wrote in the book before has been written: who is refused may have
        asked somebody to give way.

        Raises:
            MeshUnavailable: others kept writing.
        """

        def once() -> _T:
            opened = self.open(target, orders=orders)
            try:
                return act(opened)
            finally:
                self.close(opened)

        return self.persistently(once, f"the record of {target}")

    def persistently(self, once: Callable[[], _T], what: str) -> _T:
        """Tries again on conflicts, for a while.

        Raises:
            MeshUnavailable: the conflicts did not end.
        """
        until = self._clock() + _LIMIT
        while True:
            try:
                return once()
            except Conflict as conflict:
                if self._clock() > until:
                    raise MeshUnavailable(
                        f"other clients kept changing {what} for {_LIMIT:g} s: {conflict}; find out who writes it"
                    ) from conflict
                time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - spreads those who collide

    def books(self) -> list[TargetRecord]:
        """Every book of this mesh that can be read; `damaged` says of the others: one of them must not stop a guard."""
        found, self.damaged = [], []
        for body in self.api.list(LEASE, labels=SELECTOR):
            try:
                found.append(from_object(body)[0])
            except UnreadableRecord as error:
                self.damaged.append(error)
        return [book for book in found if book.target.mesh == self.mesh]

    # Halts

    def halts(self, *, fresh: bool = False) -> list[Halt]:
        """Every halt in force; up to a second old, unless asked for fresh."""
        read, known = self._halts
        if not fresh and self._clock() - read < _FRESH:
            return known
        return self._remember(self.api.get(CONFIG_MAP, _HALTS, self.namespace))

    def write_halt(self, halt: Halt) -> None:
        """Presses the button; what was pressed for the same scope before is replaced."""
        self._change_halts(lambda data: data.update({halt.name: halt.model_dump_json()}))

    def remove_halt(self, halt: Halt) -> None:
        """Lets the button go."""
        self._change_halts(lambda data: data.pop(halt.name, None))

    def _change_halts(self, change: Callable[[dict[str, str]], object]) -> None:
        def once() -> None:
            body = self.api.get(CONFIG_MAP, _HALTS, self.namespace)
            made = body or config_map(_HALTS, self.namespace)
            made["data"] = dict(made.get("data") or {})
            change(made["data"])
            self._remember((self.api.replace if body else self.api.create)(CONFIG_MAP, made))

        self.persistently(once, f"ConfigMap {self.namespace}/{_HALTS}")

    def _remember(self, body: Object | None) -> list[Halt]:
        found: list[Halt] = []
        self.unread_halts = []
        for name, text in sorted(((body or {}).get("data") or {}).items()):
            try:
                found.append(Halt.model_validate_json(text))
            except ValidationError as wrong:
                error = UnreadableRecord(f"ConfigMap {self.namespace}/{_HALTS}, entry {name}", why_of(wrong))
                self.unread_halts.append(error)
                found += [halt] if (halt := unread_halt(name, error)) is not None else []
        self._halts = (self._clock(), found)
        return found


def config_map(name: str, namespace: str) -> Object:
    """An empty ConfigMap of ours."""
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "autopilot"},
        },
    }
