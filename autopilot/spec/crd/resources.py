"""Kinds as resources of the API server: names, status, and the columns of `kubectl get`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from autopilot.kinds import kinds
from autopilot.spec.canary import MeshCanary
from autopilot.spec.chaos.experiment import MeshExperiment
from autopilot.spec.crd.status import CanaryResourceStatus, ExperimentResourceStatus, OperationStatus

Column = dict[str, Any]


def column(name: str, path: str, kind: str = "string", *, wide: bool = False) -> Column:
    """One column of `kubectl get`; a wide one is shown with `-o wide` alone."""
    return {"name": name, "type": kind, "jsonPath": path} | ({"priority": 1} if wide else {})


@dataclass(frozen=True, slots=True)
class ResourceKind:
    """A kind that the API server serves."""

    model: type[BaseModel]
    short: str
    status: type[OperationStatus] = OperationStatus
    columns: tuple[Column, ...] = ()
    """Between phase and outcome."""

    @property
    def kind(self) -> str:
        """As documents say it."""
        return self.model.__name__

    @property
    def singular(self) -> str:
        """For `kubectl get`."""
        return self.kind.lower()

    @property
    def plural(self) -> str:
        """As URLs say it."""
        word = self.singular
        return f"{word.removesuffix('y')}ies" if word.endswith("y") else f"{word}s"


CANARY: Final = ResourceKind(
    MeshCanary,
    "mc",
    CanaryResourceStatus,
    (
        column("Service", ".spec.target.service"),
        column("Canary", ".spec.arms.canary"),
        column("Weight", ".status.weight", "number"),
    ),
)
EXPERIMENT: Final = ResourceKind(
    MeshExperiment,
    "mx",
    ExperimentResourceStatus,
    (
        column("Service", ".spec.target.service"),
        column("Step", ".status.step", "integer"),
        column("Verdict", ".status.verdict"),
        column("Title", ".spec.title", wide=True),
    ),
)


def resources() -> tuple[ResourceKind, ...]:
    """Every kind that is a resource; `Mesh` is a file of its owner's."""
    return tuple(kind.load("resource") for kind in kinds() if kind.resource)
