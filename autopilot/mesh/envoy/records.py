"""What lies beside the proxies' configuration on disk: one lease record and one overlay record a holder."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from autopilot.mesh.errors import MeshError
from autopilot.mesh.model import Aspect, Change, Lease, LeasePhase, Plain

_Record = TypeVar("_Record", bound=Plain)


class LeaseRecord(Plain):
    """The sign of life of an operation. Renewing rewrites this file alone."""

    lease: Lease
    token: str
    """Which run of the operation asked; the same token asking again gets the same lease."""
    acquired: float
    renewed: float
    beats: int = 0
    condemned: str | None = None
    yield_to: str = ""
    """The operation of a higher priority that waits for the target."""
    yield_asked: float = 0.0
    """When it first asked, seconds since the epoch."""


class Overlay(Plain):
    """What one holder has laid over the base, and until when proxies may follow it."""

    lease: Lease
    changes: tuple[Change, ...]
    deadline: float
    """Seconds since the epoch."""
    phase: LeasePhase = LeasePhase.ACTIVE

    @property
    def committing(self) -> bool:
        """Whether it is becoming the base: every net rolls forward."""
        return self.phase is LeasePhase.COMMITTING

    def alive(self, now: float) -> bool:
        """Whether it is in force: a commit under way never falls back."""
        return self.committing or now < self.deadline


class Condemnation(Plain):
    """The last harm found on a target: the run that did it may not come back, though its lease is gone."""

    operation: str
    token: str
    reason: str


class Ticket(Plain):
    """One operation that waits for a target, in turn."""

    number: int
    operation: str
    aspects: tuple[Aspect, ...]
    seen: float
    """When it last asked, seconds since the epoch: who has stopped asking waits no more."""


def parse(path: Path, model: type[_Record]) -> _Record | None:
    """Reads one record; None where there is none.

    Raises:
        MeshError: the file is damaged.
    """
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise MeshError(f"{path} is damaged: {error}; remove it, and the base is restored at the next sweep") from error
