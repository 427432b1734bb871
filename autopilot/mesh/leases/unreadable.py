"""Records that this process cannot read: another version wrote them, or they are damaged.

They are read one by one, kept as they are, and named. They stop nothing that concerns another target.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pydantic import ValidationError

from autopilot.mesh.errors import TargetUnreadable, UnreadableRecord
from autopilot.mesh.model import Holder, LeasePhase, Target
from autopilot.wire import Wire

LEASE_HIDDEN = "whether its operation is alive is unknown, so no guard restores it; the proxies' deadline applies"
OVERLAY_HIDDEN = "the routes of its target stay as they are, and the proxies' deadline applies"
ORDER_HIDDEN = "what its name covers does not start"
NOTHING_STARTS = "nothing starts on its target"
_LONGEST = 200
"""Characters of a reason: a message must stay readable."""


class Unreadable(Wire):
    """One record that cannot be read here."""

    where: str
    """The file, or the object and its part."""
    why: str
    """What is wrong with it."""
    target: str = ""
    """`namespace/service`; empty where it concerns no single target, or does not say which."""
    effect: str = ""
    """What follows from it until it can be read."""


class _Held(Wire):
    target: Target
    holder: Holder


class OverlayEnvelope(Wire):
    """What must be known of an overlay to remove it: its changes need not be understood, for the base is known."""

    lease: _Held
    deadline: float
    """Seconds since the epoch."""
    phase: str = LeasePhase.ACTIVE
    """Any other than `active` can only be completed by a version that knows it."""

    @property
    def active(self) -> bool:
        """Whether going back to the base is the right end for it."""
        return self.phase == LeasePhase.ACTIVE

    def may_be_in_force(self, now: float) -> bool:
        """Whether proxies may still follow it at `now`, seconds since the epoch."""
        return not self.active or now < self.deadline


def envelope_of(text: str | bytes) -> OverlayEnvelope | None:
    """The envelope of an overlay record in JSON; None where even that cannot be read."""
    try:
        return OverlayEnvelope.model_validate_json(text)
    except ValidationError:
        return None


def why_of(error: ValidationError | OSError | ValueError) -> str:
    """What is wrong with a record, in a few words."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        said = f"{place}: {first['msg']}" if place else first["msg"]
    elif isinstance(error, UnicodeDecodeError):
        said = "it is not UTF-8"
    elif isinstance(error, IsADirectoryError):
        said = "it is a directory"
    elif isinstance(error, OSError):
        said = error.strerror or type(error).__name__
    else:
        said = str(error)
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"


def is_damaged(error: ValidationError | OSError | ValueError) -> bool:
    """Whether no version could read it: it is no JSON object at all."""
    if isinstance(error, ValidationError):
        return error.errors(include_url=False)[0]["type"] in ("json_invalid", "model_type")
    return not isinstance(error, OSError) or isinstance(error, IsADirectoryError)


@contextlib.contextmanager
def taking(target: Target) -> Iterator[None]:
    """While an operation asks for a target: what cannot be read refuses it.

    Raises:
        TargetUnreadable: with the record's place.
    """
    try:
        yield
    except UnreadableRecord as error:
        raise TargetUnreadable(f"{target} cannot be taken: {error.where}", error.why, damaged=error.damaged) from error
