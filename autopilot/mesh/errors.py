"""What can go wrong with a mesh, as a tree whose classes say whether trying again can help.

MeshError
├── MeshUnavailable      try again: the mesh did not answer (retryable)
├── LeaseError           do not try again with this lease
│   ├── LeaseHeld        somebody else holds the target
│   │   └── LeasePending ours soon: the holder gives way, or it is our turn next (retryable)
│   └── LeaseLost        it was ours and is no longer
│       ├── Condemned    harm was found under it
│       └── TakenOver    a person or a higher priority has the target now
├── Halted               the stop button is pressed: nothing may be changed, what stands may stay
├── ClockSkew            a proxy's clock is off: its deadlines would mean another time
└── InvalidChange        the change names what is not there, or cannot be made here
"""

from __future__ import annotations


class MeshError(Exception):
    """Something about the mesh went wrong."""

    retryable = False


class MeshUnavailable(MeshError):
    """The mesh did not answer or did not take a change in time; trying again may help."""

    retryable = True


class LeaseError(MeshError):
    """A lease does not allow what was asked."""


class LeaseHeld(LeaseError):
    """Somebody else holds the target; `holder` says who."""

    def __init__(self, message: str, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class LeasePending(LeaseHeld):
    """Somebody still holds the target, and it is ours when asked for again: they give way, or we wait in turn."""

    retryable = True


class LeaseLost(LeaseError):
    """The lease is no longer ours: nothing was written."""


class Condemned(LeaseLost):
    """Harm was found under this lease: it can only be lifted."""


class TakenOver(LeaseLost):
    """A person or an operation of a higher priority has the target now: nothing was written."""


class Halted(MeshError):
    """Somebody pressed the stop button: nothing was written, and what stands may stay."""


class ClockSkew(MeshError):
    """A proxy's clock differs from ours by too much for deadlines to mean the same to both."""


class InvalidChange(MeshError):
    """The change cannot be made: it names an unknown service or arm, or one without endpoints."""
