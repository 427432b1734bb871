"""Orders of people and of higher priorities on a mesh, and who made a change: frozen values, stored with the mesh.

Orders are stored with the leases, not in Temporal: a halt must work when nothing else does.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from autopilot.kinds import holds, kind_of
from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.model import Target
from autopilot.operations.common import NO_REASON
from autopilot.spec.input_safety.credentials import redacted
from autopilot.spec.input_safety.invisible_characters import visible
from autopilot.wire import Wire

LONGEST_WORD = 2000
"""Maximum characters of a reason or a name that are kept: a record must stay small."""
_LOOKED_AT = 8192
"""Characters that are looked at for what must not be kept."""


def _plain(said: object) -> object:
    """Text from a person, with credentials removed, invisible characters written out, and cut to a limit.

    Done again it changes nothing: a record that is read must be the one that was sealed.
    """
    if not isinstance(said, str):
        return said
    while (kept := _once(said)) != said:
        said = kept
    return said


def _once(said: str) -> str:
    # Before it is cut: half a credential is not recognised.
    kept = visible(redacted(said[:_LOOKED_AT]))
    return kept if len(kept) <= LONGEST_WORD else kept[: LONGEST_WORD - 1] + "…"


Words = Annotated[str, BeforeValidator(_plain)]
"""Text from a person; it goes into records, logs and histories."""
SCOPE = r"^[a-z0-9-]{0,63}$"
Scope = Annotated[str, Field(pattern=SCOPE)]
"""A kind or a namespace, or nothing for all; it names a file."""


class Actor(Wire):
    """Who makes a change, why, and which safety net acts."""

    who: Words = "unknown"
    verified: bool = False
    """Whether a token proved it; otherwise it is what the caller said."""
    why: Words = ""
    net: str = "workflow"
    """`workflow`, `guard-workflow`, `guard`, `person` or `mesh` (a deadline, enforced at the next write)."""


NOBODY = Actor()
"""A caller without a name."""


class Tombstone(Wire):
    """A target that a person took back: nothing acquires it before it is handed back."""

    target: Target
    operation: str
    """Whose lease was lifted."""
    actor: Actor
    since: float
    """Seconds since the epoch."""
    until: float | None = None
    """When it hands itself back, seconds since the epoch; None: only a person does."""

    @property
    def reason(self) -> str:
        """Message for an operation that is refused."""
        why = f" ({self.actor.why})" if self.actor.why else ""
        return (
            f"{self.target} was taken over by {self.actor.who}{why}; "
            f"hand it back with `autopilot leases --hand-back {self.target.ref}`"
        )

    def stands(self, now: float) -> bool:
        """Whether it is in force."""
        return self.until is None or now < self.until


class Halt(Wire):
    """A halt: nothing starts, experiments end, rollouts hold their step or are restored."""

    kind: Scope = ""
    """Of operations it stops; all where empty."""
    namespace: Scope = ""
    """Of targets it covers; all where empty."""
    restore: bool = False
    """Whether rollouts are restored too."""
    actor: Actor
    since: float
    """Seconds since the epoch."""

    @property
    def name(self) -> str:
        """What it covers; pressing again for the same replaces it."""
        return f"{self.kind or 'all'}.{self.namespace or 'all'}"

    @property
    def reason(self) -> str:
        """Message for an operation that is stopped."""
        scope = "".join(
            f" --{name} {value}" for name, value in (("kind", self.kind), ("namespace", self.namespace)) if value
        )
        return f"halted by {self.actor.who}: {self.actor.why or NO_REASON}; `autopilot unhalt{scope}` releases the halt"

    def covers(self, operation: str, target: Target) -> bool:
        """Whether this operation on this target is stopped."""
        return self.kind in ("", kind_of(operation)) and self.namespace in ("", target.namespace)

    def ends(self, operation: str) -> bool:
        """Whether such an operation is restored at once, and not only held: all are whose kind cannot hold."""
        return self.restore or not holds(operation)


def unread_halt(name: str, error: UnreadableRecord) -> Halt | None:
    """What a halt that cannot be read counts as: nothing in its scope starts; None where its name gives no scope."""
    kind, _, namespace = name.partition(".")
    if not kind or not re.fullmatch(SCOPE, kind) or not namespace or not re.fullmatch(SCOPE, namespace):
        return None
    kind, namespace = ("" if one == "all" else one for one in (kind, namespace))
    return Halt(kind=kind, namespace=namespace, actor=_unread(error), since=0)


def unread_tombstone(target: Target, error: UnreadableRecord) -> Tombstone:
    """What a tombstone that cannot be read counts as: its target is blocked."""
    return Tombstone(target=target, operation="", actor=_unread(error), since=0)


def _unread(error: UnreadableRecord) -> Actor:
    return Actor(who="somebody", why=f"{error.where} cannot be read: {error.why}")


class LeaseOrders(Wire):
    """The answer to a renewal."""

    halted: str = ""
    """The halt that stops the holder; empty where none does."""
    yield_to: str = ""
    """The operation of a higher priority that waits for the target; empty where there is none."""
