"""What can go wrong with a mesh, as a tree whose classes say whether trying again can help.

MeshError
├── MeshUnavailable      try again: the mesh did not answer (retryable)
├── LeaseError           do not try again with this lease
│   ├── LeaseHeld        somebody else holds the target
│   └── LeaseLost        it was ours and is no longer, or it is condemned
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


class LeaseLost(LeaseError):
    """The lease is no longer ours, or it was condemned: nothing was written."""


class InvalidChange(MeshError):
    """The change cannot be made: it names an unknown service or arm, or one without endpoints."""
