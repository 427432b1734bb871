"""Errors of a mesh, as a tree whose classes say whether a retry can help.

MeshError
├── MeshUnavailable      the mesh did not answer (retryable)
├── LeaseError           a retry with this lease cannot help
│   ├── LeaseHeld        another operation holds the target
│   │   └── LeasePending the holder gives way, or it is our turn next (retryable)
│   └── LeaseLost        the operation no longer holds the lease
│       ├── Condemned    harm was found under it
│       ├── StaleWrite   a later write of the same operation was accepted before
│       └── TakenOver    a person or a higher priority has the target now
├── UnreadableRecord     a record that this version cannot read concerns the target (retryable)
│   └── TargetUnreadable no operation can start on the target before that record is dealt with
├── Halted               a halt is in force: nothing may be changed, existing overlays may stay
├── ClockSkew            a proxy's clock is wrong: its deadlines would be at another time
└── InvalidChange        the change names something unknown, or is not supported here
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
    """Another operation holds the target: `holder`."""

    def __init__(self, message: str, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class LeasePending(LeaseHeld):
    """Another operation still holds the target; a retry gets it: the holder gives way, or we wait in turn."""

    retryable = True


class LeaseLost(LeaseError):
    """The operation no longer holds the lease: nothing was written."""


class Condemned(LeaseLost):
    """Harm was found under this lease: it can only be lifted."""


class StaleWrite(LeaseLost):
    """The attempt was delayed: a later write of the same operation was accepted before, so nothing was written."""


class TakenOver(LeaseLost):
    """A person or an operation of a higher priority has the target now: nothing was written."""


class UnreadableRecord(MeshError):
    """A record of the very target cannot be read here: nothing was written, and the record is kept as it is.

    A retry may meet a process of the version that wrote it.

    Args:
        where: the file, or the object and its part.
        why: what is wrong with it.
        damaged: whether no version could read it.
    """

    retryable = True

    def __init__(self, where: str, why: str, *, damaged: bool = False) -> None:
        super().__init__(
            f"{where} cannot be read ({why}) and is kept as it is; run the version of Mesh Autopilot that wrote it, or "
            "remove it by hand once its operation has ended (`autopilot leases` lists such records)"
        )
        self.where = where
        self.why = why
        self.damaged = damaged


class TargetUnreadable(UnreadableRecord):
    """No operation can start on the target: a record of it cannot be read, and may be of a live lease."""

    retryable = False


class Halted(MeshError):
    """A halt is in force: nothing was written, and existing overlays may stay."""


class ClockSkew(MeshError):
    """A proxy's clock differs from ours by too much for deadlines to mean the same to both."""


class InvalidChange(MeshError):
    """The change cannot be made: it names an unknown service or arm, or one without endpoints."""
