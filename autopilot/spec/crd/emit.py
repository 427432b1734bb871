"""CustomResourceDefinitions of every kind that is a resource, made from the models that files are read with.

The schema accepts what the loader accepts, and refuses early what it can; what it has no words for, the loader's own
checks find when the resource is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from autopilot.spec.base import API_VERSION
from autopilot.spec.canary import MeshCanary
from autopilot.spec.chaos.experiment import MeshExperiment
from autopilot.spec.crd.mixed_values import RULES as VALIDATIONS
from autopilot.spec.crd.rules import RULES, SOME
from autopilot.spec.crd.status import CanaryResourceStatus, ExperimentResourceStatus, OperationStatus
from autopilot.spec.crd.structural_schema import Rule, structural

CATEGORY: Final = "autopilot"
GROUP, _, VERSION = API_VERSION.partition("/")
Column = dict[str, Any]


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False) -> Column:
    return {"name": name, "type": kind, "jsonPath": path} | ({"priority": 1} if wide else {})


PHASE = _column("Phase", ".status.phase")
OUTCOME = _column("Outcome", ".status.outcome")
MESSAGE = _column("Message", ".status.message", wide=True)
AGE = _column("Age", ".metadata.creationTimestamp", "date")


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


RESOURCES: Final = (
    ResourceKind(
        MeshCanary,
        "mc",
        CanaryResourceStatus,
        (
            _column("Service", ".spec.target.service"),
            _column("Canary", ".spec.arms.canary"),
            _column("Weight", ".status.weight", "number"),
        ),
    ),
    ResourceKind(
        MeshExperiment,
        "mx",
        ExperimentResourceStatus,
        (
            _column("Service", ".spec.target.service"),
            _column("Step", ".status.step", "integer"),
            _column("Verdict", ".status.verdict"),
            _column("Title", ".spec.title", wide=True),
        ),
    ),
)
"""Every kind that is a resource; `Mesh` is a file of its owner's."""


_NAMED: Final[Rule] = {
    "rule": "size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')",
    "message": "metadata.name: lower-case letters, digits and dashes, at most 63",
}


def crd(resource: ResourceKind) -> dict[str, Any]:
    """The CustomResourceDefinition, as JSON."""
    spec: Any = resource.model.model_fields["spec"].annotation
    root = {
        "description": " ".join((resource.model.__doc__ or "").split()),
        "type": "object",
        "required": ["spec"],
        "properties": {"spec": structural(spec, RULES, SOME), "status": _status(resource.status)},
        VALIDATIONS: [dict(_NAMED)],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.singular,
                "shortNames": [resource.short],
                "categories": [CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [PHASE, *resource.columns, OUTCOME, MESSAGE, AGE],
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


def _status(model: type[OperationStatus]) -> dict[str, Any]:
    found = structural(model, {})
    found["properties"]["conditions"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    return found
